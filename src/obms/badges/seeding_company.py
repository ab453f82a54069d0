"""What stands beside a seeded achievement: a related one, what another issuer says for it, its results."""

import json
from dataclasses import replace
from typing import Any

from openbadgeslib.ob3 import add_data_integrity_proof

from obms.badges import keys, relations
from obms.badges.seeding_cast import OPENED, Cast, seeded_id
from obms.badges.seeding_words import NARRATIVES
from obms.domain import Achievement, Endorsement, Related, Result, ResultDescription
from obms.specs import Json, achievement_url, iso, issuer_did, ob3

GRADES = ("A", "B", "C", "Δ")


def with_company(cast: Cast) -> Cast:
    """The cast with some company for the achievements of the last issuer, which issues the fewest badges."""
    first, second, *others = cast.achievements[-1]
    first = replace(
        first,
        related=(Related(id=second.id, in_language="vi", version="1.0"),),
        endorsements=(_endorsement(cast, first),),
    )
    second = replace(second, result_descriptions=(_description(cast.seed),))
    return replace(cast, achievements=(*cast.achievements[:-1], (first, second, *others)))


def _description(seed: int) -> ResultDescription:
    return ResultDescription(
        id=f"urn:uuid:{seeded_id(seed, 'result')}",
        name="Điểm · Note",
        result_type="LetterGrade",
        allowed_values=GRADES,
    )


def result_of(achievement: Achievement, number: int) -> Result | None:
    """What the n-th recipient reached, where the achievement has results."""
    if not achievement.result_descriptions:
        return None
    (description,) = achievement.result_descriptions
    return Result(result_description=description.id, value=GRADES[number % len(GRADES)])


def _endorsement(cast: Cast, achievement: Achievement) -> Endorsement:
    """The word of the first issuer, signed by its key."""
    endorser, key = cast.issuers[0], cast.keys[0][0]
    method = f"{issuer_did(cast.site_url, endorser.id)}#{key.id}"
    private = keys.private_pem(keys.read_private(key.algorithm, key.private))
    id = seeded_id(cast.seed, "endorsement")
    document: Json = {
        "@context": list(ob3.CONTEXT[:2]),
        "id": f"urn:uuid:{id}",
        "type": ["VerifiableCredential", "EndorsementCredential"],
        "name": achievement.name,
        "issuer": ob3.profile(endorser, cast.site_url),
        "validFrom": iso(OPENED),
        "credentialSubject": {
            "id": achievement_url(cast.site_url, achievement.id),
            "type": ["EndorsementSubject"],
            "endorsementComment": NARRATIVES[0],
        },
    }
    signed = add_data_integrity_proof(document, private, method, created=OPENED)
    text = json.dumps(signed, ensure_ascii=False, separators=(",", ":"))
    return Endorsement(id=id, document=text, proven=True)


def company_rows(cast: Cast) -> dict[str, list[dict[str, Any]]]:
    own = [achievement for each in cast.achievements for achievement in each]
    made = {"created_at": OPENED}
    return {
        "related_achievements": [
            relations.related_row(achievement.id, related) | made
            for achievement in own
            for related in achievement.related
        ],
        "endorsements": [
            relations.endorsement_row(achievement.id, endorsement) | made
            for achievement in own
            for endorsement in achievement.endorsements
        ],
    }
