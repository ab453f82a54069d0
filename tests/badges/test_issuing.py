"""Issuing and verifying, as functions."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from openbadgeslib.ob3 import OB3LdpVerifier, OB3Verifier

from obms.badges import Seal, Site, credentials, examining, issuing, keys, signatures, statuses, verifying
from obms.domain import Evidence, ProofKind, Recipient
from obms.errors import Invalid, KeyMissing
from obms.schema import signing_keys
from tests.badges.conftest import NOW, Clock, add_profiles, issue

PROOFS = pytest.mark.parametrize("proof", ["data-integrity", "jwt"])


@PROOFS
def test_what_is_issued_verifies(connection: sa.Connection, site: Site, proof: ProofKind) -> None:
    _, achievement = add_profiles(connection, site)
    verdict = verifying.verify(connection, site, issue(connection, site, achievement, proof))
    assert verdict is not None
    assert verdict.is_valid
    assert verdict.error_code is None


@PROOFS
def test_the_library_s_own_verifier_agrees(connection: sa.Connection, site: Site, proof: ProofKind) -> None:
    _, achievement = add_profiles(connection, site)
    kept = credentials.find(connection, issue(connection, site, achievement, proof))
    key = keys.read_key(connection, kept.key_id)
    assert key is not None
    verifier = OB3Verifier(key.public_pem) if proof == "jwt" else OB3LdpVerifier(key.public_pem)
    assert str(verifier.verify(kept.document).id).endswith(kept.id)


@PROOFS
def test_a_changed_character_anywhere_in_what_is_said_is_refused(
    connection: sa.Connection, site: Site, proof: ProofKind
) -> None:
    _, achievement = add_profiles(connection, site)
    kept = credentials.find(connection, issue(connection, site, achievement, proof))
    head = kept.document.index(".") if proof == "jwt" else 0
    for place in range(head + 40, len(kept.document) - 200, len(kept.document) // 25):
        forged = kept.document[:place] + chr(ord(kept.document[place]) ^ 1) + kept.document[place + 1 :]
        with pytest.raises(signatures.BadSignature):
            verifying.check_proof(connection, replace(kept, document=forged))


@PROOFS
def test_a_forgery_for_the_probe_is_refused(connection: sa.Connection, site: Site, proof: ProofKind) -> None:
    _, achievement = add_profiles(connection, site)
    kept = credentials.find(connection, issue(connection, site, achievement, proof))
    with pytest.raises(signatures.BadSignature):
        verifying.check_proof(connection, replace(kept, document=examining.forge(kept)))


def test_a_document_in_another_row_is_refused(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    one, two = (credentials.find(connection, issue(connection, site, achievement)) for _ in range(2))
    with pytest.raises(signatures.BadSignature, match="its id is"):
        verifying.check_proof(connection, replace(one, document=two.document))


def test_the_recipient_is_hashed_with_a_salt_of_its_own(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    kept = [credentials.find(connection, issue(connection, site, achievement)) for _ in range(2)]
    assert "zoë@" not in json.dumps([each.recipient for each in kept], ensure_ascii=False)
    assert kept[0].recipient["identity"] != kept[1].recipient["identity"]
    assert "zoë@" not in json.dumps(signatures.read(kept[0].document, "jwt"), ensure_ascii=False)


@PROOFS
def test_an_expired_badge_has_a_valid_signature_and_is_not_valid(
    connection: sa.Connection, site: Site, clock: Clock, proof: ProofKind
) -> None:
    _, achievement = add_profiles(connection, site)
    # The library judges time by the real clock: long past by both.
    order_site = replace(site, clock=clock)
    id = issue(connection, order_site, achievement, proof, expires_at=NOW + timedelta(seconds=1))
    clock.advance(days=1)
    verdict = verifying.verify(connection, site, id)
    assert verdict is not None
    assert (verdict.has_valid_signature, verdict.is_expired, verdict.error_code) == (
        True,
        True,
        "CREDENTIAL_EXPIRED",
    )


def test_what_json_ld_would_drop_from_the_signature_is_not_issued(
    connection: sa.Connection, site: Site
) -> None:
    _, achievement = add_profiles(connection, site)
    order = issuing.Order(
        achievement_id=achievement.id,
        recipient=Recipient(type="email", identity="a@example.org", hashed=True),
        issued_at=NOW,
        evidence=(Evidence(url="not a URL"),),
    )
    with pytest.raises(Invalid):
        issuing.issue(connection, site, order)


@PROOFS
@pytest.mark.parametrize("public", ["another key's", "another algorithm's", "none"])
def test_what_the_public_part_of_its_key_does_not_verify_is_not_issued(
    connection: sa.Connection, site: Site, proof: ProofKind, public: str
) -> None:
    issuer, achievement = add_profiles(connection, site)
    mine, other = keys.algorithm_for(proof), keys.ALGORITHMS[keys.algorithm_for(proof) == keys.ED25519]
    stranger = keys.public_pem(keys.new_private(other if public == "another algorithm's" else mine))
    named = sa.and_(signing_keys.c.issuer_id == issuer.id, signing_keys.c.algorithm == mine)
    pem = "no key" if public == "none" else stranger
    connection.execute(sa.update(signing_keys).where(named).values(public_pem=pem))
    with pytest.raises(Invalid) as refused:
        issue(connection, site, achievement, proof)
    assert "cannot be signed" in refused.value.fields["credential"][0]


def test_after_a_change_of_keys_old_badges_verify_and_new_ones_have_the_new_key(
    connection: sa.Connection, site: Site
) -> None:
    issuer, achievement = add_profiles(connection, site)
    old = issue(connection, site, achievement)
    keys.rotate(connection, site, issuer.id, keys.RSA)
    new = issue(connection, site, achievement)
    kept = [credentials.find(connection, id) for id in (old, new)]
    assert kept[0].key_id != kept[1].key_id
    assert all(verifying.judge(connection, site, each).is_valid for each in kept)


def test_a_missing_key_is_made_once_and_then_found(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    connection.execute(sa.delete(signing_keys))
    made = keys.active_key(connection, site, issuer.id)
    assert keys.active_key(connection, site, issuer.id) == made


def test_without_the_secret_badges_verify_and_cannot_be_issued(connection: sa.Connection, site: Site) -> None:
    _, achievement = add_profiles(connection, site)
    id = issue(connection, site, achievement)
    for seal in (None, Seal("other")):
        other = replace(site, seal=seal)
        verdict = verifying.verify(connection, other, id)
        assert verdict is not None
        assert verdict.is_valid
        with pytest.raises(KeyMissing):
            issue(connection, other, achievement)
    assert statuses.read_status(connection, id) is not None
