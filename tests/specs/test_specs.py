"""What the two standards' documents say, for whatever the domain holds."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from obms.domain import (
    PURPOSES,
    REVOCATION,
    Achievement,
    Alignment,
    Credential,
    Criteria,
    Evidence,
    Image,
    Issuer,
    Recipient,
    StatusEntry,
)
from obms.specs import iso, issuer_did, ob2, ob3, site_did, vc

SITE = "http://localhost:3000"
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)
maybe = st.none() | texts
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
ids = st.uuids().map(str)
pictures = st.none() | st.builds(Image, url=texts, caption=maybe)
issuers = st.builds(
    Issuer,
    id=ids,
    name=texts,
    url=texts,
    email=maybe,
    description=maybe,
    image=pictures,
    extra=st.just({}),
    created_at=times,
    updated_at=times,
)
achievements = st.builds(
    Achievement,
    id=ids,
    issuer_id=ids,
    name=texts,
    description=texts,
    criteria=st.builds(Criteria, url=maybe, narrative=texts),
    achievement_type=maybe,
    image=pictures,
    tags=st.lists(texts, max_size=3).map(tuple),
    alignments=st.lists(st.builds(Alignment, target_name=texts, target_url=texts), max_size=2).map(tuple),
    version=maybe,
    created_at=times,
    updated_at=times,
)
credentials = st.builds(
    Credential,
    id=ids,
    issuer=issuers,
    achievement=achievements,
    recipient=st.builds(
        Recipient,
        type=st.sampled_from(sorted(ob3.IDENTITY_TYPES)),
        identity=texts,
        hashed=st.booleans(),
        salt=maybe,
    ),
    issued_at=times,
    expires_at=st.none() | times,
    evidence=st.lists(st.builds(Evidence, url=maybe, narrative=texts), max_size=2).map(tuple),
    narrative=maybe,
    image=pictures,
    statuses=st.lists(
        st.builds(
            StatusEntry, purpose=st.sampled_from(PURPOSES), list_id=ids, position=st.integers(0, 131071)
        ),
        max_size=2,
    ).map(tuple),
)


@given(credentials)
def test_a_3_0_document_says_all_that_the_credential_says(credential: Credential) -> None:
    document = ob3.credential_document(credential, SITE)
    subject = document["credentialSubject"]
    assert isinstance(subject, dict)
    assert document["id"] == f"{SITE}/credentials/{credential.id}"
    assert subject["identifier"][0]["identityHash"] == credential.recipient.identity
    assert subject["identifier"][0]["hashed"] is credential.recipient.hashed
    assert "id" not in subject
    assert subject["achievement"]["name"] == credential.achievement.name
    assert subject.get("narrative") == credential.narrative
    assert ("validUntil" in document) == (credential.expires_at is not None)


@given(credentials)
def test_a_3_0_document_names_its_places_of_the_purposes_that_are_asked_for(credential: Credential) -> None:
    for named in ((REVOCATION,), PURPOSES):
        places = [ob3.status_object(entry, SITE) for entry in credential.statuses if entry.purpose in named]
        said = ob3.credential_document(credential, SITE, named).get("credentialStatus", [])
        assert said == (places[0] if len(places) == 1 else places)


@given(credentials)
def test_the_claims_of_a_token_give_back_the_document(credential: Credential) -> None:
    document = ob3.credential_document(credential, SITE)
    claims = vc.jwt_claims(document)
    assert vc.jwt_document(claims) == document
    assert claims["iss"] == issuer_did(SITE, credential.issuer.id)
    assert claims["nbf"] == int(credential.issued_at.timestamp())


@given(credentials)
def test_a_2_0_assertion_and_its_badge_class_refer_to_each_other(credential: Credential) -> None:
    assertion = ob2.assertion(credential, SITE)
    badge = ob2.badge_class(credential.achievement, SITE)
    assert assertion["badge"] == badge["id"]
    assert assertion["verification"] == {"type": "HostedBadge"}
    assert badge["issuer"] == f"{SITE}/v2/issuers/{credential.achievement.issuer_id}"
    assert ob2.issuer_profile(credential.issuer, SITE)["name"] == credential.issuer.name
    assert str(assertion["id"]).startswith(f"{SITE}/v2/assertions/")


@given(times)
def test_a_time_is_written_to_the_second_and_read_back(time: datetime) -> None:
    assert datetime.fromisoformat(iso(time)) == time.replace(microsecond=0)


def test_the_did_of_a_site_escapes_its_port_and_keeps_its_path() -> None:
    assert site_did("http://localhost:3000") == "did:web:localhost%3A3000"
    assert site_did("https://example.org/open/badges") == "did:web:example.org:open:badges"
    assert issuer_did("https://example.org", "i1") == "did:web:example.org:issuers:i1"
