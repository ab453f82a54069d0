"""Open Badges 2.0, signed: the assertion inside a token, and what a verifier of it looks up."""

from collections.abc import Iterable

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


def issuer_members(issuer_id: str, key: str | None, site_url: str) -> Json:
    """What the profile of an issuer says of the key in use; 1EdTech's validator takes one and no list.

    What a retired key has signed is judged by that key, which tells its owner, and by the list of what is
    revoked.
    """
    public = key_id(site_url, key) if key else None
    return without_nothing({"publicKey": public, "revocationList": revocation_list_id(site_url, issuer_id)})


def revocation_list(issuer_id: str, revoked: Iterable[tuple[str, str | None]], site_url: str) -> Json:
    """Of each revoked assertion both of its ids, hosted and signed, and the reason.

    So there are never few: 1EdTech's validator overlooks the only entry of a list.
    """
    return {
        "@context": ob2.CONTEXT,
        "type": "RevocationList",
        "id": revocation_list_id(site_url, issuer_id),
        "issuer": ob2.issuer_id(site_url, issuer_id),
        "revokedAssertions": [
            without_nothing({"id": each, "revocationReason": reason})
            for id, reason in revoked
            for each in (assertion_id(id), ob2.assertion_id(site_url, id))
        ],
    }
