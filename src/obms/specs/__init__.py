"""The two standards as pure functions from the domain to JSON, and the addresses both speak of."""

from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, urlsplit

Json = dict[str, object]


def iso(time: datetime) -> str:
    """The time in UTC, to the second, as both standards write it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def without_nothing(members: Json) -> Json:
    """The members that say something; None, empty texts and empty lists are left out."""
    return {name: value for name, value in members.items() if value not in (None, "", [], {})}


def issuer_url(site_url: str, issuer_id: str) -> str:
    return f"{site_url}/issuers/{issuer_id}"


def achievement_url(site_url: str, achievement_id: str) -> str:
    return f"{site_url}/achievements/{achievement_id}"


def credential_url(site_url: str, credential_id: str) -> str:
    return f"{site_url}/credentials/{credential_id}"


def status_list_url(site_url: str, list_id: str) -> str:
    return f"{site_url}/status-lists/{list_id}"


@lru_cache(maxsize=16)
def site_did(site_url: str) -> str:
    """The `did:web` of the server: the port escaped, a path as further parts."""
    parts = urlsplit(site_url)
    path = [quote(part, safe="") for part in parts.path.split("/") if part]
    return ":".join(["did", "web", quote(parts.netloc, safe=""), *path])


def issuer_did(site_url: str, issuer_id: str) -> str:
    """The `did:web` of an issuer, whose document stands at `<site>/issuers/<id>/did.json`."""
    return f"{site_did(site_url)}:issuers:{issuer_id}"
