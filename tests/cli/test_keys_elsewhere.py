"""SIGNERS and `obms keys adopt`: a key that another process holds, as a hardware module does."""

import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from obms.badges import keys
from obms.errors import ConfigurationError
from obms.schema import audit_events, signing_keys
from obms.web import create_app
from tests.badges.test_signers import PROGRAM
from tests.deployment import Deployment
from tests.web.conftest import Client, order

MODULE = """
import subprocess, sys
PROCESSES = []

class Elsewhere:
    def __init__(self, alg, kid, path):
        self.alg, self.kid = alg, kid
        command = [sys.executable, "-c", {program!r}, path]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        PROCESSES.append(self.process)

    def sign(self, signing_input):
        self.process.stdin.write(signing_input.hex() + "\\n")
        self.process.stdin.flush()
        return bytes.fromhex(self.process.stdout.readline())

def open_signers():
    return {{id: Elsewhere(*how) for id, how in {signers!r}.items()}}

NONE = 17
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """What is kept elsewhere: the id of each key, and the file of its public part."""

    issuer: str
    module: str
    public: dict[str, Path]
    weak: tuple[str, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """A signer that gives nothing."""

    alg: str
    kid: str

    def sign(self, signing_input: bytes) -> bytes:
        return signing_input[:0]


@pytest.fixture
def client(sqlite: Deployment) -> Client:
    return Client(app=create_app(sqlite.application))


@pytest.fixture
def vault(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A deployment that signs with two keys which are not in its database."""
    issuer, module = client.add_issuer(), f"vault_{uuid.uuid4().hex}"
    held: dict[str, keys.PrivateKey] = {
        "EdDSA": Ed25519PrivateKey.generate(),
        "RS256": keys.new_private(keys.RSA),
        "weak": rsa.generate_private_key(65537, 1024),  # noqa: S505
    }
    signers, public = {}, {}
    for name, private in held.items():
        id, path = str(uuid.uuid4()), tmp_path / f"{name}.pem"
        path.write_bytes(keys.private_pem(private))
        public[id] = path.with_suffix(".pub")
        public[id].write_text(keys.public_pem(private), encoding="ascii")
        signers[id] = (name.replace("weak", "RS256"), f"{issuer}#{id}", str(path))
    (tmp_path / f"{module}.py").write_text(MODULE.format(program=PROGRAM, signers=signers), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    weak = public.popitem()
    yield Vault(issuer=issuer, module=module, public=public, weak=weak)
    for process in sys.modules[module].PROCESSES:
        process.kill()
        process.communicate()


def test_an_issuer_signs_by_keys_that_are_not_in_its_database(sqlite: Deployment, vault: Vault) -> None:
    sqlite.environment["SIGNERS"] = f"{vault.module}:open_signers"
    for id, path in vault.public.items():
        answer = sqlite.obms("keys", "adopt", vault.issuer, id, str(path), "--json")
        assert (answer.code, answer.json["id"] if answer.code == 0 else "") == (0, id), answer.err
    client = Client(app=create_app(sqlite.application))
    achievement = client.add_achievement(vault.issuer)
    for proof in ("data-integrity", "jwt"):
        verdict = client.get(f"/credentials/{client.issue(achievement, proof=proof)}/verify").json()
        assert verdict["isValid"]
        assert verdict["verificationMethod"].rpartition("#")[2] in vault.public
    assert sqlite.made_backup()["proven"]
    with sqlite.database.engine.connect() as connection:
        row = signing_keys.c
        sealed = {each.id: each.sealed_private for each in connection.execute(sa.select(signing_keys))}
        in_use = connection.execute(sa.select(row.id).where(row.retired_at.is_(None))).scalars().all()
        acts = connection.execute(sa.select(audit_events.c.action)).scalars().all()
    assert {id for id, private in sealed.items() if not private} == set(in_use) == set(vault.public)
    assert acts.count("key.adopt") == len(vault.public)

    del sqlite.environment["SIGNERS"]
    answer = sqlite.obms("backup", "run")
    assert (answer.code, "kept elsewhere" in answer.out + answer.err) == (6, True), answer.err


def test_a_signer_that_does_not_sign_any_more_ends_in_an_error_and_not_in_a_badge(
    sqlite: Deployment, vault: Vault
) -> None:
    sqlite.environment["SIGNERS"] = f"{vault.module}:open_signers"
    for id, path in vault.public.items():
        assert sqlite.obms("keys", "adopt", vault.issuer, id, str(path)).code == 0
    server = sqlite.application
    mute = {id: Mute(alg=each.alg, kid=each.kid) for id, each in server.site.signers.items()}
    client = Client(app=create_app(replace(server, site=replace(server.site, signers=mute))))
    achievement = client.add_achievement(vault.issuer)
    for proof in ("data-integrity", "jwt"):
        answer = client.post("/credentials", order(achievement, proof=proof))
        assert (answer.status_code, "no signature" in answer.text) == (500, True), answer.text
    assert client.get("/credentials").json() == []


def test_a_key_is_adopted_only_where_it_signs_what_its_public_part_verifies(
    sqlite: Deployment, client: Client, vault: Vault
) -> None:
    (id, public), (_, other) = vault.public.items()
    sqlite.environment["SIGNERS"] = f"{vault.module}:open_signers"
    stranger, unknown = client.add_issuer(), str(uuid.uuid4())
    before = sqlite.obms("keys", "list").out
    for arguments in (
        (vault.issuer, id, other),
        (vault.issuer, *vault.weak),
        (vault.issuer, id, public.with_suffix(".pem")),
        (vault.issuer, id, public.with_name("missing")),
        (stranger, id, public),
        (vault.issuer, unknown, public),
        (vault.issuer, "no-uuid", public),
        (unknown, id, public),
    ):
        answer = sqlite.obms("keys", "adopt", *map(str, arguments))
        assert answer.code == 2, (arguments, answer.err)
    assert sqlite.obms("keys", "list").out == before
    assert sqlite.obms("keys", "adopt", vault.issuer, id, str(public)).code == 0
    assert "here already" in sqlite.obms("keys", "adopt", vault.issuer, id, str(public)).err


def test_a_place_that_gives_no_signers_is_told_at_once(sqlite: Deployment, vault: Vault) -> None:
    for place in (
        "missing_module:open_signers",
        f"{vault.module}:missing",
        f"{vault.module}:NONE",
        "x",
        "a:b:c",
    ):
        answer = sqlite.obms("keys", "list", SIGNERS=place)
        assert (answer.code, "SIGNERS" in answer.err) == (2, True), answer.err
    sqlite.environment["SIGNERS"] = "os:getcwd"
    with pytest.raises(ConfigurationError, match="no mapping"):
        _ = sqlite.application
