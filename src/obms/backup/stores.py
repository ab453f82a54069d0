"""The other places that backups are copied to: each a URL, with what it asks for."""

# The clients of object stores are imported where one is opened: most servers have none.

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote

from obms.backup.counters import complete_at
from obms.backup.storage import Folder, Storage
from obms.errors import ConfigurationError, StoreMissing, StoreRefused

SCHEMES = ("s3", "gs", "az")
SIZES = {"": 1, "k": 1000, "M": 1000**2, "G": 1000**3}
MB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long a store keeps backups; None where it says nothing of its own."""

    retention_days: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What stands after the `?` of a store's URL: bytes a second, days, seconds of one request, bytes.

    `scrub`: how many older copies each run reads again.
    """

    endpoint: str | None = None
    region: str | None = None
    rate_limit: int | None = None
    lock_days: int | None = None
    timeout: int = 60
    attempts: int = 6
    part_size: int = 8 * MB
    scrub: int = 1
    keep: Keep = Keep()


WORDS = ("endpoint", "region")
KEEPS = tuple(name.name for name in fields(Keep))
NAMES = (*(name.name for name in fields(Options) if name.name != "keep"), *KEEPS)
DAYS = 100_000
# What a number may be. S3 takes no smaller part, and each of the parts on their way is in memory.
RANGES = {
    "rate_limit": (1000, 1000 * SIZES["G"]),
    "lock_days": (1, DAYS),
    "timeout": (1, 3600),
    "attempts": (1, 100),
    "part_size": (5 * MB, 1024 * MB),
    "scrub": (0, 100),
    **dict.fromkeys(KEEPS, (0, DAYS)),
}
LOCK_HINT = (
    "The bucket must be made with Object Lock, and the key be allowed to set it (s3:PutObjectRetention). "
    "Or leave lock_days out."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A place, and the name that it has in reports: its URL without the options."""

    name: str
    storage: Storage
    options: Options = Options()

    def lock(self, name: str, now: datetime) -> None:
        """Let nobody remove an object for `lock_days`, if there are any."""
        if not self.options.lock_days:
            return
        from obms.backup.object_store import ObjectStore

        if isinstance(self.storage, ObjectStore) and self.storage.requests:
            try:
                self.storage.requests.lock(name, now + timedelta(days=self.options.lock_days))
            except StoreRefused as error:
                detail = f"lock_days: {error.facts['detail']}"
                raise StoreRefused(store=self.name, detail=detail, hint=LOCK_HINT) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The stores of BACKUP_STORES. `credentials` are what their clients need, by scheme."""

    configured: tuple[Store, ...] = ()
    credentials: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def __iter__(self) -> Iterator[Store]:
        return iter(self.configured)

    def at(self, url: str) -> Store:
        """The store of a URL, to look into: StoreMissing for a folder that is not there.

        One without options is the configured one of that name, if there is one.
        """
        known = {store.name: store for store in self.configured} if "?" not in url else {}
        found = known.get(_name(url)) or open_store(url, self.credentials)
        if isinstance(found.storage, Folder) and not found.storage.path.is_dir():
            raise StoreMissing(store=found.storage.path)
        return found


def open_stores(
    urls: tuple[str, ...], credentials: Mapping[str, Mapping[str, str]], folder: Path | None = None
) -> Stores:
    """ConfigurationError names the URL that is wrong; nothing is connected to yet.

    `folder` is BACKUP_DIR, which is no store, and whose counters tell which stores have held copies.
    """
    configured = tuple(open_store(url, credentials, folder) for url in urls)
    for store in configured:
        _require_another(store, folder)
    names = [store.name for store in configured]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(detail=f"BACKUP_STORES names {', '.join(twice)} twice")
    return Stores(configured=configured, credentials=credentials)


def _require_another(store: Store, folder: Path | None) -> None:
    if folder and isinstance(store.storage, Folder) and store.storage.path.resolve() == folder.resolve():
        raise ConfigurationError(
            detail=f"BACKUP_STORES {store.name} is BACKUP_DIR itself",
            hint="Name another disk or another machine: what is lost with BACKUP_DIR is no copy.",
        )


def open_store(url: str, credentials: Mapping[str, Mapping[str, str]], folder: Path | None = None) -> Store:
    """The store of one URL; `folder` as in `open_stores`."""
    name = _name(url)
    options = _read_options(name, url.partition("?")[2])
    scheme = name.partition("://")[0]
    if scheme == "file":
        _require_none(name, options, "endpoint", "region", "lock_days")
        return Store(name=name, storage=_folder(name, folder), options=options)
    from obms.backup.object_store import open_object_store

    given = {"endpoint": options.endpoint, "region": options.region}
    settings: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    storage = open_object_store(
        name,
        {**credentials.get(scheme, {}), **settings},
        timeout=options.timeout,
        part_size=options.part_size,
    )
    if options.lock_days and scheme != "s3":
        raise ConfigurationError(
            detail=f"BACKUP_STORES {name}: lock_days needs an s3:// store",
            hint="Elsewhere let the bucket itself retain what is put into it, by a rule of its own.",
        )
    return Store(name=name, storage=storage, options=options)


def _require_none(name: str, options: Options, *words: str) -> None:
    for word in words:
        if getattr(options, word) is not None:
            raise ConfigurationError(detail=f"BACKUP_STORES {name}: a folder has no {word}")


def _folder(name: str, folder: Path | None) -> Folder:
    return Folder(_path_of(name), held=lambda: folder is not None and complete_at(folder, name) > 0)


def _path_of(name: str) -> Path:
    return Path(unquote(name.removeprefix("file://")))


def split_name(url: str) -> tuple[str, str]:
    """The URL of a store, with its options, and the name of a backup in it."""
    place, mark, options = url.partition("?")
    store, _, name = place.rpartition("/")
    return f"{store}{mark}{options}", name


def join_name(store: str, name: str) -> str:
    """The opposite: the URL of a backup in a store, which may be given as the path of a folder."""
    _, mark, options = store.partition("?")
    return f"{_name(store)}/{name}{mark}{options}"


def _name(url: str) -> str:
    """The URL without options, in one spelling; a path is a folder."""
    place = url.partition("?")[0]
    if "://" not in place:
        return _at_home(place).absolute().as_uri()
    scheme, _, rest = place.partition("://")
    if "@" in rest:
        raise ConfigurationError(
            detail=f"a {scheme} URL of BACKUP_STORES holds a user or a password",
            hint="Credentials stand in settings of their own, as AWS_SECRET_ACCESS_KEY or its _FILE.",
        )
    if scheme not in (*SCHEMES, "file") or not rest.strip("/") or (scheme == "file") != rest.startswith("/"):
        raise ConfigurationError(
            detail=f"{place!r} is no store",
            hint="A folder, or file:///path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.",
        )
    name = f"{scheme}://{rest.rstrip('/')}"
    return _path_of(name).as_uri() if scheme == "file" else name


def _at_home(place: str) -> Path:
    """A path, whose `~` no shell has replaced in a file of settings."""
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(detail=f"BACKUP_STORES {place}: there is no such home folder") from error


def _read_options(name: str, query: str) -> Options:
    given = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        detail = f"BACKUP_STORES {name}: there is no option {unknown[0]!r}"
        raise ConfigurationError(detail=detail, hint=f"There are: {', '.join(NAMES)}.")
    values = {key: value if key in WORDS else _number(name, key, value) for key, value in given.items()}
    endpoint = values.get("endpoint")
    # The path of an Azure that has no name of its own, as an emulator, begins with the account.
    path = r"(/[^@\s]*)?" if name.startswith("az:") else "/?"
    if endpoint is not None and not re.fullmatch(rf"https?://[^/@\s]+{path}", str(endpoint)):
        raise ConfigurationError(detail=f"BACKUP_STORES {name}: endpoint must be https://host or http://host")
    keep = Keep(**{key: values.pop(key) for key in KEEPS if key in values})  # type: ignore[arg-type]
    return Options(keep=keep, **values)  # type: ignore[arg-type]


def _number(name: str, key: str, value: str) -> int:
    match = re.fullmatch(r"([0-9]{1,15})([kMG]?)", value)
    if match is None:
        raise ConfigurationError(detail=f"BACKUP_STORES {name}: {key} must be a number, as 30 or 10M")
    number, (least, most) = int(match[1]) * SIZES[match[2]], RANGES[key]
    if not least <= number <= most:
        raise ConfigurationError(
            detail=f"BACKUP_STORES {name}: {key} must be from {least} to {most}",
            hint=f"Leave {key} out for what is usual.",
        )
    return number
