"""From the bodies of requests to what is asked for: references are read, endorsements are checked."""

import json

import sqlalchemy as sa

from obms import domain
from obms.badges import endorsing, issuing
from obms.badges.building import build
from obms.errors import Invalid
from obms.server import Server
from obms.web.context import read_reference
from obms.web.models import AchievementBody, CredentialBody, EndorsementBody, RelatedBody
from obms.web.parts import ABSOLUTE, picture


def achievement_of(
    server: Server,
    connection: sa.Connection,
    body: AchievementBody,
    id: str,
    held: domain.Achievement | None = None,
) -> domain.Achievement:
    """The achievement of a body; what it does not tell of its company stays as it is `held`."""
    descriptions = (each.model_dump() for each in body.result_descriptions or ())
    now = server.site.clock()
    return domain.Achievement(
        id=id,
        issuer_id=read_reference(server, "issuer", body.issuer),
        name=body.name,
        description=body.description,
        criteria=domain.Criteria(url=body.criteria.id, narrative=body.criteria.narrative),
        achievement_type=body.achievement_type,
        image=picture(body.image),
        tags=tuple(dict.fromkeys(body.tags)),
        alignments=build(domain.Alignment, (alignment.model_dump() for alignment in body.alignment)),
        version=body.version,
        previous_version=read_other(server, "previousVersion", body.previous_version)
        if body.previous_version
        else None,
        result_descriptions=held.result_descriptions
        if held and body.result_descriptions is None
        else build(domain.ResultDescription, descriptions),
        related=held.related if held and body.related is None else _related(server, body),
        endorsements=_endorsements(connection, server, body, id, held),
        created_at=now,
        updated_at=now,
    )


def _related(server: Server, body: AchievementBody) -> tuple[domain.Related, ...]:
    found = {related.id: related for related in (related_of(server, each) for each in body.related or ())}
    return tuple(found.values())


def related_of(server: Server, body: RelatedBody) -> domain.Related:
    return domain.Related(
        id=read_other(server, "related", body.id), in_language=body.in_language, version=body.version
    )


def read_other(server: Server, field: str, text: str) -> str:
    """The bare id of an achievement of ours, or the URL of another's; Invalid if it is neither."""
    try:
        return read_reference(server, field, text)
    except Invalid:
        if ABSOLUTE.fullmatch(text) and not text.startswith("urn:uuid:"):
            return text
        raise


def _endorsements(
    connection: sa.Connection,
    server: Server,
    body: AchievementBody,
    id: str,
    held: domain.Achievement | None,
) -> tuple[domain.Endorsement, ...]:
    """Those of the body; of each that is held already the one that is held."""
    if held and body.endorsement is None and body.endorsement_jwt is None:
        return held.endorsements
    documents = [write(each) for each in body.endorsement or ()] + list(body.endorsement_jwt or ())
    there = {endorsement.document: endorsement for endorsement in (held.endorsements if held else ())}
    return tuple(
        there.get(document) or endorsing.make(connection, document, about=is_about(server, document, id))
        for document in dict.fromkeys(documents)
    )


def write(body: EndorsementBody) -> str:
    return json.dumps(body.sent, ensure_ascii=False, separators=(",", ":"))


def is_about(server: Server, document: str, achievement_id: str) -> bool:
    """Whether an endorsement names this achievement, by any form of its id."""
    try:
        return read_reference(server, "id", endorsing.subject_id(document) or "") == achievement_id
    except Invalid:
        return False


def order_of(server: Server, body: CredentialBody) -> issuing.Order:
    """What a body asks to be issued."""
    return issuing.Order(
        achievement_id=read_reference(server, "badge", body.badge),
        recipient=body.recipient.to_domain(),
        issued_at=body.issued_on,
        expires_at=body.expires,
        evidence=tuple(evidence.to_domain() for evidence in body.evidence),
        narrative=body.narrative,
        image=picture(body.image),
        results=body.results_to_domain(),
        proof=body.proof or "data-integrity",
        alg=body.alg,
    )
