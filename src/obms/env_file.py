"""The settings of a new server: a file with secrets that nobody has seen before."""

import os
import secrets
from pathlib import Path

from obms.errors import StorageFailed

NOT_WRITTEN = "Check its folder, and the free space there, or name another file by --file."
SETTINGS = """\
# The settings of this server; docs/reference/settings.md has them all.

# Seals the signing keys. Without it a restored server verifies badges but cannot issue any:
# keep a copy apart from the backups.
SECRET_KEY={secret_key}

# The API key of the administrator, for the header X-API-Key.
AUTH_API_KEY={api_key}
"""


def new_settings() -> str:
    """The text of the file, with new secrets each time."""
    return SETTINGS.format(secret_key=secrets.token_hex(32), api_key=secrets.token_urlsafe(24))


def write_settings(path: Path) -> bool:
    """Write the settings of a new server for its owner's eyes only; False where there are some already.

    StorageFailed, and no file left, where they cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise _failed(path, error) from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(new_settings())
    except OSError as error:
        path.unlink()
        raise _failed(path, error) from error
    return True


def _failed(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(detail=f"{path}: {error.strerror or error}", hint=NOT_WRITTEN)
