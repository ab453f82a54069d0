"""Open Badges 3.0: what a badge says, as a verifiable credential before its proof."""

from obms.domain import Achievement, Alignment, Credential, Evidence, Image, Issuer, Recipient, StatusEntry
from obms.specs import (
    Json,
    achievement_url,
    credential_url,
    iso,
    issuer_did,
    status_list_url,
    without_nothing,
)

# The third one defines the type of credentialSchema; without it that member would not be signed.
CONTEXT = (
    "https://www.w3.org/ns/credentials/v2",
    "https://purl.imsglobal.org/spec/ob/v3p0/context-3.0.3.json",
    "https://purl.imsglobal.org/spec/ob/v3p0/extensions.json",
)
SCHEMA_URL = "https://purl.imsglobal.org/spec/ob/v3p0/schema/json/ob_v3p0_achievementcredential_schema.json"
IDENTITY_TYPES = {
    "email": "emailAddress",
    "url": "ext:url",
    "telephone": "ext:telephone",
    "id": "identifier",
}


def image_object(image: Image | None) -> Json | None:
    if image is None:
        return None
    return without_nothing({"id": image.url, "type": "Image", "caption": image.caption})


def profile(issuer: Issuer, site_url: str) -> Json:
    """The issuer as a Profile; its id is a `did:web` that this server answers for."""
    return without_nothing(
        {
            "id": issuer_did(site_url, issuer.id),
            "type": ["Profile"],
            "name": issuer.name,
            "url": issuer.url,
            "email": issuer.email,
            "description": issuer.description,
            "image": image_object(issuer.image),
        }
    )


def alignment_object(alignment: Alignment) -> Json:
    return without_nothing(
        {
            "type": ["Alignment"],
            "targetName": alignment.target_name,
            "targetUrl": alignment.target_url,
            "targetFramework": alignment.target_framework,
            "targetCode": alignment.target_code,
            "targetDescription": alignment.target_description,
        }
    )


def achievement_object(achievement: Achievement, site_url: str) -> Json:
    criteria = achievement.criteria
    return without_nothing(
        {
            "id": achievement_url(site_url, achievement.id),
            "type": ["Achievement"],
            "name": achievement.name,
            "description": achievement.description,
            "criteria": without_nothing({"id": criteria.url, "narrative": criteria.narrative}),
            "achievementType": achievement.achievement_type,
            "image": image_object(achievement.image),
            "tag": list(achievement.tags),
            "alignment": [alignment_object(alignment) for alignment in achievement.alignments],
            "version": achievement.version,
        }
    )


def identity_object(recipient: Recipient) -> Json:
    return without_nothing(
        {
            "type": "IdentityObject",
            "hashed": recipient.hashed,
            "identityHash": recipient.identity,
            "identityType": IDENTITY_TYPES[recipient.type],
            "salt": recipient.salt,
        }
    )


def evidence_object(evidence: Evidence) -> Json:
    return without_nothing(
        {
            "id": evidence.url,
            "type": ["Evidence"],
            "narrative": evidence.narrative,
            "name": evidence.name,
            "description": evidence.description,
            "genre": evidence.genre,
            "audience": evidence.audience,
        }
    )


def status_object(entry: StatusEntry, site_url: str) -> Json:
    list_url = status_list_url(site_url, entry.list_id)
    return {
        "id": f"{list_url}#{entry.position}",
        "type": "BitstringStatusListEntry",
        "statusPurpose": entry.purpose,
        "statusListIndex": str(entry.position),
        "statusListCredential": list_url,
    }


def subject_object(credential: Credential, site_url: str) -> Json:
    return without_nothing(
        {
            "type": ["AchievementSubject"],
            "identifier": [identity_object(credential.recipient)],
            "achievement": achievement_object(credential.achievement, site_url),
            "narrative": credential.narrative,
            "image": image_object(credential.image),
        }
    )


def credential_document(credential: Credential, site_url: str) -> Json:
    """The whole credential, unsigned; everything in it is covered by a proof put on it."""
    return without_nothing(
        {
            "@context": list(CONTEXT),
            "id": credential_url(site_url, credential.id),
            "type": ["VerifiableCredential", "OpenBadgeCredential"],
            "name": credential.achievement.name,
            "issuer": profile(credential.issuer, site_url),
            "validFrom": iso(credential.issued_at),
            "validUntil": iso(credential.expires_at) if credential.expires_at else None,
            "credentialSubject": subject_object(credential, site_url),
            "credentialStatus": [status_object(entry, site_url) for entry in credential.statuses],
            "credentialSchema": [{"id": SCHEMA_URL, "type": "1EdTechJsonSchemaValidator2019"}],
            "evidence": [evidence_object(evidence) for evidence in credential.evidence],
        }
    )
