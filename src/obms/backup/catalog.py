"""The catalogue: it is the manifests that lie beside the images, read anew each time."""

import re
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import MAXYEAR, UTC, datetime, timedelta
from functools import partial
from typing import Literal

from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest, Signature, Verdict
from obms.backup.pins import PIN_END, Pin, read_pin
from obms.backup.storage import Storage
from obms.backup.trust import NOTHING_MORE, Accepted, refusal
from obms.errors import BackupDamaged, BackupNotFound, Unreadable

PREFIXES = {"sqlite": "sqlite_backup_", "postgresql": "postgres_backup_"}
ENDINGS = {"sqlite": ".db", "postgresql": ".sql"}
STAMP = "%Y-%m-%d_%H-%M-%S"
# The form counts up when an image is encrypted anew: old and new stand side by side for a moment.
IMAGE = re.compile(
    r"(?P<id>(?P<prefix>sqlite|postgres)_backup_(?P<stamp>[\d_-]+))(\.(?P<form>\d{1,9}))?"
    r"\.(db|sql)(\.gz)?(\.age)?"
)
KINDS = {"sqlite": "sqlite", "postgres": "postgresql"}

SECOND = timedelta(seconds=1)

Place = tuple[str, str, int, str]  # the stamp, the id, the form, the file
State = Literal["proven", "unproven", "bad", "damaged", "orphan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup as the files tell it. Without a manifest it is an orphan, or damaged, and never counts.

    `trusted` is the public key whose signed verdicts are believed. `stored` is the size of its image,
    None where that is missing.
    """

    id: str
    file: str
    database: str
    created_at: datetime | None
    manifest: Manifest | None = None
    verdict: Verdict | None = None
    problem: str | None = None
    trusted: str | None = None
    pin: Pin | None = None
    stored: int | None = None

    @property
    def state(self) -> State:
        if self.manifest is None:
            return "damaged" if self.problem else "orphan"
        if self.problem:
            return "damaged"
        if self.verdict is None or self.verdict.outcome == "unknown":
            return "unproven"
        if self.verdict.outcome == "bad":
            return "bad"
        return "proven" if self.verdict.proven and self._signature_of(self.verdict) == "ours" else "unproven"

    @property
    def proven(self) -> bool:
        return self.state == "proven"

    @property
    def signature(self) -> Signature | None:
        """Whose signature the manifest bears; None where there is no whole one."""
        return self._signature_of(self.manifest) if self.manifest else None

    @property
    def ours(self) -> bool:
        """Whether it is shown to be made by this server: what is not is never removed."""
        return self.signature == "ours"

    @property
    def place(self) -> Place:
        """Where it stands in the order in which they were made, whatever the clock did."""
        return _stamp(self.file)

    @property
    def pin_name(self) -> str:
        return pin_name_of(self.file)

    @property
    def named_at(self) -> datetime | None:
        """The time in its name, which may be later than the clock's: names never go back."""
        return _time_of(self.place[0])

    def counts_as_proven(self, accepted: Accepted) -> bool:
        """Whether it is proven, if what its manifest's signer says in a verdict is accepted too."""
        if self.proven or self.manifest is None or self.verdict is None or self.problem:
            return self.proven
        same = self.verdict.signed_by == self.manifest.signed_by
        return self.verdict.proven and same and accepted.accepts(self._signature_of(self.manifest))

    def _signature_of(self, document: Manifest | Verdict) -> Signature:
        return document.signature_seen_by(self.trusted)


def read_catalog(storage: Storage, trusted: str | None) -> Iterator[Backup]:
    """Every backup, newest first, read as it is asked for; what is damaged or lacks its manifest is named.

    Of a storage that is far away, some are read ahead.
    Only verdicts signed with the `trusted` key make a backup proven; with None there is no such key.
    """
    sizes = storage.sizes()
    images = {name for name in sizes if IMAGE.fullmatch(name)}
    images |= {name.removesuffix(MANIFEST_END) for name in sizes if _is_manifest(name)}
    newest_first = sorted(images, key=_stamp, reverse=True)
    for backup in _read_ahead(partial(_listed, storage, sizes), newest_first, storage.at_once):
        if backup is not None:
            yield replace(backup, trusted=trusted)


def _read_ahead(
    read: Callable[[str], Backup | None], names: Iterable[str], at_once: int
) -> Iterator[Backup | None]:
    """What `read` gives for each name, in their order, while so many are being read."""
    if at_once == 1:
        yield from map(read, names)
        return
    pool = ThreadPoolExecutor(at_once)
    begun: deque[Future[Backup | None]] = deque()
    try:
        for name in names:
            begun.append(pool.submit(read, name))
            if len(begun) == at_once:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:  # what was asked for in vain is not waited for
        pool.shutdown(wait=False, cancel_futures=True)


def _listed(storage: Storage, sizes: Mapping[str, int], name: str) -> Backup | None:
    """The backup as the catalogue has it; None where it was removed since the names were read."""
    try:
        return _read_backup(storage, name, sizes)
    except BackupNotFound:
        return None
    except Unreadable as error:  # one that cannot be read hides no other
        return replace(_unread(name), problem=str(error))


def oldest(storage: Storage, trusted: str | None) -> Backup | None:
    """The one that was made first, whosever it is, without reading the others: names never go back."""
    sizes = storage.sizes()
    first = min((name for name in sizes if IMAGE.fullmatch(name)), key=_stamp, default=None)
    return None if first is None else replace(_read_backup(storage, first, sizes), trusted=trusted)


def next_older(
    storage: Storage, trusted: str | None, file: str | None, passed_over: Container[str]
) -> Backup | None:
    """The last one that was made before this file, or else the newest of all, but those passed over."""
    sizes = storage.sizes()
    images = sorted((name for name in sizes if IMAGE.fullmatch(name) and name not in passed_over), key=_stamp)
    turn = _stamp(file) if file and IMAGE.fullmatch(file) else None
    older = [image for image in images if turn is not None and _stamp(image) < turn]
    following = next(iter([*older[-1:], *images[-1:]]), None)
    backup = _listed(storage, sizes, following) if following else None
    return replace(backup, trusted=trusted) if backup else None


def _stamp(file: str) -> Place:
    match = IMAGE.fullmatch(file)
    assert match is not None
    return match["stamp"], match["id"], int(match["form"] or 0), file


def id_of(file: str) -> str:
    match = IMAGE.fullmatch(file)
    assert match is not None
    return match["id"]


def pin_name_of(file: str) -> str:
    """By id, not by file: a pin stays when the image is coded anew under another ending."""
    return id_of(file) + PIN_END


def _is_manifest(name: str) -> bool:
    return (
        name.endswith(MANIFEST_END)
        and not name.endswith(VERDICT_END)
        and IMAGE.fullmatch(name.removesuffix(MANIFEST_END)) is not None
    )


def _unread(file: str) -> Backup:
    """What the name alone tells."""
    match = IMAGE.fullmatch(file)
    assert match is not None
    return Backup(
        id=match["id"],
        file=file,
        database=KINDS[match["prefix"]],
        created_at=_time_of(match["stamp"]),
    )


def _read_backup(storage: Storage, file: str, sizes: Mapping[str, int]) -> Backup:
    pin = read_pin(storage, pin_name_of(file)) if pin_name_of(file) in sizes else None
    plain = replace(_unread(file), pin=pin, stored=sizes.get(file))
    if file + MANIFEST_END not in sizes:
        return plain
    try:
        manifest = read_manifest(storage, file)
    except BackupDamaged as error:
        return replace(plain, problem=str(error))
    return replace(
        plain,
        id=manifest.id,
        created_at=manifest.started_at,
        manifest=manifest,
        verdict=read_verdict(storage, manifest) if file + VERDICT_END in sizes else None,
        problem=_problem_of_image(manifest, sizes.get(file)),
    )


def _problem_of_image(manifest: Manifest, stored: int | None) -> str | None:
    """What the size tells without reading it: a copy that broke off must not be taken for the backup."""
    if stored is None:
        return "its image is missing"
    return None if stored == manifest.bytes else f"its image has {stored} of {manifest.bytes} bytes"


def _time_of(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None


def read_manifest(storage: Storage, file: str) -> Manifest:
    """The manifest of an image; BackupDamaged when it was changed or belongs to another image."""
    manifest = Manifest.from_bytes(file + MANIFEST_END, b"".join(storage.get(file + MANIFEST_END)))
    if manifest.file != file:
        raise BackupDamaged(name=file, detail=f"its manifest is that of {manifest.file}")
    return manifest


def read_verdict(storage: Storage, manifest: Manifest) -> Verdict | None:
    """The verdict about this very manifest; one that is damaged or about another is none."""
    name = manifest.file + VERDICT_END
    try:
        verdict = Verdict.from_bytes(name, b"".join(storage.get(name)))
    except (BackupDamaged, BackupNotFound):
        return None
    return verdict if verdict.manifest == manifest.fingerprint else None


def find(storage: Storage, name: str, trusted: str | None, *, accepted: Accepted = NOTHING_MORE) -> Backup:
    """The backup of this id or file name, or the newest proven one for `latest`; else BackupNotFound."""
    catalog = read_catalog(storage, trusted)
    if name == "latest":
        return _latest(catalog, accepted)
    found = next((backup for backup in catalog if name in (backup.id, backup.file)), None)
    if found is None:
        raise BackupNotFound(name=name)
    return found


def _latest(catalog: Iterable[Backup], accepted: Accepted) -> Backup:
    """The newest proven one; where none is, the newest of those that another key's holder calls proven."""
    passed = []
    for backup in catalog:
        if backup.proven:
            return backup
        passed.append(backup)
    if not passed:
        raise BackupNotFound(name="latest")
    for allowed in (accepted, Accepted(not_signed=True, other_key=True)):
        claimed = next((backup for backup in passed if backup.counts_as_proven(allowed)), None)
        if claimed is not None and allowed is accepted:
            return claimed
    if claimed is not None and claimed.signature is not None:
        raise refusal(claimed.file, claimed.signature)
    hint = f"None of {len(passed)} is proven. `obms backup verify {passed[0].id}` judges the newest."
    raise BackupNotFound(name="latest", hint=hint)


def marked(names: Iterable[str], end: str) -> Iterator[tuple[str, str]]:
    """The marks of this ending, each with the image it is about; what is about another file is not ours."""
    for mark in names:
        file = mark.removeprefix(".").removesuffix(end)
        if mark == f".{file}{end}" and IMAGE.fullmatch(file):
            yield mark, file


def free_name(storage: Storage, kind: str, now: datetime, ending: str) -> tuple[str, str]:
    """The id and the file name of a new backup: of this second, or of the first one after the newest.

    So names never collide, and their order is that in which they were made, whatever the clock does.
    """
    stamps = (IMAGE.match(other) for other in storage.names())
    taken = {found for match in stamps if match and (found := _time_of(match["stamp"]))}
    # Nothing comes after the end of the calendar: a name that leads there is passed over.
    after = {time + SECOND for time in taken if time.year < MAXYEAR}
    moment = max({now.replace(microsecond=0)} | {time for time in after if time.year < MAXYEAR})
    while moment in taken:
        moment += SECOND
    name = f"{PREFIXES[kind]}{moment.astimezone(UTC).strftime(STAMP)}"
    return name, f"{name}{ENDINGS[kind]}{ending}"


def next_name(file: str, ending: str) -> str:
    """The file of this backup's next form, when it is encrypted anew."""
    match = IMAGE.fullmatch(file)
    assert match is not None
    return f"{match['id']}.{int(match['form'] or 0) + 1}{ENDINGS[KINDS[match['prefix']]]}{ending}"
