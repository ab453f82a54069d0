"""The composition root: settings become objects here, and nowhere else."""

# What not every command uses is imported where it is used: a backup must not wait for the web.

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from obms import __version__, migrations
from obms.backup import Backups, Probe
from obms.backup.codecs import Chain, Gzip
from obms.backup.counters import counting
from obms.backup.drill_report import last_drill
from obms.backup.encryption import Age, read_recipient
from obms.backup.journal import FOLDER, Entry, Journal, Later
from obms.backup.manifest import Check
from obms.backup.retain import Policy
from obms.backup.run import newest_proven, read_record
from obms.backup.schedule import OFF, Schedule
from obms.backup.shipping import Shipping
from obms.backup.signing import SEED_PURPOSE, SEED_SIZE, Signer
from obms.backup.staleness import is_stale, watch_alone, watch_staleness
from obms.backup.storage import Folder
from obms.backup.stores import Stores, open_stores
from obms.badges import Seal, Site, for_backups
from obms.config import Settings, misspelt_names, read_settings
from obms.databases import Database
from obms.databases.sqlite import Sqlite
from obms.domain import PURPOSES, REVOCATION
from obms.errors import ConfigurationError, StorageFailed
from obms.notices import Notices, open_heartbeat, open_teller, open_tellers
from obms.observe import Hook, every, log_event, log_failure, no_event, utc_now
from obms.server import Server, open_fetcher

if TYPE_CHECKING:
    from obms.backup.drill import Drilled
    from obms.looking import Finding, Scene
    from obms.looking.health import BackupHealth
    from obms.looking.visit import Visit
    from obms.metrics import Measured

WORK = ".work"


def open_database(settings: Settings, *, pooled: bool = False) -> Database:
    """The database of the settings; nothing is connected to yet."""
    if settings.kind() == "postgresql":
        from obms.databases.postgresql import Postgresql

        return Postgresql(settings.postgresql_url(), bin_dir=settings.pg_bin_dir, pooled=pooled)
    return Sqlite(settings.sqlite_file, work=settings.backup_dir / WORK, pooled=pooled)


def open_target(settings: Settings, url: str) -> tuple[Database, dict[str, str]]:
    """The database that `obms move --to` names, and the settings with which a server runs on it."""
    from obms.databases.postgresql import Postgresql

    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        database = Sqlite(path, work=settings.backup_dir / WORK)
        return database, {"DB_TYPE": "sqlite", "SQLITE_FILE": str(path), "DATABASE_URL": ""}
    try:
        found = settings.model_copy(update={"database_url": SecretStr(url)}).postgresql_url()
    except ValueError as error:
        said = str(error).replace("DATABASE_URL", "--to")
        raise ConfigurationError(detail=said, hint="Or name a file: --to sqlite:///path") from error
    return Postgresql(found, bin_dir=settings.pg_bin_dir), {"DB_TYPE": "postgresql", "DATABASE_URL": url}


def open_site(settings: Settings) -> Site:
    """What badges are signed for. Without SECRET_KEY it can verify and not sign."""
    seal = Seal(settings.secret()) if settings.secret_key else None
    named = PURPOSES if settings.credential_status_entries == "both" else (REVOCATION,)
    signers = {}
    if settings.signers is not None:
        from obms.badges.elsewhere import load_signers

        signers = dict(load_signers(settings.signers))
    return Site(base_url=settings.public_url(), seal=seal, clock=utc_now, named=named, signers=signers)


def open_signer(settings: Settings) -> Signer | None:
    """What signs manifests and verdicts, made of SECRET_KEY alone; None without it."""
    return Signer(Seal(settings.secret()).derive(SEED_PURPOSE, SEED_SIZE)) if settings.secret_key else None


def trusted_key(settings: Settings) -> str | None:
    """The public key whose signatures the catalogue believes."""
    signer = open_signer(settings)
    return signer.public if signer else None


def open_server(settings: Settings) -> Server:
    """The API's server; KeyMissing without SECRET_KEY."""
    settings.secret()
    return _server(settings, open_database(settings, pooled=True))


def open_server_from_environment() -> Server:
    """The server as the environment sets it."""
    return open_server(read_settings())


def open_schedule(settings: Settings) -> Schedule:
    """When the backups are due; every process of this server is told the same."""
    return Schedule(
        expression=settings.backup_schedule,
        timezone=settings.backup_timezone,
        jitter=settings.backup_jitter,
        seed=settings.public_url(),
    )


def open_drill_schedule(settings: Settings) -> Schedule:
    """When drills are due."""
    return replace(open_schedule(settings), expression=settings.drill_schedule, setting="DRILL_SCHEDULE")


def open_scene(settings: Settings, backups: Backups) -> "Scene":
    """What `status` and `doctor` look at."""
    from obms.looking import Scene

    return Scene(
        backups=backups,
        schedule=open_schedule(settings),
        drills=open_drill_schedule(settings),
        max_age=settings.backup_max_age,
        needed_revision=migrations.newest(),
        places=partial(check_notices, settings),
        misspelt=misspelt_names,
        sqlite_file=settings.sqlite_file if settings.kind() == "sqlite" else None,
        secret_files=settings.secret_files(),
        metrics_file=settings.metrics_file,
    )


@contextmanager
def open_visit(settings: Settings, url: str | None, size: int) -> "Iterator[Visit]":
    """What `verify-deployment` looks at; the credentials are named by the database, or by AUTH_API_KEY."""
    from obms.looking.outside import visiting
    from obms.looking.samples import NOBODY, of_database, of_key
    from obms.looking.visit import Visit

    key, now = settings.auth_api_key, utc_now()
    with visiting(url or f"http://localhost:{settings.port}") as outside:
        outside.get("/health")
        sample = of_database(open_database(settings), now, size)
        if sample is None and key is not None:
            sample = of_key(outside, key.get_secret_value(), size)
        yield Visit(outside=outside, sample=sample or NOBODY, now=now)


def keeps_schedule(settings: Settings) -> bool:
    """Whether there is anything that a schedule has to be kept for."""
    return {settings.backup_schedule, settings.drill_schedule} != {OFF}


def _server(settings: Settings, database: Database) -> Server:
    from obms.databases.sharing import writers
    from obms.metrics import exposition

    schedule, site = open_schedule(settings), open_site(settings)
    journal = open_journal(settings, site, log_event)
    measured = open_measured(settings, journal)
    count = counting(settings.backup_dir, utc_now, log_event)
    shipping = Shipping(journal, open_copies(settings), every(log_failure, count))

    def keep(entries: Sequence[Entry]) -> None:
        journal.keep(entries)
        shipping.wake()

    return Server(
        database=database,
        write=writers(database.engine),
        site=site,
        version=__version__,
        admin_key=settings.auth_api_key.get_secret_value() if settings.auth_api_key else None,
        backup_health=lambda: _backup_health(settings, schedule, journal),
        metrics=lambda: exposition(measured),
        keep=keep,
        needed_revision=migrations.newest(),
        gate=settings.gate(),
        look=lambda: _look(settings, database),
        fetcher=open_fetcher(settings.fetch_allowed_origins),
    )


def _look(settings: Settings, database: Database) -> "list[Finding]":
    from obms.looking.deep import look

    backups = replace(open_backups(settings, lambda _serve: _never_probe), database=database)
    return look(open_scene(settings, backups))


def _never_probe(_copy: Database) -> list[Check]:
    raise AssertionError("the API looks at backups, and proves none")


def open_journal(settings: Settings, site: Site, notify: Hook) -> Journal:
    """The journal beside the backups; without SECRET_KEY it can be read only."""
    return Journal(
        settings.backup_dir / FOLDER,
        key=site.seal.derive("journal 1", 32) if site.seal else None,
        key_name=site.seal.fingerprint if site.seal else None,
        clock=utc_now,
        notify=notify,
    )


def _backup_health(settings: Settings, schedule: Schedule, journal: Journal) -> "BackupHealth":
    from obms.looking.health import BackupHealth

    storage, now = Folder(settings.backup_dir), utc_now()
    newest, record, drilled, problem = None, None, None, None
    try:
        found = newest_proven(storage, settings.kind(), trusted_key(settings))
        newest = found.created_at if found else None
        record = read_record(storage)
        drilled = last_drill(settings.backup_dir, trusted_key(settings))
    except StorageFailed as error:
        problem = str(error)
    return BackupHealth(
        newest_proven=newest,
        age=None if newest is None else now - newest,
        next_run=schedule.next_after(now),
        last_run=None if record is None else record.started_at,
        stale=is_stale(newest, now, settings.backup_max_age),
        problem=problem,
        journal_problem=journal.problem(),
        next_drill=open_drill_schedule(settings).next_after(now),
        last_drill=drilled,
    )


def open_copies(settings: Settings) -> Stores:
    """The stores that backups are copied to, and what opens others of the same kinds."""
    return open_stores(settings.backup_stores, settings.store_credentials(), settings.backup_dir)


def open_hook(settings: Settings, *, logged: bool) -> Hook:
    """Where events go: to the log, or to none where the command itself tells, to the counters, to people."""
    log = log_event if logged else no_event
    count = counting(settings.backup_dir, utc_now, log_event)
    report = every(log_failure, count)
    notices = Notices(
        tellers=open_tellers(_words(settings.backup_notify_urls), report),
        heartbeats=open_tellers(_words(settings.backup_heartbeat_url), report, open_heartbeat),
        every_run=settings.backup_notify_on == "all",
        server=settings.public_url(),
        version=__version__,
        clock=utc_now,
        report=report,
    )
    return every(log, count, _textfile(settings, report), notices)


def _textfile(settings: Settings, report: Hook) -> Hook:
    if settings.metrics_file is None:
        return no_event
    from obms.metrics import textfile

    # Only to look whether it may be written: nothing waits in this one.
    journal = Journal(settings.backup_dir / FOLDER, key=None, key_name=None, clock=utc_now, notify=report)
    return textfile(settings.metrics_file, lambda: open_measured(settings, journal), report)


def open_measured(settings: Settings, journal: Journal) -> "Measured":
    """What the metrics are computed from."""
    from obms.metrics import Measured

    return Measured(
        folder=settings.backup_dir,
        kind=settings.kind(),
        trusted=trusted_key(settings),
        schedule=open_schedule(settings),
        policy=retention(settings),
        max_age=settings.backup_max_age,
        stores=tuple(store.name for store in open_copies(settings)),
        version=__version__,
        revision=migrations.newest(),
        clock=utc_now,
        journal=journal,
    )


def play_drill(backups: Backups, store: str | None = None) -> "Drilled":
    """A drill with the newest proven backup of a store."""
    from obms.backup.drill import drill

    return drill(backups, for_backups.newest_moment, store=store)


def check_notices(settings: Settings) -> tuple[str, ...]:
    """The places of BACKUP_NOTIFY_URLS and BACKUP_HEARTBEAT_URL; ConfigurationError where one is none."""
    tellers = [open_teller(url) for url in _words(settings.backup_notify_urls)]
    tellers += [open_heartbeat(url) for url in _words(settings.backup_heartbeat_url)]
    return tuple(teller.place for teller in tellers)


def _words(secret: SecretStr | None) -> list[str]:
    return secret.get_secret_value().split() if secret else []


def open_watch(settings: Settings, backups: Backups) -> Callable[[], None]:
    """What the schedule looks at while it waits, or the API where that is kept elsewhere."""
    return watch_alone(backups.folder, watch_staleness(backups, settings.backup_max_age))


def open_backups(
    settings: Settings,
    make_probe: Callable[[Callable[[Database], Server]], Probe],
    notify: Hook = log_event,
) -> Backups:
    """What backing up and restoring need; `make_probe` gives the proof, from how to serve a copy."""
    site = open_site(settings)
    prober = make_probe(lambda copy: _server_of_copy(settings, copy))

    def probe(copy: Database) -> list[Check]:
        migrations.migrate(copy.engine)
        return prober(copy)

    def check(copy: Database) -> None:
        with copy.engine.connect() as connection:
            for_backups.check_keys(connection, site)

    return Backups(
        database=open_database(settings),
        storage=Folder(settings.backup_dir),
        folder=settings.backup_dir,
        stores=open_copies(settings),
        chain=_chain(settings),
        policy=retention(settings),
        work=settings.backup_dir / WORK,
        version=__version__,
        sealing_key=site.seal.fingerprint if site.seal else None,
        signer=open_signer(settings),
        probe=probe,
        migrate=lambda copy, name, version: migrations.migrate(copy.engine, name=name, version=version),
        make_tables=lambda copy, revision, name, version: migrations.migrate(
            copy.engine, to=revision, name=name, version=version
        ),
        check_keys=check,
        carry=for_backups.carry,
        later=Later(
            journal=open_journal(settings, site, notify),
            entries_since=for_backups.entries_since,
            replay=for_backups.replay,
            count_known=for_backups.count_known,
            count_since=for_backups.count_since,
        ),
        word_of=for_backups.word_of,
        bring=partial(for_backups.bring, site=site),
        clock=utc_now,
        notify=notify,
        timeout=settings.backup_timeout,
    )


def _chain(settings: Settings) -> Chain:
    """gzip, then age if there are recipients; without them it can still be undone."""
    recipients = [str(read_recipient(public)) for public in settings.backup_age_recipients]
    gzip, age = Gzip(settings.backup_compression), Age(recipients, settings.backup_age_identity_file)
    return Chain(codecs=(gzip, age)) if recipients else Chain(codecs=(gzip,), others=(age,))


def retention(settings: Settings) -> Policy:
    """How long backups are kept in the backup folder."""
    return Policy(
        days=settings.backup_retention_days,
        daily=settings.backup_keep_daily,
        weekly=settings.backup_keep_weekly,
        monthly=settings.backup_keep_monthly,
        yearly=settings.backup_keep_yearly,
    )


def _server_of_copy(settings: Settings, copy: Database) -> Server:
    """The application as it would run on a restored copy, with a key that dies with it."""
    from obms.databases.sharing import writers
    from obms.looking.health import BackupHealth

    health = BackupHealth(newest_proven=None, age=None, next_run=None, last_run=None, stale=False)
    return Server(
        database=copy,
        write=writers(copy.engine),
        site=open_site(settings),
        version=__version__,
        admin_key=secrets.token_urlsafe(32),
        backup_health=lambda: health,
        metrics=lambda: b"",
        keep=lambda _entries: None,
        needed_revision=migrations.newest(),
        fetcher=open_fetcher(),
    )
