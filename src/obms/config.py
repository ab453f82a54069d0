"""Settings, read once from the environment and .env; the only reader of os.environ."""

import os
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from obms.errors import ConfigurationError, KeyMissing
from obms.gate import SESSION, Gate, read_key, read_networks, read_user
from obms.misspelt import misspelt

SECRETS = (
    "SECRET_KEY",
    "POSTGRES_PASSWORD",
    "DATABASE_URL",
    "AUTH_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "BACKUP_NOTIFY_URLS",
    "BACKUP_HEARTBEAT_URL",
)
# What the client of each kind of store calls the settings below.
CREDENTIALS = {
    "s3": {
        "access_key_id": "aws_access_key_id",
        "secret_access_key": "aws_secret_access_key",
        "session_token": "aws_session_token",
        "region": "aws_region",
        "endpoint": "aws_endpoint_url",
    },
    "az": {"account_name": "azure_storage_account_name", "account_key": "azure_storage_account_key"},
    "gs": {"application_credentials": "google_application_credentials"},
}
BAD_URL = "DATABASE_URL is not a URL; in its password write %40 for @, %3A for : and %2F for /"
API_KEYS, BASIC_USERS = "AUTH_API_KEY_", "AUTH_BASIC_AUTH_"  # and a name that each has of its own
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    """Read `90`, `90s`, `15m`, `26h` or `7d` as a span of time; anything else goes to pydantic."""
    match = re.fullmatch(r"(\d+)([smhd]?)", str(value))
    return timedelta(seconds=int(match[1]) * UNITS[match[2] or "s"]) if match else value


def _words(value: object) -> object:
    return value.split() if isinstance(value, str) else value


def _keys(value: object) -> object:
    return _words(value.replace(",", " ")) if isinstance(value, str) else value


def _text(value: SecretStr | str | Path) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _days(value: object) -> object:
    """`off` is None: no number of days."""
    return None if str(value).lower() == "off" else value


def _rate(value: object) -> object:
    """`off` is None: no limit."""
    if str(value).lower() == "off":
        return None
    if not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", str(value)):
        raise ValueError("must be a number of requests per time, as 600/minute, or off")
    return value


def _named_entries(values: Mapping[str, Any], prefix: str) -> dict[str, str]:
    """What the environment, or .env, has under names that begin so; `..._FILE` names a file of one."""
    found = {name.upper(): str(value) for name, value in values.items() if value}
    found |= {name.upper(): value for name, value in os.environ.items() if value}
    named = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
    return {
        name.removesuffix("_FILE"): Path(value).read_text(encoding="utf-8").strip()
        if name.endswith("_FILE")
        else value
        for name, value in named.items()
        if name != "FILE"
    }


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Days = Annotated[Annotated[int, Field(ge=0, le=100_000)] | None, BeforeValidator(_days)]
Count = Annotated[int, Field(ge=0, le=100_000)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Keys = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_keys)]
Rate = Annotated[str | None, BeforeValidator(_rate)]
Entries = Annotated[dict[str, SecretStr], NoDecode]


class Settings(BaseSettings):
    """The settings of the server; each field's description is its line in the reference."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    db_type: Literal["sqlite", "postgresql"] = Field(default="sqlite", description="Kind of database.")
    sqlite_file: Path = Field(default=Path("data/openbadges.db"), description="The SQLite database.")
    database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL as one URL; wins over `POSTGRES_*`, and sets `DB_TYPE`."
    )
    postgres_host: str = Field(default="localhost", description="PostgreSQL server.")
    postgres_port: int = Field(default=5432, ge=1, le=65535, description="Its port.")
    postgres_user: str = Field(default="postgres", description="Role that owns the database.")
    postgres_password: SecretStr | None = Field(default=None, description="Its password.")
    postgres_db: str = Field(default="openbadges", description="Name of the database.")
    pg_bin_dir: Path | None = Field(
        default=None, description="Folder of `pg_dump` and `psql`; else the installed wheel, else PATH."
    )
    host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    port: int = Field(default=3000, ge=0, le=65535, description="Port the API listens on.")
    workers: int = Field(default=1, ge=1, description="Worker processes of the API.")
    base_url: str = Field(
        default="http://localhost:3000",
        description="Public URL of the server, in every badge; else this machine's, at PORT.",
    )
    secret_key: SecretStr | None = Field(
        default=None, description="Seals the signing keys. Keep a copy apart from the backups."
    )
    signers: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = Field(
        default=None,
        description="Who signs with keys that are kept elsewhere: `package.module:callable`, which gives a "
        "`Signer` for the id of each.",
    )
    auth_api_key: SecretStr | None = Field(default=None, description="An API key with the role admin.")
    auth_api_keys: Entries = Field(
        default={},
        title="AUTH_API_KEY_<NAME>",
        description="`key:userId:description`: a key of the user so called, or else of the operator.",
    )
    auth_basic_users: Entries = Field(
        default={},
        title="AUTH_BASIC_AUTH_<USER>",
        description="`password:userId:role` for HTTP Basic; another role than `admin` is what the user has.",
    )
    auth_allow_registration: bool = Field(
        default=False, description="Whether strangers may register; that gives no right over any issuer."
    )
    auth_token_lifetime: Duration = Field(default=SESSION, description="How long a login lasts.")
    rate_limit: Rate = Field(
        default="600/minute", description="Requests of one address, in each worker; `off` is no limit."
    )
    rate_limit_exempt: Words = Field(
        default=("127.0.0.0/8", "::1"),
        description="Addresses and networks that are not limited; `none` for none.",
    )
    login_rate_limit: Rate = Field(
        default="10/minute", description="Failed logins of one address, and with one name; in each worker."
    )
    trusted_proxies: Words = Field(
        default=(), description="Addresses and networks whose `X-Forwarded-For` is believed."
    )
    cors_origins: Words = Field(
        default=("*",), description="Origins whose pages may ask from a browser; `none` for none."
    )
    credential_status_entries: Literal["one", "both"] = Field(
        default="one",
        description="What a badge names: its place to be revoked, or that to be suspended too, which "
        "1EdTech's schema refuses.",
    )
    fetch_allowed_origins: Words = Field(
        default=(),
        description="Origins (`http://localhost:8080`) that are asked when a badge of others is verified, "
        "though they are private, without TLS or on an unusual port.",
    )
    backup_dir: Path = Field(default=Path("backups"), description="Folder of the backups.")
    backup_stores: Words = Field(
        default=(),
        description="Where each proven backup is copied to: URLs or folders, separated by spaces.",
    )
    aws_access_key_id: SecretStr | None = Field(default=None, description="Key of the `s3://` stores.")
    aws_secret_access_key: SecretStr | None = Field(default=None, description="Its secret.")
    aws_session_token: SecretStr | None = Field(
        default=None, description="Its token, if it is a passing one."
    )
    aws_region: str | None = Field(default=None, description="Region of those that name none.")
    aws_endpoint_url: str | None = Field(
        default=None, description="Server of those that name none, where it is not Amazon's."
    )
    azure_storage_account_name: str | None = Field(default=None, description="Account of the `az://` stores.")
    azure_storage_account_key: SecretStr | None = Field(default=None, description="Its key.")
    google_application_credentials: Path | None = Field(
        default=None, description="File with the service account of the `gs://` stores."
    )
    backup_compression: Literal["fast", "small"] = Field(
        default="fast",
        description="`fast`: a tenth of the time of `gzip`, a sixth larger; `small`: a quarter, as small.",
    )
    backup_age_recipients: Keys = Field(
        default=(),
        description="Public keys (`age1...`) that images are encrypted to; without any they are not.",
    )
    backup_age_identity_file: Path | None = Field(
        default=None, description="File of private keys of age, to restore and to verify encrypted backups."
    )
    backup_schedule: str = Field(
        default="0 0 * * *", description="Cron expression, `CRON_TZ=Europe/Berlin 0 3 * * *` too, or `off`."
    )
    backup_timezone: str = Field(default="UTC", description="Time zone of the schedule, by its IANA name.")
    drill_schedule: str = Field(
        default="off",
        description="When a recovery drill is held, by the same process: `0 4 * * 0`, or `off`.",
    )
    backup_jitter: Duration = Field(
        default=timedelta(),
        description="Each start by a schedule of ours is put off by up to this; `obms backup run` never is.",
    )
    backup_timeout: Duration = Field(
        default=timedelta(hours=6),
        description="A longer run is ended, with exit 4; `0` is no limit.",
    )
    backup_max_age: Duration = Field(
        default=timedelta(hours=26), description="A newest proven backup older than this is degraded health."
    )
    backup_notify_urls: SecretStr | None = Field(
        default=None, description="Who is told: `https://` webhooks, and URLs of Apprise, between spaces."
    )
    backup_notify_on: Literal["failures", "all"] = Field(
        default="failures", description="What is told: failures, and when all is good again; or all runs."
    )
    backup_heartbeat_url: SecretStr | None = Field(
        default=None, description="Asked after each proven run, and with `/fail` after each that failed."
    )
    metrics_file: Path | None = Field(
        default=None, description="File that each run writes the metrics to, for a textfile collector."
    )
    backup_retention_days: Days = Field(
        default=7,
        description="Days that backups are kept; `0` leaves it to `BACKUP_KEEP_*`, `off` removes none. "
        "The newest proven one stays whatever is set here.",
    )
    backup_keep_daily: Count = Field(
        default=0, description="Keep the newest proven backup of so many days, too."
    )
    backup_keep_weekly: Count = Field(default=0, description="Of so many weeks.")
    backup_keep_monthly: Count = Field(default=0, description="Of so many months.")
    backup_keep_yearly: Count = Field(default=0, description="Of so many years.")

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name, path in _files_of_secrets().items():
            if not values.get(name.lower()):
                values[name.lower()] = Path(path).read_text(encoding="utf-8").strip()
        values["auth_api_keys"] = _named_entries(values, API_KEYS)
        values["auth_basic_users"] = _named_entries(values, BASIC_USERS)
        return values

    @model_validator(mode="before")
    @classmethod
    def _follow_port(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Without BASE_URL, badges name the port that the API listens on."""
        return {"base_url": f"http://localhost:{values['port']}", **values} if values.get("port") else values

    @model_validator(mode="after")
    def _check_gate(self) -> Self:
        self.gate()
        return self

    @model_validator(mode="after")
    def _check_urls(self) -> Self:
        if not re.fullmatch(r"https?://[^/\s]+(/[^\s?#]*)?", self.base_url):
            raise ValueError("BASE_URL must be an http(s) URL without query or fragment")
        if self.database_url is not None:
            self.postgresql_url()
        return self

    def kind(self) -> Literal["sqlite", "postgresql"]:
        return "postgresql" if self.database_url is not None else self.db_type

    def postgresql_url(self) -> URL:
        """The URL of the PostgreSQL database, with psycopg as its driver."""
        if self.database_url is None:
            password = self.postgres_password.get_secret_value() if self.postgres_password else None
            return URL.create(
                "postgresql+psycopg",
                self.postgres_user,
                password,
                self.postgres_host,
                self.postgres_port,
                self.postgres_db,
            )
        written = self.database_url.get_secret_value()
        if written.count("@") > 1:
            raise ValueError(BAD_URL)
        try:
            url = make_url(written)
        except (ArgumentError, ValueError):
            raise ValueError(BAD_URL) from None
        if not url.drivername.startswith("postgres") or not url.database:
            raise ValueError("DATABASE_URL must be postgresql://user:password@host:port/database")
        return url.set(drivername="postgresql+psycopg")

    def store_credentials(self) -> dict[str, dict[str, str]]:
        """What is set of the stores' credentials, by the scheme of their URLs; not for any eye."""
        return {
            scheme: {key: _text(value) for key, name in names.items() if (value := getattr(self, name))}
            for scheme, names in CREDENTIALS.items()
        }

    def secret_files(self) -> tuple[Path, ...]:
        """The files that keys and passwords are read from."""
        named = (*_files_of_secrets().values(), self.backup_age_identity_file)
        return tuple(Path(name) for name in named if name)

    def gate(self) -> Gate:
        """What the settings say of those who come in."""
        return Gate(
            keys=tuple(
                read_key(f"AUTH_API_KEY_{name}", _text(text)) for name, text in self.auth_api_keys.items()
            ),
            users=tuple(read_user(name, _text(text)) for name, text in self.auth_basic_users.items()),
            registration=self.auth_allow_registration,
            session=self.auth_token_lifetime,
            rate=self.rate_limit,
            login_rate=self.login_rate_limit,
            exempt=read_networks("RATE_LIMIT_EXEMPT", self.rate_limit_exempt),
            proxies=read_networks("TRUSTED_PROXIES", self.trusted_proxies),
            origins=tuple(origin for origin in self.cors_origins if origin != "none"),
        )

    def public_url(self) -> str:
        """BASE_URL without a slash at its end."""
        return self.base_url.rstrip("/")

    def secret(self) -> str:
        """SECRET_KEY, or KeyMissing."""
        if self.secret_key is None:
            raise KeyMissing(
                detail="SECRET_KEY is not set",
                hint="For a new server: echo SECRET_KEY=$(openssl rand -hex 32) >> .env. "
                "For a restored one: the key of the server that made the backup.",
            )
        return self.secret_key.get_secret_value()


def _written() -> Mapping[str, str | None]:
    path = Settings.model_config.get("env_file")
    return dotenv_values(path) if isinstance(path, str) else {}


def _files_of_secrets() -> dict[str, str]:
    """The file of each secret that stands in one, as the environment names it, or else .env."""
    written = _written()
    named = {name: os.environ.get(f"{name}_FILE") or written.get(f"{name}_FILE") for name in SECRETS}
    return {name: file for name, file in named.items() if file}


def misspelt_names() -> dict[str, str]:
    """What .env or the environment names that is no setting, and looks like one; each with that one."""
    fields = {name.upper() for name in Settings.model_fields} - {"AUTH_API_KEYS", "AUTH_BASIC_USERS"}
    files = {f"{name}_FILE" for name in SECRETS}
    return misspelt({**_written(), **os.environ}, fields | files, (API_KEYS, BASIC_USERS))


def _require_settings_only(path: object) -> None:
    """ConfigurationError names the line of a file that is no setting: it would be passed over."""
    if not isinstance(path, str) or not Path(path).is_file():
        return
    with Path(path).open(encoding="utf-8") as file:
        wrong = next((line.original for line in parse_stream(file) if line.error), None)
    if wrong:
        detail = f"{path}: line {wrong.line} is no setting"
        raise ConfigurationError(detail=detail, hint="Write NAME=value, and close each quote.")


def read_settings() -> Settings:
    """The settings of this process; ConfigurationError names the setting that is wrong."""
    try:
        _require_settings_only(Settings.model_config.get("env_file"))
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in first["loc"]).upper()
        detail = f"{name}: {first['msg']}" if name else first["msg"]
        raise ConfigurationError(detail=detail.removeprefix("Value error, ")) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(detail=".env or a secret's file is not UTF-8 text") from error
    except OSError as error:
        raise ConfigurationError(detail=f".env or a secret's file cannot be read: {error}") from error
