"""Proving a backup: it is restored into a scratch database and judged there."""

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from obms import private
from obms.backup import Backups
from obms.backup.across import Image, load
from obms.backup.catalog import read_verdict
from obms.backup.create import Meter
from obms.backup.manifest import LEVELS, VERDICT_END, Check, Level, Manifest, Outcome, Verdict
from obms.backup.storage import write_all
from obms.backup.trust import NOTHING_MORE, Accepted, check_signature, refusal
from obms.databases import Chunks, Database, Facts, digests
from obms.databases.interruptions import is_interruption, noting_interruptions
from obms.errors import (
    BackupDamaged,
    BackupNotFound,
    DatabaseUnreachable,
    IdentityMissing,
    ObmsError,
    SchemaTooNew,
    StorageFailed,
)
from obms.figures import size
from obms.observe import Event

SPOOL_PREFIX = "spool-"


def prove(
    backups: Backups,
    manifest: Manifest,
    *,
    level: Level = "proven",
    accepted: Accepted = NOTHING_MORE,
    must_keep: bool = True,
) -> Verdict:
    """Judge a backup up to `level`, and keep the verdict beside it. Every failure is in the verdict.

    But IdentityMissing, and no verdict, for an image that no key at hand opens; and StorageFailed where
    the verdict cannot be kept, unless it need not be: then its last check tells.
    A proof stands, where its bytes are intact, against a judgement that went less far or could not be made.
    """
    kept = read_verdict(backups.storage, manifest)
    believed = kept is not None and kept.signature_seen_by(backups.trusted) == "ours"
    vouched = believed and kept is not None and kept.proven
    signature = check_signature(manifest, backups.trusted, vouched=vouched, accepted=accepted)
    checks: list[Check] = []
    digest: dict[str, str] = {}
    outcome, hint = _look(backups, manifest, level, checks, digest)
    if outcome == "good" and not signature.ok:
        # What the bytes are was judged by a manifest that anybody may have written.
        outcome, hint = "unknown", refusal(manifest.file, manifest.signature_seen_by(backups.trusted)).hint
    reached = _reached(checks, level)
    if reached == "proven" and not signature.ok:
        reached = "restorable"
    checks.append(signature)
    verdict = Verdict(
        id=manifest.id,
        manifest=manifest.fingerprint,
        outcome=outcome,
        level=reached,
        wanted=level,
        judged_at=backups.clock(),
        checks=tuple(checks),
        hint=hint,
        digests=digest,
    ).signed(backups.signer)
    if not _stands(kept, verdict, believed=believed):
        verdict = _keep(backups, manifest, verdict, must_keep=must_keep)
    facts: dict[str, object] = {"id": manifest.id, "outcome": outcome, "reached": verdict.level}
    if failure := verdict.failure():
        facts |= {"error": str(failure), "hint": failure.hint, "exit_code": failure.exit_code}
    backups.notify(Event(name="backup.judged", ok=verdict.ok, facts=facts))
    return verdict


def _look(
    backups: Backups, manifest: Manifest, level: Level, checks: list[Check], digest: dict[str, str]
) -> tuple[Outcome, str]:
    """Make the checks; the outcome of them, and what to do about it."""
    outcome: Outcome = "good"
    hint = ""
    try:
        with spool_folder(backups.work) as folder:
            _judge(backups, manifest, level, folder, checks, digest)
    except SQLAlchemyError as error:
        outcome = "unknown" if is_interruption(error) else "bad"
        checks.append(Check(name=type(error).__name__, ok=False, detail=str(error).splitlines()[0]))
    except IdentityMissing:
        raise  # nothing was found out
    except ObmsError as error:
        bad = isinstance(error, BackupDamaged | BackupNotFound) and not isinstance(error, SchemaTooNew)
        outcome, hint = "bad" if bad else "unknown", error.hint
        checks.append(Check(name=type(error).__name__, ok=False, detail=str(error)))
    if outcome == "good" and not all(check.ok for check in checks):
        outcome = "bad"
    return outcome, hint


def _keep(backups: Backups, manifest: Manifest, verdict: Verdict, *, must_keep: bool) -> Verdict:
    try:
        backups.storage.put(manifest.file + VERDICT_END, iter((verdict.to_bytes(),)))
    except StorageFailed as error:
        if must_keep:
            raise
        unkept = Check(name="kept", ok=False, detail=f"this verdict could not be kept: {error}")
        return replace(verdict, checks=(*verdict.checks, unkept))
    return verdict


def _stands(kept: Verdict | None, verdict: Verdict, *, believed: bool) -> bool:
    """Whether the kept verdict tells more than the new one, which says nothing against it."""
    if kept is None or not kept.ok or verdict.outcome == "bad" or verdict.level is None:
        return False
    return verdict.outcome == "unknown" or (believed and _rank(verdict) < _rank(kept))


def _rank(verdict: Verdict) -> int:
    return LEVELS.index(verdict.level) if verdict.level else -1


def _judge(
    backups: Backups,
    manifest: Manifest,
    level: Level,
    folder: Path,
    checks: list[Check],
    digest: dict[str, str],
) -> None:
    """Append the checks of each level in turn, until one says no."""
    image = folder / "image" if level != "intact" else None
    checks += spool(backups, manifest, image)
    if image is None or not all(check.ok for check in checks):
        return
    with backups.database.scratch() as scratch:
        loaded = load(backups, scratch, Image.of(manifest, image))
        checks.append(loaded.check)
        with ThreadPoolExecutor(2) as beside:
            # The database's own checks take the longest: the others are made meanwhile.
            integrity = beside.submit(check_integrity, scratch, manifest.file)
            facts = read_facts(scratch, manifest.file)
            digest.update(facts.digests)
            compared = [*compare(manifest, facts, loaded.digests), _refuses_a_lost_row(scratch, facts)]
            sound = level == "proven" and all(check.ok for check in compared)
            application = beside.submit(ask_application, backups, scratch) if sound else None
            checks += [integrity.result(), *compared]
            if application and integrity.result().ok:
                checks += application.result()


def _reached(checks: list[Check], wanted: Level) -> Level | None:
    """The highest level whose checks, and those below it, all hold."""
    reached: Level | None = None
    for level in LEVELS[: LEVELS.index(wanted) + 1]:
        of_level = [check for check in checks if LEVEL_OF.get(check.name, "proven") == level]
        whole = LAST_OF.get(level, "") in ("", *(check.name for check in of_level))
        if not of_level or not whole or not all(check.ok for check in of_level):
            break
        reached = level  # type: ignore[assignment]
    return reached


# A level was judged to its end when its last check was made.
LAST_OF = {"intact": "refuses a flipped bit", "restorable": "refuses a lost row"}
LEVEL_OF: Mapping[str, Level] = {
    "stored bytes": "intact",
    "plain bytes": "intact",
    "refuses a flipped bit": "intact",
    "loads": "restorable",
    "integrity": "restorable",
    "schema": "restorable",
    "rows": "restorable",
    "digests": "restorable",
    "refuses a lost row": "restorable",
}


@contextmanager
def spool_folder(work: Path) -> Iterator[Path]:
    """A folder for decoded images, removed at the end."""
    try:
        private.make_folder(work)
        with TemporaryDirectory(dir=work, prefix=SPOOL_PREFIX) as folder:
            yield Path(folder)
    except OSError as error:
        raise StorageFailed(detail=f"{error.filename or work}: {error.strerror or error}") from error


def sweep_spools(work: Path) -> None:
    """Remove what a killed run left in the work folder; needs the lock."""
    for folder in work.glob(f"{SPOOL_PREFIX}*"):
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise StorageFailed(detail=f"{folder}: {error.strerror or error}") from error


def spool(backups: Backups, manifest: Manifest, image: Path | None) -> list[Check]:
    """Read the stored bytes once: check them, and decode them to `image` if one is given."""
    if image is not None:
        require_space(backups.work, manifest.raw_bytes)
    stored, plain = Meter(), Meter()
    chunks = stored.measure(backups.storage.get(manifest.file))
    damage = None
    try:
        write_image(plain.measure(backups.chain.decode(chunks, manifest.codecs)), image)
    except (BackupDamaged, IdentityMissing) as error:
        damage = str(error.facts["detail"])
        for _ in chunks:  # the hash is of the whole file
            continue
        if isinstance(error, IdentityMissing) and _matches(manifest, stored.bytes, stored.sha256):
            raise
    same = _matches(manifest, stored.bytes, stored.sha256)
    found = f"{stored.bytes} bytes, SHA-256 {stored.sha256}"
    if not same:
        found += f"; the manifest says {manifest.bytes} bytes, {manifest.sha256}"
    whole = (plain.bytes, plain.sha256) == (manifest.raw_bytes, manifest.raw_sha256)
    refused = not _matches(manifest, stored.bytes, stored.sha256_with_a_flipped_bit)
    return [
        Check(name="stored bytes", ok=same, detail=found),
        Check(name="plain bytes", ok=whole, detail=damage or f"{plain.bytes} bytes, SHA-256 {plain.sha256}"),
        Check(name="refuses a flipped bit", ok=refused, detail="shown the image with its last bit flipped"),
    ]


def _matches(manifest: Manifest, size: int, sha256: str) -> bool:
    return (size, sha256) == (manifest.bytes, manifest.sha256)


def write_image(plain: Chunks, image: Path | None) -> None:
    """Write the plain bytes to `image`; with none, they are only read."""
    if image is None:
        for _ in plain:
            continue
        return
    try:
        with image.open("xb", buffering=0) as file:
            write_all(file, plain)
    except OSError as error:
        raise StorageFailed(detail=f"{image.parent}: {error.strerror or error}") from error


def require_space(folder: Path, needed: int) -> None:
    """StorageFailed unless `needed` bytes are free in `folder`, so that a lack is found before the work."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageFailed(
            detail=f"{folder} has {size(free)} free, and {size(needed)} are needed",
            hint="Free some space there, or set BACKUP_DIR to a larger disk. Nothing was changed.",
        )


def room_to_load(image: int, live: int) -> int:
    """The bytes that a restore takes where the live file of `live` bytes is, or none.

    The write-ahead log takes all of the image first, and the file grows by what it lacks after that.
    """
    return image + max(0, image - live) if live else image


def read_facts(database: Database, name: str, *, digests: bool = True) -> Facts:
    """The facts of a loaded copy."""
    with as_damage(name):
        return database.facts(digests=digests)


def check_integrity(database: Database, name: str) -> Check:
    """The database's own checks of a loaded copy."""
    with as_damage(name):
        problems = database.problems()
    detail = "; ".join(problems[:5]) or "the database's own checks find nothing"
    return Check(name="integrity", ok=not problems, detail=detail)


@contextmanager
def as_damage(name: str) -> Iterator[None]:
    """What cannot be read of a loaded copy is damage of the backup, unless the reading was ended."""
    try:
        yield
    except DatabaseUnreachable as error:
        if isinstance(error.__cause__, DBAPIError) and not is_interruption(error.__cause__):
            raise BackupDamaged(name=name, detail=str(error)) from error
        raise
    except SQLAlchemyError as error:
        raise failure_of_copy(name, error) from error


def failure_of_copy(name: str, error: SQLAlchemyError) -> ObmsError:
    """What a statement that failed on a loaded copy says of the backup: nothing, where it was ended."""
    detail = str(error).splitlines()[0]
    if is_interruption(error):
        return DatabaseUnreachable(detail=f"{name} could not be judged: {detail}")
    return BackupDamaged(name=name, detail=detail)


def ask_application(backups: Backups, copy: Database) -> list[Check]:
    """The application's own checks; raises what ended a statement of theirs, where one says no."""
    with noting_interruptions(copy.engine) as ended:
        checks = backups.probe(copy)
    if ended and not all(check.ok for check in checks):
        raise ended[0]
    return checks


def compare(manifest: Manifest, facts: Facts, wanted: Mapping[str, str]) -> list[Check]:
    """The facts of the restored copy against those of the snapshot, its digests against `wanted`."""
    wrong_rows = _difference(manifest.rows, facts.rows)
    checks = [
        Check(
            name="schema",
            ok=facts.revision is not None and facts.revision == manifest.revision,
            detail=f"revision {facts.revision}, snapshot {manifest.revision}",
        ),
        Check(
            name="rows",
            ok=not wrong_rows,
            detail=wrong_rows or f"{sum(facts.rows.values())} in {len(facts.rows)} tables",
        ),
    ]
    return [*checks, *compare_digests(facts, wanted)]


def judge_schema(facts: Facts) -> Check:
    """What can be said of the schema of a file that has no manifest: that it is ours."""
    return Check(name="schema", ok=facts.revision is not None, detail=f"revision {facts.revision}")


def compare_digests(facts: Facts, wanted: Mapping[str, str]) -> list[Check]:
    """The check that the digests are the wanted ones; none, where none are known."""
    if not wanted:
        return []
    wrong = _difference(wanted, facts.digests)
    return [Check(name="digests", ok=not wrong, detail=wrong or f"{len(facts.digests)} tables equal")]


def _difference(wanted: Mapping[str, object], found: Mapping[str, object]) -> str:
    """The tables that differ, as `name found (wanted)`; empty when none does."""
    names = sorted({*wanted, *found})
    return ", ".join(
        f"{name} {found.get(name, 'missing')} ({wanted.get(name, 'none')} in the snapshot)"
        for name in names
        if wanted.get(name) != found.get(name)
    )


def _refuses_a_lost_row(scratch: Database, facts: Facts) -> Check:
    """The judge is shown a small table with one row fewer, and must see it in count and digest."""
    name = "refuses a lost row"
    with scratch.engine.connect() as connection:
        leaves = _leaves(connection, facts.rows)
    for table in leaves:
        try:
            counted, digest = _without_a_row(scratch, table)
        except DBAPIError as error:
            if is_interruption(error):
                raise
            continue  # it lets no row go: a trigger of somebody's, say
        ok = counted != facts.rows[table.name] and digest != facts.digests[table.name]
        return Check(name=name, ok=ok, detail=f"a row was taken from {table.name}")
    return Check(name=name, ok=True, detail="there is no row that could be taken")


def _without_a_row(scratch: Database, table: sa.Table) -> tuple[int, str]:
    """Count and digest of a table as if its first row were lost; nothing is changed."""
    key = table.primary_key.columns.values()
    with scratch.engine.connect() as connection, connection.begin() as transaction:
        first = connection.execute(sa.select(*key).limit(1)).one()
        match = sa.and_(*(column == value for column, value in zip(key, first, strict=True)))
        connection.execute(sa.delete(table).where(match))
        counted = digests.count(connection, [table.name])[table.name]
        digest = digests.digest(connection, table.name)
        transaction.rollback()
    return counted, digest


def _leaves(connection: sa.Connection, rows: Mapping[str, int]) -> list[sa.Table]:
    """The tables with rows and a primary key that no other table refers to, smallest first."""
    inspector = sa.inspect(connection)
    referred = {key["referred_table"] for name in rows for key in inspector.get_foreign_keys(name)}
    names = sorted(
        (name for name in rows if rows[name] and name not in referred), key=lambda name: rows[name]
    )
    found = (
        sa.Table(name, sa.MetaData(), autoload_with=connection, resolve_fks=False)
        for name in names
        if inspector.get_pk_constraint(name)["constrained_columns"]
    )
    return list(found)
