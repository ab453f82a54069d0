"""Keys: of two kinds, rotated and retired, and all of them published."""

import json
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from openbadgeslib.ob3.did import pem_for_kid

from obms.badges import Site, credentials, issuing, key_documents, keys, tokens, verifying
from obms.badges.keys import ALGORITHMS, ED25519, RSA
from obms.domain import Algorithm, JoseName, ProofKind
from obms.errors import Invalid, KeyDamaged, NotFound
from obms.schema import signing_keys
from obms.specs import issuer_did
from tests.badges.conftest import NOW, Clock, add_profiles, issue, order_for

KINDS: list[tuple[ProofKind, JoseName | None, Algorithm]] = [
    ("data-integrity", None, ED25519),
    ("jwt", None, RSA),
    ("jwt", "RS256", RSA),
    ("jwt", "EdDSA", ED25519),
]


def test_an_issuer_has_a_key_of_each_kind_from_its_start(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    assert {key.algorithm for key in keys.keys_of(connection, issuer.id)} == set(ALGORITHMS)


@pytest.mark.parametrize(("proof", "alg", "algorithm"), KINDS)
def test_a_badge_is_signed_by_the_kind_of_key_that_it_asks_for_and_outlives_its_rotation(
    connection: sa.Connection,
    site: Site,
    clock: Clock,
    proof: ProofKind,
    alg: JoseName | None,
    algorithm: Algorithm,
) -> None:
    issuer, achievement = add_profiles(connection, site)
    orders = order_for(achievement, proof=proof, alg=alg)
    old = credentials.find(connection, issuing.issue(connection, site, orders))
    clock.advance(days=1)
    fresh = keys.rotate(connection, site, issuer.id, algorithm)
    new = credentials.find(connection, issuing.issue(connection, site, orders))
    assert (new.key_id, fresh.algorithm) == (fresh.id, algorithm)
    assert old.key_id != new.key_id
    for kept in (old, new):
        verdict = verifying.judge(connection, site, kept)
        assert verdict.is_valid, verdict.detail
        assert verdict.cryptosuite == (alg or {"jwt": "RS256"}.get(proof, "eddsa-rdfc-2022"))
        assert [check.name for check in verdict.checks if not check.ok] == []
        _check_that_the_published_key_fits(connection, site, kept, verdict.verification_method)


def _check_that_the_published_key_fits(
    connection: sa.Connection, site: Site, kept: credentials.Kept, method: str | None
) -> None:
    """As a stranger finds it: the DID document and the JWKS, by the name in the proof."""
    did = issuer_did(site.base_url, kept.issuer_id)
    document = key_documents.did_document(connection, kept.issuer_id, site.base_url)
    key = keys.read_key(connection, kept.key_id)
    assert document is not None
    assert key is not None
    assert pem_for_kid(document, did, method).decode() == key.public_pem
    published: Any = key_documents.jwks(connection, site.base_url)["keys"]
    named = next(each for each in published if each["kid"] == method)
    if kept.proof == "jwt":
        jwt.decode(kept.document, jwt.PyJWK(named), algorithms=[named["alg"]], options={"verify_exp": False})
        assert jwt.get_unverified_header(kept.document)["typ"] == "vc+jwt"


def test_the_documents_of_a_key_hold_no_private_part(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    shown = json.dumps(
        [
            key_documents.jwks(connection, site.base_url),
            key_documents.did_document(connection, issuer.id, site.base_url),
            key_documents.site_did_document(connection, site.base_url),
            key_documents.public_keys(connection, site.base_url),
        ]
    )
    assert '"d"' not in shown
    assert "PRIVATE" not in shown
    assert shown.count('"publicKeyMultibase"') == shown.count('"JsonWebKey"') == 3


def test_rotating_one_kind_leaves_the_other_alone(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    before = keys.active_key(connection, site, issuer.id, RSA)
    keys.rotate(connection, site, issuer.id, ED25519)
    assert keys.active_key(connection, site, issuer.id, RSA) == before
    assert len(keys.keys_of(connection, issuer.id)) == 3


def test_a_retired_key_is_retired_once_and_its_successor_signs(
    connection: sa.Connection, site: Site, clock: Clock
) -> None:
    issuer, achievement = add_profiles(connection, site)
    key = keys.active_key(connection, site, issuer.id, RSA)
    assert keys.retire(connection, site, key.id)[1]
    clock.advance(days=1)
    retired, changed = keys.retire(connection, site, key.id)
    assert (retired.retired_at, changed) == (NOW, False)
    assert credentials.find(connection, issue(connection, site, achievement)).key_id != key.id
    with pytest.raises(NotFound):
        keys.retire(connection, site, "none")


def test_a_key_can_be_named_if_it_is_one_of_the_issuer_in_use_and_of_the_right_kind(
    connection: sa.Connection, site: Site
) -> None:
    issuer, _ = add_profiles(connection, site)
    other, _ = add_profiles(connection, site, 2)
    named = keys.active_key(connection, site, issuer.id, RSA)
    assert keys.choose_key(connection, site, issuer.id, RSA, named.id) == named
    foreign = keys.active_key(connection, site, other.id, RSA)
    edwards = keys.active_key(connection, site, issuer.id, ED25519)
    keys.retire(connection, site, named.id)
    for key_id in (foreign.id, edwards.id, named.id, "none"):
        with pytest.raises(Invalid) as caught:
            keys.choose_key(connection, site, issuer.id, RSA, key_id)
        assert list(caught.value.fields) == ["keyId"]


def test_a_private_part_of_another_kind_is_told_as_damage(connection: sa.Connection, site: Site) -> None:
    issuer, _ = add_profiles(connection, site)
    key = keys.active_key(connection, site, issuer.id, ED25519)
    connection.execute(
        sa.update(signing_keys)
        .where(signing_keys.c.id == key.id)
        .values(sealed_private=site.require_seal().seal(b"short", key.id))
    )
    damaged = keys.active_key(connection, site, issuer.id, ED25519)
    with pytest.raises(KeyDamaged):
        keys.unseal(site.require_seal(), damaged)


def test_a_badge_of_data_integrity_is_given_as_token_too(connection: sa.Connection, site: Site) -> None:
    issuer, achievement = add_profiles(connection, site)
    kept = credentials.find(connection, issue(connection, site, achievement, "data-integrity"))
    key = keys.active_key(connection, site, issuer.id, RSA)
    token = tokens.as_token(site, key, kept)
    assert token == tokens.as_token(site, key, kept)
    claims = jwt.decode(token, key.public_pem, algorithms=["RS256"])
    document = json.loads(kept.document)
    del document["proof"]
    assert {name: claims[name] for name in document} == document
    assert set(claims) - set(document) == {"iss", "jti", "nbf"}
