"""Encrypted backups: proven without a private key, opened with each recipient's and with no other."""

import gzip
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyrage import encrypt
from pyrage.x25519 import Identity

from obms.backup.encryption import Age
from obms.backup.recipients import unproven_recipients
from tests.backup.conftest import assert_nothing_is_left, found, images, lose_half, manifest_of
from tests.backup.test_damage import flip
from tests.deployment import Deployment
from tests.postgres import Server

needs_age = pytest.mark.skipif(shutil.which("age") is None, reason="needs the program `age` on PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Locked:
    """A server that knows two public keys, its files of private ones, and one proven, encrypted backup."""

    server: Deployment
    made: Any
    keys: dict[str, Path]

    @property
    def image(self) -> Path:
        return self.server.backup_dir / str(self.made["file"])

    def opened_by(self, name: str) -> dict[str, str]:
        return {"BACKUP_AGE_IDENTITY_FILE": str(self.keys[name])}


def public_of(path: Path) -> str:
    """The public key of a file as age-keygen writes it."""
    return str(Identity.from_str(path.read_text(encoding="utf-8").splitlines()[-1]).to_public())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Server
) -> Iterator[Locked]:
    with encrypting(
        tmp_path_factory.mktemp("locked"), postgres if request.param == "postgresql" else None
    ) as locked:
        shutil.copytree(locked.server.backup_dir, locked.server.folder / "good")
        yield locked


@contextmanager
def encrypting(folder: Path, postgres: Server | None) -> Iterator[Locked]:
    """A server that encrypts its backups, and has made one."""
    keys = {}
    for name in ("operator", "escrow", "stranger"):
        identity = Identity.generate()
        keys[name] = folder / f"{name}.txt"
        keys[name].write_text(f"# public key: {identity.to_public()}\n{identity}\n", encoding="utf-8")
    with Deployment.made(folder, postgres) as server:
        recipients = f"{public_of(keys['operator'])}, {public_of(keys['escrow'])}"
        server.environment["BACKUP_AGE_RECIPIENTS"] = recipients
        server.seed(number=1)
        yield Locked(server=server, made=server.made_backup(), keys=keys)


@pytest.fixture
def locked(made: Locked) -> Iterator[Locked]:
    yield made
    shutil.rmtree(made.server.backup_dir)
    shutil.copytree(made.server.folder / "good", made.server.backup_dir)


def test_a_run_with_public_keys_alone_is_encrypted_and_proven(locked: Locked) -> None:
    manifest = manifest_of(locked.server, locked.made["id"])
    assert locked.made["proven"]
    assert locked.made["file"].endswith(".gz.age")
    assert locked.image.read_bytes().startswith(b"age-encryption.org/v1\n")
    assert manifest.codecs == ("gzip", "age")
    assert set(manifest.recipients) == {public_of(locked.keys[name]) for name in ("operator", "escrow")}


def test_r15_the_key_of_the_run_is_forgotten_with_it(locked: Locked) -> None:
    """What proved it is gone: without a private key nobody looks into it again."""
    before = images(locked.server)
    answer = locked.server.obms("backup", "verify", locked.made["id"])
    assert answer.code == 10, answer.err
    assert "BACKUP_AGE_IDENTITY_FILE" in answer.err
    assert found(locked.server, locked.made["id"]).proven
    assert images(locked.server) == before


@pytest.mark.parametrize("name", ["operator", "escrow"])
def test_each_recipient_verifies_and_restores(locked: Locked, name: str) -> None:
    server, key = locked.server, locked.opened_by(name)
    before = server.database.facts()
    assert server.obms("backup", "verify", locked.made["id"], **key).code == 0
    lose_half(server)
    answer = server.obms("restore", "latest", "--yes", "--json", **key)
    assert answer.code == 0, answer.err
    assert server.database.facts() == before
    # The safety backup was encrypted too, and the way back needs the key as well.
    assert found(server, answer.json["safety_backup"]).file.endswith(".gz.age")


@pytest.mark.parametrize("key", ["none", "wrong", "missing", "empty", "garbage", "binary"])
def test_r15_no_key_or_a_wrong_one_touches_nothing(locked: Locked, key: str) -> None:
    server = locked.server
    path = server.folder / "identity"
    path.unlink(missing_ok=True)
    environment = {} if key == "none" else {"BACKUP_AGE_IDENTITY_FILE": str(path)}
    content = {
        "wrong": locked.keys["stranger"].read_bytes(),
        "empty": b"# nothing\n\n",
        "garbage": b"AGE-SECRET-KEY-1SOMETHINGSECRET\n",
        "binary": b"\xff\xfe",
    }
    if key in content:
        path.write_bytes(content[key])
    before, files = server.database.facts(), images(server)
    for command in (
        ("restore", "latest", "--yes"),
        ("restore", "latest", "--dry-run"),
        ("backup", "verify", locked.made["id"], "--level", "intact"),
        ("backup", "verify", locked.made["id"]),
    ):
        answer = server.obms(*command, **environment)
        assert answer.code == 10, answer.err
        assert "SOMETHINGSECRET" not in answer.err + answer.out
    assert server.database.facts() == before
    assert images(server) == files
    assert_nothing_is_left(server)


def sections(image: Path) -> dict[str, int]:
    """Where the sections of an age file begin, a little further in."""
    data = image.read_bytes()
    mac = data.index(b"\n--- ") + 1
    payload = data.index(b"\n", mac) + 1
    return {
        "version": 3,
        "first recipient's share": data.index(b"-> X25519 ") + 15,
        "first recipient's key": data.index(b"-> X25519 ") + 60,
        "own key's stanza": data.rindex(b"-> X25519 ", 0, mac) + 15,
        "MAC": mac + 10,
        "nonce": payload + 5,
        "first byte": payload + 16,
        "middle": (payload + len(data)) // 2,
        "last byte": len(data) - 1,
    }


@pytest.mark.parametrize("with_key", [True, False], ids=["with a key", "without"])
def test_k6_a_bit_in_any_section_of_an_encrypted_image_is_damage(locked: Locked, with_key: bool) -> None:
    good, server = locked.image.read_bytes(), locked.server
    key = locked.opened_by("operator") if with_key else {}
    before, missed = server.database.facts(), []
    for section, place in sections(locked.image).items():
        flip(locked.image, place)
        codes = [
            server.obms("backup", "verify", locked.made["id"], "--level", "intact", **key).code,
            server.obms("restore", locked.made["id"], "--yes", **key).code,
        ]
        missed += [section] if codes != [5, 5] else []
        locked.image.write_bytes(good)
    assert missed == []
    assert server.database.facts() == before


@pytest.mark.parametrize("keep", [0, 1, 30, 150, 400, 5000, -17, -1])
def test_k6_a_truncated_encrypted_image_is_damage(locked: Locked, keep: int) -> None:
    locked.image.write_bytes(locked.image.read_bytes()[:keep])
    answer = locked.server.obms("backup", "verify", locked.made["id"], **locked.opened_by("operator"))
    assert answer.code == 5, answer.err
    assert not found(locked.server, locked.made["id"]).proven


@needs_age
@pytest.mark.parametrize("name", ["operator", "escrow"])
def test_stock_tools_open_it(locked: Locked, name: str) -> None:
    """`age -d | gunzip`, and then what reads a database: rule 3 of the design."""
    aged = subprocess.Popen(
        ["age", "-d", "-i", str(locked.keys[name]), str(locked.image)], stdout=subprocess.PIPE
    )
    with aged, subprocess.Popen(["gunzip"], stdin=aged.stdout, stdout=subprocess.PIPE) as unzipped:
        plain = unzipped.communicate()[0]
    assert (aged.returncode, unzipped.returncode) == (0, 0)
    rows = manifest_of(locked.server, locked.made["id"]).rows["credentials"]
    if locked.server.postgres is None:
        path = locked.server.folder / f"{name}.db"
        path.write_bytes(plain)
        with sqlite3.connect(path) as connection:
            counted = connection.execute("SELECT count(*) FROM credentials").fetchone()[0]
        connection.close()
    else:
        counted = loaded_by_psql(locked.server.postgres, plain)
    assert counted == rows


def loaded_by_psql(postgres: Server, script: bytes) -> int:
    postgres.psql("CREATE DATABASE stock_tools")
    try:
        psql = [str(postgres.bin_dir / "psql"), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", "stock_tools"]
        subprocess.run(psql, input=script, env=postgres.environment(), check=True, stdout=subprocess.DEVNULL)
        return int(postgres.psql("SELECT count(*) FROM credentials", "stock_tools"))
    finally:
        postgres.psql("DROP DATABASE stock_tools WITH (FORCE)")


@pytest.mark.parametrize("armored", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_r9_a_file_that_was_encrypted_by_hand_restores(locked: Locked, packed: bool, armored: bool) -> None:
    server, key = locked.server, locked.opened_by("operator")
    before = server.database.facts()
    with server.database.snapshot() as snapshot:
        plain = b"".join(snapshot.chunks())
    recipient = Identity.from_str(locked.keys["operator"].read_text().splitlines()[-1]).to_public()
    file = server.folder / "by hand"
    file.write_bytes(encrypt(gzip.compress(plain) if packed else plain, [recipient], armored=armored))
    lose_half(server)
    assert server.obms("restore", str(file), "--yes").code == 10
    assert server.obms("restore", str(file), "--yes", **locked.opened_by("stranger")).code == 10
    answer = server.obms("restore", str(file), "--yes", **key)
    assert answer.code == 0, answer.err
    assert server.database.facts() == before


@needs_age
def test_r9_what_stock_age_encrypted_restores(locked: Locked) -> None:
    server = locked.server
    with server.database.snapshot() as snapshot:
        plain = b"".join(snapshot.chunks())
    file = server.folder / "by age"
    recipient = public_of(locked.keys["escrow"])
    subprocess.run(["age", "-r", recipient, "-o", str(file)], input=gzip.compress(plain), check=True)
    answer = server.obms("restore", str(file), "--dry-run", **locked.opened_by("escrow"))
    assert answer.code == 0, answer.err
    file.unlink()


def test_it_is_known_whose_key_has_opened_a_backup(locked: Locked) -> None:
    server = locked.server
    operator, escrow = (public_of(locked.keys[name]) for name in ("operator", "escrow"))

    def never_opened() -> tuple[str, ...]:
        return unproven_recipients(server.backups)

    assert never_opened() == (operator, escrow)
    assert server.obms("backup", "verify", locked.made["id"], **locked.opened_by("operator")).code == 0
    assert never_opened() == (escrow,)
    assert server.obms("restore", "latest", "--yes", **locked.opened_by("escrow")).code == 0
    assert never_opened() == ()
    # Somebody's word that a key fits is not taken.
    record = server.backup_dir / "recipients.json"
    record.write_bytes(record.read_bytes().replace(b'"opened"', b'"0pened"'))
    assert never_opened() == (operator, escrow)


def test_a_private_key_among_the_public_ones_is_told_and_not_shown(sqlite: Deployment) -> None:
    secret = str(Identity.generate())
    answer = sqlite.obms("backup", "run", BACKUP_AGE_RECIPIENTS=secret)
    assert answer.code == 2, answer.err
    assert "BACKUP_AGE_RECIPIENTS" in answer.err
    assert secret not in answer.err + answer.out
    assert images(sqlite) == []


def test_no_private_key_is_shown_anywhere(locked: Locked) -> None:
    key = locked.opened_by("operator")
    secret = locked.keys["operator"].read_text(encoding="utf-8").splitlines()[-1]
    said = ""
    for command in (("backup", "show", "latest"), ("backup", "verify", "latest", "--json")):
        answer = locked.server.obms(*command, **key)
        said += answer.out + answer.err
    codec = Age((), locked.keys["operator"])
    said += repr(codec) + repr(codec.with_own_key()) + repr(locked.server.backups)
    assert secret not in said
    assert "AGE-SECRET" not in said
