"""What opens an S3 store: the keys of the settings, or what botocore finds on the machine.

That is the role of the machine, a web identity, or a profile.
"""

# botocore is imported where something is asked that only it can ask: it takes as long as a small backup.

import hashlib
import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import S3Credential

CONNECT_SECONDS = 10
RETRIES = 3  # of one request; a copy as a whole is tried again by its maker
REGION = "us-east-1"  # S3's own default
# botocore keeps those of a role, and gets new ones before they end: asking it again costs nothing.
BELIEVED = timedelta(minutes=1)
LONGEST_REASON = 300
HINT = "Check that it answers, and what BACKUP_STORES says of it. Backups in BACKUP_DIR are untouched."
NOT_FOUND = "no credentials are found: neither AWS_ACCESS_KEY_ID, nor a role of the machine, nor a profile"
# With keys of the settings no file of another program is read: a profile that is not there would be an error.
ALONE = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


@dataclass(frozen=True, kw_only=True)
class S3Access:
    """The settings of one store, as obstore calls them; nothing is asked for before it is needed."""

    settings: Mapping[str, Any]
    timeout: float

    def __repr__(self) -> str:
        return "S3Access()"

    @property
    def has_key(self) -> bool:
        return "access_key_id" in self.settings

    @cached_property
    def _session(self) -> Any:
        from botocore.session import Session

        return Session(session_vars=ALONE) if self.has_key else Session()

    def credential(self) -> "S3Credential":
        """For obstore, which asks again when they have passed; LookupError where the machine has none."""
        frozen = self._found().get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + BELIEVED,
        }

    def _found(self) -> Any:
        found = self._session.get_credentials()
        if found is None:
            raise LookupError(NOT_FOUND)
        return found

    def client(self) -> Any:
        """botocore's, with what obstore has too; LookupError where the machine has no credentials."""
        from botocore.config import Config

        if not self.has_key:
            self._found()
        endpoint = self.settings.get("endpoint")
        client = self._session.create_client(
            "s3",
            region_name=self.settings.get("region", REGION),
            endpoint_url=endpoint,
            aws_access_key_id=self.settings.get("access_key_id"),
            aws_secret_access_key=self.settings.get("secret_access_key"),
            aws_session_token=self.settings.get("session_token"),
            # Whom the system trusts, as obstore does: a server of one's own may have an authority of its own.
            verify=ssl.get_default_verify_paths().cafile,
            config=Config(
                signature_version="s3v4",
                connect_timeout=CONNECT_SECONDS,
                read_timeout=self.timeout,
                retries={"mode": "standard", "total_max_attempts": 1 + RETRIES},
                s3={"addressing_style": "path" if endpoint else "auto"},
                ignore_configured_endpoint_urls=True,
                # Servers other than Amazon's do not know the newer ones.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )
        # Older servers ask for it where a lock is set, and botocore sends only what is newer.
        client.meta.events.register("before-call.s3.PutObjectRetention", _add_md5)
        return client


def _add_md5(params: dict[str, Any], **_: object) -> None:
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = b64encode(digest).decode()
