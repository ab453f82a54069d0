"""Open Badges 2.0, signed: the assertion inside a token, and what a verifier of it looks up."""

from collections.abc import Iterable, Sequence

from obms.specs import Json, ob2, without_nothing


def key_id(site_url: str, id: str) -> str:
    return f"{site_url}/v2/keys/{id}"


def revocation_list_id(site_url: str, issuer_id: str) -> str:
    return f"{site_url}/v2/issuers/{issuer_id}/revocations"


def assertion_id(id: str) -> str:
    """The id of a signed assertion: a name and no address, since it is not verified by fetching it."""
    return f"urn:uuid:{id}"


def assertion(hosted: Json, id: str, signing_key_id: str, site_url: str) -> Json:
    """The hosted assertion as it is signed; `creator` is where its key is found."""
    creator = key_id(site_url, signing_key_id)
    return hosted | {"id": assertion_id(id), "verification": {"type": "SignedBadge", "creator": creator}}


def cryptographic_key(id: str, issuer_id: str, public_pem: str, site_url: str) -> Json:
    return {
        "@context": ob2.CONTEXT,
        "type": "CryptographicKey",
        "id": key_id(site_url, id),
        "owner": ob2.issuer_id(site_url, issuer_id),
        "publicKeyPem": public_pem,
    }


def issuer_members(issuer_id: str, key_ids: Sequence[str], site_url: str) -> Json:
    """What the profile of an issuer says of its keys: one is an address, several are a list."""
    urls = [key_id(site_url, id) for id in key_ids]
    public = urls[0] if len(urls) == 1 else urls
    return without_nothing({"publicKey": public, "revocationList": revocation_list_id(site_url, issuer_id)})


def revocation_list(issuer_id: str, revoked: Iterable[tuple[str, str | None]], site_url: str) -> Json:
    """Of each revoked assertion the id and the reason, hosted and signed alike."""
    return {
        "@context": ob2.CONTEXT,
        "type": "RevocationList",
        "id": revocation_list_id(site_url, issuer_id),
        "issuer": ob2.issuer_id(site_url, issuer_id),
        "revokedAssertions": [
            without_nothing({"id": assertion_id(id), "revocationReason": reason}) for id, reason in revoked
        ],
    }
