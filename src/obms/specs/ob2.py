"""Open Badges 2.0: the same badges as hosted Assertion, BadgeClass and Issuer."""

from obms.domain import Achievement, Alignment, Credential, Evidence, Image, Issuer, Recipient, Related
from obms.specs import Json, iso, without_nothing

CONTEXT = "https://w3id.org/openbadges/v2"


def issuer_id(site_url: str, id: str) -> str:
    return f"{site_url}/v2/issuers/{id}"


def badge_class_id(site_url: str, id: str) -> str:
    return f"{site_url}/v2/achievements/{id}"


def assertion_id(site_url: str, id: str) -> str:
    return f"{site_url}/v2/assertions/{id}"


def related_id(site_url: str, id: str) -> str:
    """Where a related achievement stands: one of ours by its id, another's by its own URL."""
    return id if ":" in id else badge_class_id(site_url, id)


def image_member(image: Image | None) -> str | Json | None:
    """A picture is its address, and an object only where it has a caption."""
    if image is None or not image.caption:
        return image.url if image else None
    return {"type": "Image", "id": image.url, "caption": image.caption}


def issuer_profile(issuer: Issuer, site_url: str) -> Json:
    return without_nothing(
        {
            "@context": CONTEXT,
            "type": "Issuer",
            "id": issuer_id(site_url, issuer.id),
            "name": issuer.name,
            "url": issuer.url,
            "email": issuer.email,
            "description": issuer.description,
            "image": image_member(issuer.image),
            "publicKey": issuer.extra.get("public_key"),
        }
    )


def alignment_object(alignment: Alignment) -> Json:
    return without_nothing(
        {
            "type": "AlignmentObject",
            "targetName": alignment.target_name,
            "targetUrl": alignment.target_url,
            "targetFramework": alignment.target_framework,
            "targetCode": alignment.target_code,
            "targetDescription": alignment.target_description,
        }
    )


def related_object(related: Related, site_url: str) -> Json:
    return without_nothing(
        {
            "type": "BadgeClass",
            "id": related_id(site_url, related.id),
            "@language": related.in_language,
            "version": related.version,
        }
    )


def badge_class(achievement: Achievement, site_url: str) -> Json:
    """The badge class; the last two members are 3.0's, which readers of 2.0 pass over."""
    criteria, previous = achievement.criteria, achievement.previous_version
    return without_nothing(
        {
            "@context": CONTEXT,
            "type": "BadgeClass",
            "id": badge_class_id(site_url, achievement.id),
            "name": achievement.name,
            "description": achievement.description,
            "image": image_member(achievement.image),
            "criteria": without_nothing({"id": criteria.url, "narrative": criteria.narrative}),
            "issuer": issuer_id(site_url, achievement.issuer_id),
            "tags": list(achievement.tags),
            "alignment": [alignment_object(alignment) for alignment in achievement.alignments],
            "version": achievement.version,
            "related": [related_object(related, site_url) for related in achievement.related],
            "previousVersion": related_id(site_url, previous) if previous else None,
            "achievementType": achievement.achievement_type,
        }
    )


def identity_object(recipient: Recipient) -> Json:
    return without_nothing(
        {
            "type": recipient.type,
            "hashed": recipient.hashed,
            "identity": recipient.identity,
            "salt": recipient.salt,
        }
    )


def evidence_object(evidence: Evidence) -> Json:
    return without_nothing(
        {
            "type": "Evidence",
            "id": evidence.url,
            "narrative": evidence.narrative,
            "name": evidence.name,
            "description": evidence.description,
            "genre": evidence.genre,
            "audience": evidence.audience,
        }
    )


def assertion(credential: Credential, site_url: str) -> Json:
    """The hosted assertion: it is verified by fetching it from its own id."""
    return without_nothing(
        {
            "@context": CONTEXT,
            "type": "Assertion",
            "id": assertion_id(site_url, credential.id),
            "recipient": identity_object(credential.recipient),
            "badge": badge_class_id(site_url, credential.achievement.id),
            "verification": {"type": "HostedBadge"},
            "issuedOn": iso(credential.issued_at),
            "expires": iso(credential.expires_at) if credential.expires_at else None,
            "image": image_member(credential.image),
            "evidence": [evidence_object(evidence) for evidence in credential.evidence],
            "narrative": credential.narrative,
        }
    )


def revoked_assertion(credential_id: str, reason: str | None, site_url: str) -> Json:
    """What stands at the id of an assertion that was revoked (to be sent with 410)."""
    return without_nothing(
        {
            "@context": CONTEXT,
            "type": "Assertion",
            "id": assertion_id(site_url, credential_id),
            "revoked": True,
            "revocationReason": reason,
        }
    )
