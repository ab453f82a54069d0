"""What every signer keeps to, wherever its private part is."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from obms.badges import Seal, Signer, Site, credentials, keys, proofs, signatures, statuses, verifying
from obms.badges.signers import HeldKey, open_signer
from obms.domain import ProofKind
from obms.schema import status_lists
from tests.badges.conftest import NOW, add_profiles, issue
from tests.deployment import Deployment

PROGRAM = """
import sys
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
private = load_pem_private_key(open(sys.argv[1], "rb").read(), None)
for line in sys.stdin:
    more = (PKCS1v15(), SHA256()) if private.__class__.__name__.startswith("RSA") else ()
    print(private.sign(bytes.fromhex(line), *more).hex(), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A signer whose private part another process holds, as a hardware module does."""

    alg: str
    kid: str
    process: "subprocess.Popen[str]"

    def sign(self, signing_input: bytes) -> bytes:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(signing_input.hex() + "\n")
        self.process.stdin.flush()
        return bytes.fromhex(self.process.stdout.readline())


@pytest.fixture
def deployment(sqlite: Deployment) -> Deployment:
    """The kind of database does not matter here."""
    return sqlite


@pytest.fixture(params=keys.ALGORITHMS)
def key(request: pytest.FixtureRequest, connection: sa.Connection, site: Site) -> keys.SigningKey:
    issuer, _ = add_profiles(connection, site)
    return keys.active_key(connection, site, issuer.id, request.param)


@pytest.fixture(params=["held", "elsewhere"])
def signer(
    request: pytest.FixtureRequest, site: Site, key: keys.SigningKey, tmp_path: Path
) -> Iterator[Signer]:
    if request.param == "held":
        yield open_signer(site, key)
        return
    path = tmp_path / "private.pem"
    path.write_bytes(keys.private_pem(keys.unseal(site.require_seal(), key)))
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Elsewhere(alg=key.jose_name, kid=key.method(site.base_url), process=process)
        process.kill()


def test_its_token_verifies_by_the_public_part(site: Site, key: keys.SigningKey, signer: Signer) -> None:
    token = proofs.make_token({"text": "é"}, signer)
    assert jwt.decode(token, key.public_pem, algorithms=[signer.alg]) == {"text": "é"}
    assert jwt.get_unverified_header(token)["kid"] == key.method(site.base_url)


def test_a_badge_that_it_signs_verifies(
    connection: sa.Connection, site: Site, key: keys.SigningKey, signer: Signer
) -> None:
    _, achievement = add_profiles(connection, site, 2)
    other = replace(site, signers={key.id: signer}, seal=Seal("another"))
    connection.execute(
        sa.text("UPDATE achievements SET issuer_id = :issuer WHERE id = :id"),
        {"issuer": key.issuer_id, "id": achievement.id},
    )
    proof: ProofKind = "jwt" if key.algorithm == keys.RSA else "data-integrity"
    kept = credentials.find(connection, issue(connection, other, achievement, proof))
    assert kept.key_id == key.id
    assert verifying.judge(connection, other, kept).is_valid
    if key.algorithm == keys.ED25519:
        mine = sa.select(status_lists.c.id).where(status_lists.c.issuer_id == key.issuer_id)
        list_id = connection.execute(mine).scalars().first()
        assert statuses.sign_list(connection, other, str(list_id))


def test_what_a_proof_would_not_cover_is_not_signed(key: keys.SigningKey, signer: Signer) -> None:
    if key.algorithm == keys.RSA:
        pytest.skip("Data Integrity is signed with Ed25519")
    document: dict[str, object] = {"@context": ["https://unknown.example/context"], "id": "urn:x:1"}
    with pytest.raises(proofs.CannotBeSigned):
        proofs.add_proof(document, signer, NOW)


def test_both_ways_give_the_same_proof(site: Site, key: keys.SigningKey, signer: Signer) -> None:
    if key.algorithm == keys.RSA or isinstance(signer, HeldKey):
        pytest.skip("one comparison is enough")
    document: dict[str, object] = {
        "@context": ["https://www.w3.org/ns/credentials/v2"],
        "id": "urn:uuid:1",
        "type": ["VerifiableCredential"],
        "issuer": "did:example:1",
        "credentialSubject": {"id": "did:example:2"},
    }
    assert proofs.add_proof(document, signer, NOW) == proofs.add_proof(document, open_signer(site, key), NOW)


def test_a_held_key_does_not_show_its_private_part(site: Site, key: keys.SigningKey) -> None:
    shown = repr(open_signer(site, key))
    assert shown == f"HeldKey({key.method(site.base_url)})"


def test_a_token_of_another_algorithm_than_the_key_s_is_refused(key: keys.SigningKey) -> None:
    """A verifier that believes the header takes a public key for a secret (`none`, HS256)."""
    claims = {"text": "x"}
    for token in (
        jwt.encode(claims, "", algorithm="none"),
        jwt.encode(claims, "a secret of thirty-two bytes or more", algorithm="HS256"),
    ):
        with pytest.raises(signatures.BadSignature):
            signatures.check(token, "jwt", key.public_pem)


def test_a_key_of_an_unknown_kind_verifies_nothing() -> None:
    public = generate_private_key(SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(signatures.BadSignature, match="neither"):
        signatures.check("a.b.c", "jwt", pem)
