"""Loading an image into a scratch database of either kind; across the kinds its rows are copied."""

# What copies rows is imported where they are copied: a server on SQLite loads no driver of PostgreSQL.

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from obms.backup import Backups
from obms.backup.manifest import Check, Manifest
from obms.databases import Database, Facts
from obms.databases.sqlite import Sqlite
from obms.errors import BackupDamaged, DatabaseUnreachable

SOURCE = "source.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A decoded image on disk, to be used up by loading it; `name` and `version` are for errors.

    `digests` are those of its content, where they are known.
    """

    path: Path
    kind: str
    name: str
    version: str = "unknown"
    digests: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, manifest: Manifest, path: Path) -> "Image":
        """The image of a manifest; of a SQLite one that tells no digests, they are taken from the image."""
        return cls(
            path=path,
            kind=manifest.database,
            name=manifest.file,
            version=manifest.app_version,
            digests=manifest.digests,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """That it was loaded, and the digests its copy must have, as far as they are known."""

    check: Check
    digests: Mapping[str, str]


def load(backups: Backups, scratch: Database, image: Image) -> Loaded:
    """Fill `scratch` from an image of either kind.

    Of the other kind the tables are made as they were at the revision of the image, and each row
    is copied. Refused, with the row, for what this kind cannot hold.
    """
    detail = f"{image.path.stat().st_size} bytes into a scratch {scratch.kind}"
    digests = image.digests
    if image.kind == scratch.kind:
        scratch.load(image.path)
    else:
        detail += f": the rows of the {image.kind} image, in tables made anew"
        digests = _copy_rows(backups, scratch, image)
    return Loaded(check=Check(name="loads", ok=True, detail=detail), digests=digests)


def _copy_rows(backups: Backups, scratch: Database, image: Image) -> Mapping[str, str]:
    if not isinstance(scratch, Sqlite):
        return _into_postgresql(backups, scratch, image)
    from obms.databases.copy_blocks import read_revision
    from obms.databases.sqlite_filling import fill_sqlite

    scratch.create()
    backups.make_tables(scratch, read_revision(image.path, name=image.name), image.name, image.version)
    fill_sqlite(scratch, image.path, name=image.name)
    return image.digests


def _into_postgresql(backups: Backups, scratch: Database, image: Image) -> Mapping[str, str]:
    from obms.databases.postgresql import Postgresql
    from obms.databases.postgresql_filling import fill_postgresql

    assert isinstance(scratch, Postgresql)
    source = Sqlite(image.path.with_name(SOURCE), work=backups.work, pooled=True)
    source.load(image.path)
    try:
        facts, problems = _facts(source, image, deep=not image.digests)
        if facts.revision is None or problems:
            detail = "; ".join(problems[:5]) or "it has no schema revision"
            raise BackupDamaged(name=image.name, detail=detail)
        backups.make_tables(scratch, facts.revision, image.name, image.version)
        fill_postgresql(scratch, source, name=image.name)
    finally:
        source.engine.dispose()
    return image.digests or facts.digests


def require_equal_rows(folder: Path, copy: Database, facts: Facts, wanted: Mapping[str, str]) -> None:
    """Refused, with the row, where a digest is not the wanted one for a row that PostgreSQL spells otherwise.

    The SQLite image that was copied is still in `folder`.
    """
    from obms.backup.spelling import require_same_spelling

    require_same_spelling(folder / SOURCE, copy, facts, wanted)


def _facts(source: Sqlite, image: Image, *, deep: bool) -> tuple[Facts, tuple[str, ...]]:
    """What a SQLite image holds, and with `deep` its problems; what cannot be read of it is damage."""
    try:
        with ThreadPoolExecutor(1) as beside:
            problems = beside.submit(source.problems) if deep else None
            return source.facts(digests=deep), problems.result() if problems else ()
    except DatabaseUnreachable as error:
        raise BackupDamaged(name=image.name, detail=str(error)) from error
