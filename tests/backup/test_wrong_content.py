"""K7: images that are whole and wrong, under manifests that agree with them; the proof finds each one."""

import gzip
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from obms.backup.manifest import MANIFEST_END, VERDICT_END, Manifest, Verdict
from obms.backup.signing import Signer
from obms.badges import credentials as badges
from obms.badges import examining
from obms.databases import Database, writing
from obms.schema import credentials, images, revocations, signing_keys, status_entries
from tests.backup.conftest import found, manifest_of
from tests.deployment import Deployment
from tests.postgres import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A server with one proven backup, whose files each test changes and puts back."""

    server: Deployment
    id: str

    @property
    def manifest(self) -> Manifest:
        return manifest_of(self.server, self.id)

    @property
    def image(self) -> Path:
        return self.server.backup_dir / found(self.server, self.id).file

    def put(self, plain: bytes, **change: Any) -> None:
        """This image under this name, with a manifest that agrees with its bytes."""
        stored = gzip.compress(plain, 1)
        honest = {
            "raw_bytes": len(plain),
            "raw_sha256": hashlib.sha256(plain).hexdigest(),
            "bytes": len(stored),
            "sha256": hashlib.sha256(stored).hexdigest(),
        }
        manifest = replace(self.manifest, **{**honest, **change}).signed(self.server.backups.signer)
        self.image.write_bytes(stored)
        Path(f"{self.image}{MANIFEST_END}").write_bytes(manifest.to_bytes())


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: Server
) -> Iterator[Original]:
    folder = tmp_path_factory.mktemp("wrong")
    with Deployment.made(folder, postgres if request.param == "postgresql" else None) as server:
        server.seed(number=1)
        server.seed(12, number=2, proof="data-integrity")
        backup = server.made_backup()
        shutil.copytree(server.backup_dir, folder / "good")
        yield Original(server=server, id=backup["id"])


@pytest.fixture
def original(made: Original) -> Iterator[Original]:
    yield made
    shutil.rmtree(made.server.backup_dir)
    shutil.copytree(made.server.folder / "good", made.server.backup_dir)


Change = Callable[[sa.Connection], object]


def without_foreign_keys(copy: Database) -> None:
    """So that a change may do what the database itself would refuse."""
    if copy.kind == "postgresql":
        with writing(copy.engine) as connection:
            name = copy.engine.url.database
            connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET session_replication_role = replica')
        copy.engine.dispose()
        return
    # The pool has this one connection, and gives it again.
    pooled = copy.engine.raw_connection()
    pooled.cursor().execute("PRAGMA foreign_keys=OFF")
    pooled.close()


@contextmanager
def changed_copy(original: Original, change: Change) -> Iterator[Database]:
    """A scratch database with the content of the backup, changed."""
    image = original.server.folder / "plain"
    image.write_bytes(gzip.decompress(original.image.read_bytes()))
    with original.server.database.scratch() as copy:
        copy.load(image)
        without_foreign_keys(copy)
        with writing(copy.engine) as connection:
            change(connection)
        yield copy


def run(statement: str) -> Change:
    return lambda connection: connection.exec_driver_sql(statement)


def forge(proof: str) -> Change:
    """Every badge of one kind says something else than was signed."""

    def change(connection: sa.Connection) -> None:
        query = sa.select(credentials.c.id).where(credentials.c.proof == proof)
        for id in connection.execute(query).scalars().all():
            kept = badges.find(connection, id)
            connection.execute(
                sa.update(credentials).where(credentials.c.id == id).values(document=examining.forge(kept))
            )

    return change


def swap_all_documents(connection: sa.Connection) -> None:
    rows = connection.execute(
        sa.select(credentials.c.id, credentials.c.document).order_by(credentials.c.id)
    ).all()
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        connection.execute(
            sa.update(credentials).where(credentials.c.id == row.id).values(document=other.document)
        )


def clear_revoked_bits(connection: sa.Connection) -> None:
    connection.execute(sa.update(status_entries).values(value=False))


def unrevoke(connection: sa.Connection) -> None:
    connection.execute(sa.delete(revocations))
    clear_revoked_bits(connection)


def swap_public_keys(connection: sa.Connection) -> None:
    rows = connection.execute(sa.select(signing_keys.c.id, signing_keys.c.public_pem)).all()
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        connection.execute(
            sa.update(signing_keys).where(signing_keys.c.id == row.id).values(public_pem=other.public_pem)
        )


def lose_newest(connection: sa.Connection) -> None:
    newest = sa.select(credentials.c.id).order_by(credentials.c.created_at.desc()).limit(1).scalar_subquery()
    connection.execute(sa.delete(credentials).where(credentials.c.id == newest))


def damage_sealed_keys(connection: sa.Connection) -> None:
    for key in connection.execute(sa.select(signing_keys)).all():
        sealed = bytes(key.sealed_private[:-1]) + bytes([key.sealed_private[-1] ^ 1])
        connection.execute(
            sa.update(signing_keys).where(signing_keys.c.id == key.id).values(sealed_private=sealed)
        )


def lose_images(connection: sa.Connection) -> None:
    connection.execute(sa.update(images).values(content=b"404 Not Found"))


# What changes the counts of rows is seen by them, and on PostgreSQL also by the digests of the manifest.
SEEN_BY_COUNTS: dict[str, Change] = {
    "a table missing": run("DROP TABLE revocations"),
    "a table more": run("CREATE TABLE stranger (n integer)"),
    "a row dropped": lose_newest,
    "all rows of a table dropped": run("DELETE FROM achievements"),
    "a row more": run(
        "INSERT INTO users (id, username, email, created_at) VALUES ('u', 'u', 'u', '2026-01-01 00:00:00')"
    ),
    "revocations undone": unrevoke,
    "another revision": run("UPDATE alembic_version SET version_num = '0001'"),
    "no revision": run("DELETE FROM alembic_version"),
}
# What does not is seen by the application that is started on the copy.
SEEN_BY_THE_APPLICATION: dict[str, Change] = {
    "a revoked bit cleared": clear_revoked_bits,
    "a bit set that no revocation explains": run("UPDATE status_entries SET value = true"),
    "forged JWT badges": forge("jwt"),
    "forged Data Integrity badges": forge("data-integrity"),
    "badges under each other's ids": swap_all_documents,
    "public keys exchanged": swap_public_keys,
    "a sealed key damaged": damage_sealed_keys,
    "images that are none": lose_images,
    "lists that count fewer places than they gave": run("UPDATE status_lists SET next_index = 0"),
    "badges of another's achievement": run(
        "UPDATE achievements SET issuer_id = (SELECT min(id) FROM issuers)"
    ),
}


@pytest.mark.parametrize("wrong", SEEN_BY_COUNTS)
def test_k7_an_image_that_is_not_what_its_manifest_tells_is_found(original: Original, wrong: str) -> None:
    with changed_copy(original, SEEN_BY_COUNTS[wrong]) as copy, copy.snapshot() as snapshot:
        original.put(b"".join(snapshot.chunks()))
    assert_turned_down(original, level="intact")


def test_k7_a_changed_value_is_seen_by_the_digests(original: Original) -> None:
    """Of SQLite the image is the content, so that only its hash could tell; the manifest has no digests."""
    rename = run("UPDATE users SET username = username || '?'")
    with changed_copy(original, rename) as copy, copy.snapshot() as snapshot:
        original.put(b"".join(snapshot.chunks()))
    answer = original.server.obms("backup", "verify", original.id, "--json")
    failed = [check["name"] for check in answer.json["checks"] if not check["ok"]]
    if original.server.postgres is None:
        assert (answer.code, failed) == (0, [])
    else:
        assert (answer.code, failed) == (6, ["digests"])


@pytest.mark.parametrize("wrong", SEEN_BY_THE_APPLICATION)
def test_k7_an_image_whose_manifest_agrees_with_it_is_found_by_the_application(
    original: Original, wrong: str
) -> None:
    with changed_copy(original, SEEN_BY_THE_APPLICATION[wrong]) as copy, copy.snapshot() as snapshot:
        plain = b"".join(snapshot.chunks())
        original.put(plain, digests=snapshot.facts().digests)
    assert_turned_down(original, level="restorable")


def assert_turned_down(original: Original, *, level: str) -> None:
    answer = original.server.obms("backup", "verify", original.id, "--json")
    assert answer.code == 6, answer.err
    assert (answer.json["ok"], answer.json["outcome"], answer.json["level"]) == (False, "bad", level)
    (listed,) = original.server.obms("backup", "list", "--json").json
    assert (listed["state"], listed["proven"]) == ("bad", False)
    assert original.server.obms("restore", "latest", "--dry-run").code == 2


def test_k7_an_image_without_a_schema_is_turned_down_although_its_manifest_tells_of_none(
    original: Original,
) -> None:
    with original.server.database.scratch() as copy:
        copy.create()
        with writing(copy.engine) as connection:
            connection.exec_driver_sql("CREATE TABLE stranger (n integer)")
        with copy.snapshot() as snapshot:
            plain, facts = b"".join(snapshot.chunks()), snapshot.facts()
    original.put(plain, revision=facts.revision, rows=facts.rows, digests=facts.digests)
    assert_turned_down(original, level="intact")


def test_k7_an_older_image_under_a_newer_manifest_is_found(original: Original) -> None:
    with changed_copy(original, lose_newest) as copy:
        rows, digests = copy.facts().rows, copy.facts().digests
        claimed = original.manifest
    assert rows != claimed.rows
    older = gzip.decompress(original.image.read_bytes())
    original.put(older, rows=rows, digests=digests if claimed.digests else {})
    assert_turned_down(original, level="intact")


def test_k7_an_unchanged_image_that_is_put_the_same_way_is_proven(original: Original) -> None:
    """Otherwise the tests above would say nothing."""
    with changed_copy(original, lambda _connection: None) as copy, copy.snapshot() as snapshot:
        original.put(b"".join(snapshot.chunks()))
    answer = original.server.obms("backup", "verify", original.id, "--json")
    assert (answer.code, answer.json["level"]) == (0, "proven")


def test_k7_what_is_wrong_is_not_restored(original: Original) -> None:
    before = original.server.database.facts()
    with changed_copy(original, SEEN_BY_COUNTS["a row dropped"]) as copy, copy.snapshot() as snapshot:
        original.put(b"".join(snapshot.chunks()))
    answer = original.server.obms("restore", original.id, "--yes")
    assert answer.code == 5
    assert "rows" in answer.err
    assert original.server.database.facts() == before


def put_older_image_of_equal_counts(original: Original) -> Manifest:
    """One value was changed since, and the image from before it lies there, with its right hashes."""
    rename = run("UPDATE users SET username = username || '?'")
    with changed_copy(original, rename) as copy, copy.snapshot() as snapshot:
        plain = b"".join(snapshot.chunks())
        digests = snapshot.facts().digests
    original.put(plain, digests=digests)
    return original.manifest


def write_manifest(original: Original, manifest: Manifest) -> None:
    Path(f"{original.image}{MANIFEST_END}").write_bytes(manifest.to_bytes())


def forge_verdict(original: Original, manifest: Manifest, signer: Signer | None) -> None:
    """A verdict about this manifest that says it is proven, written by somebody else."""
    path = Path(f"{original.image}{VERDICT_END}")
    verdict = Verdict.from_bytes("v", path.read_bytes())
    path.write_bytes(replace(verdict, manifest=manifest.fingerprint).signed(signer).to_bytes())


STRANGER = Signer(b"somebody else's key".ljust(32))


@pytest.mark.parametrize(
    ("signer", "code", "said"),
    [(None, 8, "--accept-unsigned"), (STRANGER, 10, "--accept-other-key")],
    ids=["not signed", "signed by a stranger"],
)
def test_k7_an_older_image_under_a_rewritten_manifest_is_found(
    original: Original, signer: Signer | None, code: int, said: str
) -> None:
    """All in it agrees, a forged verdict too; but only the holder of SECRET_KEY can sign it."""
    manifest = put_older_image_of_equal_counts(original).signed(signer)
    write_manifest(original, manifest)
    forge_verdict(original, manifest, signer)
    server = original.server
    (listed,) = server.obms("backup", "list", "--json").json
    assert (listed["state"], listed["signature"]) == ("unproven", "other" if signer else "none")
    assert "signed" in server.obms("backup", "list").out
    before = server.database.facts()
    for name in (original.id, "latest"):
        refused = server.obms("restore", name, "--yes")
        assert refused.code == code, refused.err
        assert said in refused.err
    judged = server.obms("backup", "verify", original.id, "--json")
    assert (judged.code, judged.json["outcome"], judged.json["level"]) == (6, "unknown", "restorable")
    assert [check["name"] for check in judged.json["checks"] if not check["ok"]] == ["signature"]
    assert said in judged.err
    assert server.database.facts() == before


def test_k7_a_manifest_rewritten_under_its_old_signature_is_damage(original: Original) -> None:
    manifest = put_older_image_of_equal_counts(original)
    write_manifest(original, replace(manifest, reason="another"))
    assert original.server.obms("backup", "verify", original.id).code == 5
    assert original.server.obms("restore", original.id, "--yes").code == 5


@pytest.mark.parametrize("signer", [None, STRANGER], ids=["not signed", "signed by a stranger"])
def test_a_manifest_that_is_not_ours_can_be_accepted_and_is_then_vouched_for(
    original: Original, signer: Signer | None
) -> None:
    server, option = original.server, "--accept-other-key" if signer else "--accept-unsigned"
    write_manifest(original, original.manifest.signed(signer))
    assert server.obms("restore", original.id, "--dry-run").code == (10 if signer else 8)
    assert server.obms("restore", original.id, "--dry-run", option).code == 0
    assert server.obms("backup", "verify", original.id, option).code == 0
    (listed,) = server.obms("backup", "list", "--json").json
    assert (listed["state"], listed["signature"]) == ("proven", "other" if signer else "none")
    # The proof is signed with our key, and names this very manifest.
    assert server.obms("backup", "verify", original.id).code == 0
    restored = server.obms("restore", "latest", "--yes", "--json")
    assert restored.code == 0, restored.err
    (told,) = [check for check in restored.json["checks"] if check["name"] == "signature"]
    assert told["ok"]
    assert "signed with this SECRET_KEY names it" in told["detail"]
