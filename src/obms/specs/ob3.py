"""Open Badges 3.0: what a badge says, as a verifiable credential before its proof."""

import json
from collections.abc import Sequence

from obms.domain import (
    REVOCATION,
    Achievement,
    Alignment,
    Credential,
    Endorsement,
    Evidence,
    Image,
    Issuer,
    Level,
    Purpose,
    Recipient,
    Related,
    Result,
    ResultDescription,
    StatusEntry,
)
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
# What a badge carries of what is said for its achievement; each costs whoever verifies it.
MOST_ENDORSEMENTS = 5
ACHIEVEMENT_TYPES = (
    "Achievement|ApprenticeshipCertificate|Assessment|Assignment|AssociateDegree|Award|Badge|BachelorDegree|"
    "Certificate|CertificateOfCompletion|Certification|CommunityService|Competency|Course|CoCurricular|"
    "Degree|Diploma|DoctoralDegree|Fieldwork|GeneralEducationDevelopment|JourneymanCertificate|"
    "LearningProgram|License|Membership|ProfessionalDoctorate|QualityAssuranceCredential|"
    "MasterCertificate|MasterDegree|MicroCredential|ResearchDoctorate|SecondarySchoolDiploma"
)
RESULT_TYPES = (
    "GradePointAverage|LetterGrade|Percent|PerformanceLevel|PredictedScore|RawScore|Result|RubricCriterion|"
    "RubricCriterionLevel|RubricScore|ScaledScore|Status"
)
RESULT_STATUSES = "Completed|Enrolled|Failed|InProgress|OnHold|Provisional|Withdrew"
# The standard's lists may be extended, but only so.
EXTENSION = "ext:[a-zA-Z0-9._-]{1,100}"


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


def _alignments(alignments: tuple[Alignment, ...]) -> list[Json]:
    return [alignment_object(alignment) for alignment in alignments]


def related_url(id: str, site_url: str) -> str:
    """Where a related achievement stands: one of ours by its id, another's by its own URL."""
    return id if ":" in id else achievement_url(site_url, id)


def related_object(related: Related, site_url: str) -> Json:
    return without_nothing(
        {
            "id": related_url(related.id, site_url),
            "type": ["Related"],
            "inLanguage": related.in_language,
            "version": related.version,
        }
    )


def level_object(level: Level) -> Json:
    return without_nothing(
        {
            "id": level.id,
            "type": ["RubricCriterionLevel"],
            "name": level.name,
            "level": level.level,
            "description": level.description,
            "points": level.points,
            "alignment": _alignments(level.alignments),
        }
    )


def result_description_object(description: ResultDescription) -> Json:
    return without_nothing(
        {
            "id": description.id,
            "type": ["ResultDescription"],
            "name": description.name,
            "resultType": description.result_type,
            "allowedValue": list(description.allowed_values),
            "requiredLevel": description.required_level,
            "requiredValue": description.required_value,
            "rubricCriterionLevel": [level_object(level) for level in description.levels],
            "valueMin": description.value_min,
            "valueMax": description.value_max,
            "alignment": _alignments(description.alignments),
        }
    )


def result_object(result: Result) -> Json:
    return without_nothing(
        {
            "type": ["Result"],
            "resultDescription": result.result_description,
            "value": result.value,
            "status": result.status,
            "achievedLevel": result.achieved_level,
            "alignment": _alignments(result.alignments),
        }
    )


def endorsement_members(endorsements: list[Endorsement]) -> Json:
    """Endorsements by the form they were signed in."""
    documents = [endorsement.document for endorsement in endorsements]
    return {
        "endorsement": [json.loads(document) for document in documents if document.startswith("{")],
        "endorsementJwt": [document for document in documents if not document.startswith("{")],
    }


def achievement_resource(achievement: Achievement, site_url: str) -> Json:
    """The achievement as it is read by itself: also what no context defines, and all that is said for it."""
    previous = achievement.previous_version
    return {
        "@context": list(CONTEXT),
        **achievement_object(achievement, site_url),
        **without_nothing(
            {
                "creator": {"id": issuer_did(site_url, achievement.issuer_id), "type": ["Profile"]},
                "issuer": issuer_did(site_url, achievement.issuer_id),
                "previousVersion": related_url(previous, site_url) if previous else None,
                "related": [related_object(related, site_url) for related in achievement.related],
                **endorsement_members(list(achievement.endorsements)),
            }
        ),
    }


def issuer_resource(issuer: Issuer, site_url: str) -> Json:
    """The issuer as it is read by itself, with a key of its own where it told one."""
    return {
        "@context": list(CONTEXT),
        **profile(issuer, site_url),
        **without_nothing({"publicKey": issuer.extra.get("public_key")}),
    }


def achievement_object(achievement: Achievement, site_url: str) -> Json:
    """The achievement as badges carry it: only what is signed with it, and what is proven."""
    criteria, previous = achievement.criteria, achievement.previous_version
    proven = [endorsement for endorsement in achievement.endorsements if endorsement.proven]
    related = [related_object(each, site_url) for each in achievement.related]
    if previous and previous not in [each.id for each in achievement.related]:
        related.append({"id": related_url(previous, site_url), "type": ["Related"]})
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
            "alignment": _alignments(achievement.alignments),
            "version": achievement.version,
            "resultDescription": [
                result_description_object(description) for description in achievement.result_descriptions
            ],
            "related": related,
            **endorsement_members(proven[:MOST_ENDORSEMENTS]),
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


def status_member(
    entries: Sequence[StatusEntry], site_url: str, named: Sequence[Purpose] = (REVOCATION,)
) -> Json | list[Json]:
    """The places that a badge names: one as an object, since 1EdTech's schema takes no array."""
    found = [status_object(entry, site_url) for entry in entries if entry.purpose in named]
    return found[0] if len(found) == 1 else found


def subject_object(credential: Credential, site_url: str) -> Json:
    return without_nothing(
        {
            "type": ["AchievementSubject"],
            "identifier": [identity_object(credential.recipient)],
            "achievement": achievement_object(credential.achievement, site_url),
            "narrative": credential.narrative,
            "image": image_object(credential.image),
            "result": [result_object(result) for result in credential.results],
        }
    )


def credential_document(
    credential: Credential, site_url: str, named: Sequence[Purpose] = (REVOCATION,)
) -> Json:
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
            "credentialStatus": status_member(credential.statuses, site_url, named),
            "credentialSchema": [{"id": SCHEMA_URL, "type": "1EdTechJsonSchemaValidator2019"}],
            "evidence": [evidence_object(evidence) for evidence in credential.evidence],
        }
    )
