"""The application's proof of a copy: what is sound passes, and each check says no to its own fault."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import sqlalchemy as sa

from obms.backup.manifest import Check
from obms.badges import Seal, credentials, examining, signatures
from obms.databases import Database
from obms.errors import KeyMissing
from obms.schema import credentials as credential_table
from obms.schema import images, revocations, signing_keys, status_entries, status_lists
from obms.server import Server
from obms.web.probe import probe
from tests.deployment import Deployment, Templates

Judge = Callable[[], dict[str, Check]]


def seed(server: Deployment) -> None:
    """Badges of both proofs."""
    server.seed(40, number=1, proof="jwt")
    server.seed(6, number=2, proof="data-integrity")


@pytest.fixture
def server(deployment: Deployment, templates: Templates) -> Iterator[Server]:
    """A server with badges of both proofs."""
    deployment.become(templates.find(deployment.postgres, seed))
    server = deployment.application
    yield server
    server.database.engine.dispose()


@pytest.fixture
def judge(server: Server) -> Judge:
    def run() -> dict[str, Check]:
        return {check.name: check for check in probe(lambda _database: server)(server.database)}

    return run


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows, to be damaged; each statement is a transaction of its own."""

    engine: sa.Engine

    def execute(self, statement: sa.Executable) -> sa.Result[Any]:
        with self.engine.execution_options(writing=True).begin() as connection:
            result: sa.CursorResult[Any] = connection.execute(statement)
            return result.freeze()() if result.returns_rows else result


@pytest.fixture
def rows(server: Server) -> Rows:
    return Rows(server.database.engine)


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.ok}


def test_a_sound_copy_passes_every_check_with_figures(judge: Judge) -> None:
    checks = judge()
    assert failed(checks) == set(), checks
    assert checks["refuses a forgery"].detail == "3 kinds of proof: EdDSA, RS256, eddsa-rdfc-2022"
    assert list(checks) == [
        "application starts",
        "lists answer",
        "sample verifies",
        "status lists agree",
        "images open",
        "endorsements verify",
        "references hold",
        "refuses a forgery",
        "keys can sign",
    ]
    assert all(any(character.isdigit() for character in check.detail) for check in checks.values())


def test_an_empty_copy_passes(deployment: Deployment) -> None:
    server = deployment.application
    checks = probe(lambda _database: server)(server.database)
    assert all(check.ok for check in checks), checks
    server.database.engine.dispose()


def test_a_missing_table_does_not_start(judge: Judge, rows: Rows) -> None:
    rows.execute(sa.text("DROP TABLE audit_events"))
    assert failed(judge()) == {"application starts"}


def test_dropped_credentials_are_missed_where_their_places_remain(judge: Judge, rows: Rows) -> None:
    revoked = sa.select(revocations.c.credential_id)
    victim = rows.execute(
        sa.select(credential_table.c.id).where(credential_table.c.id.not_in(revoked)).limit(1)
    )
    rows.execute(sa.delete(credential_table).where(credential_table.c.id == victim.scalar_one()))
    checks = judge()
    assert failed(checks) == {"references hold"}
    assert checks["references hold"].detail.startswith("2 places are of credentials that are gone")


def test_dropped_places_are_missed(judge: Judge, rows: Rows) -> None:
    revoked = sa.select(revocations.c.credential_id)
    victim = rows.execute(
        sa.select(credential_table.c.id).where(credential_table.c.id.not_in(revoked)).limit(1)
    )
    rows.execute(sa.delete(status_entries).where(status_entries.c.credential_id == victim.scalar_one()))
    assert "references hold" in failed(judge())


@pytest.mark.parametrize("value", [False, True])
def test_a_bit_that_no_longer_agrees_with_the_revocations_is_found(
    judge: Judge, rows: Rows, *, value: bool
) -> None:
    update = sa.update(status_entries).where(status_entries.c.value.is_not(value)).values(value=value)
    first = sa.select(status_entries.c.credential_id).where(status_entries.c.value.is_not(value)).limit(1)
    rows.execute(update.where(status_entries.c.credential_id == first.scalar_subquery()))
    assert "status lists agree" in failed(judge())


def test_a_signed_list_that_lacks_a_revocation_is_found(judge: Judge, rows: Rows) -> None:
    revoked = rows.execute(
        sa.select(status_entries.c.list_id).where(status_entries.c.value).limit(1)
    ).scalar_one()
    judge()
    lists = status_lists
    other = sa.select(lists.c.document).where(lists.c.id != revoked, lists.c.document.is_not(None)).limit(1)
    old = rows.execute(other).scalar_one()
    rows.execute(sa.update(lists).where(lists.c.document.is_not(None)).values(document=old))
    assert "status lists agree" in failed(judge())


def test_a_forged_signature_is_found(judge: Judge, rows: Rows) -> None:
    _rewrite_all(rows, examining.forge)
    checks = judge()
    assert "sample verifies" in failed(checks)
    assert "its proof is not valid" in checks["sample verifies"].detail


def test_a_document_in_the_row_of_another_is_found(judge: Judge, rows: Rows) -> None:
    documents = [kept.document for kept in _all(rows)]
    turned = iter(documents[1:] + documents[:1])
    _rewrite_all(rows, lambda _kept: next(turned))
    assert {"sample verifies", "references hold"} <= failed(judge())


def test_a_document_that_is_no_json_is_a_failed_check_and_no_crash(judge: Judge, rows: Rows) -> None:
    _rewrite_all(rows, lambda _kept: "{")
    assert "sample verifies" in failed(judge())


def test_a_revocation_that_is_lost_whole_but_for_the_bit_is_found(judge: Judge, rows: Rows) -> None:
    rows.execute(sa.delete(revocations))
    assert {"sample verifies", "status lists agree"} <= failed(judge())


def test_a_key_of_another_issuer_is_found(judge: Judge, rows: Rows) -> None:
    keys = rows.execute(sa.select(signing_keys.c.id, signing_keys.c.issuer_id)).all()
    update = sa.update(credential_table).where(credential_table.c.issuer_id != keys[0].issuer_id)
    rows.execute(update.values(key_id=keys[0].id))
    assert {"sample verifies", "references hold"} <= failed(judge())


def test_a_key_whose_halves_do_not_fit_is_found(judge: Judge, rows: Rows) -> None:
    pem = sa.select(signing_keys.c.public_pem).where(signing_keys.c.retired_at.is_not(None)).limit(1)
    rows.execute(
        sa.update(signing_keys)
        .where(signing_keys.c.retired_at.is_(None))
        .values(public_pem=rows.execute(pem).scalar_one())
    )
    assert "keys can sign" in failed(judge())


def test_a_damaged_private_key_is_found(judge: Judge, rows: Rows) -> None:
    for row in rows.execute(sa.select(signing_keys)).all():
        sealed = bytearray(row.sealed_private)
        sealed[-1] ^= 1
        rows.execute(
            sa.update(signing_keys).where(signing_keys.c.id == row.id).values(sealed_private=bytes(sealed))
        )
    checks = judge()
    assert "keys can sign" in failed(checks)
    assert "damaged" in checks["keys can sign"].detail


def test_an_image_that_is_none_is_found(judge: Judge, rows: Rows) -> None:
    rows.execute(sa.update(images).values(content=b"no picture"))
    assert failed(judge()) == {"images open"}


@pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)
def test_an_image_that_is_cut_short_is_found_though_it_begins_well(judge: Judge, rows: Rows) -> None:
    name = images.c.media_type == "image/png"
    rows.execute(sa.update(images).where(name).values(content=sa.func.substr(images.c.content, 1, 70)))
    assert failed(judge()) == {"images open"}


@pytest.mark.parametrize("deployment", ["sqlite"], indirect=True)
def test_a_badge_that_cannot_be_baked_is_found(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obms.badges.baking.bake", lambda picture, _badge: picture.content)
    checks = judge()
    assert failed(checks) == {"images open"}
    assert "does not hold its badge" in checks["images open"].detail


def test_lists_that_do_not_answer_are_found(server: Server, rows: Rows) -> None:
    rows.execute(sa.text("UPDATE achievements SET criteria = '17'"))
    checks = {check.name: check for check in probe(lambda _database: server)(server.database)}
    assert "lists answer" in failed(checks)


def test_a_verifier_that_accepts_everything_proves_nothing(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("obms.badges.verifying.check_proof", lambda _connection, _kept: {})
    assert failed(judge()) == {"refuses a forgery"}


@pytest.mark.parametrize("seal", [None, Seal("another secret")])
def test_without_the_right_secret_a_sound_copy_cannot_be_judged(server: Server, seal: Seal | None) -> None:
    other = replace(server, site=replace(server.site, seal=seal))
    with pytest.raises(KeyMissing):
        probe(lambda _database: other)(server.database)


def test_without_the_right_secret_a_bad_copy_is_still_bad(server: Server, rows: Rows) -> None:
    rows.execute(sa.update(images).values(content=b"no picture"))
    other = replace(server, site=replace(server.site, seal=None))
    checks = {check.name: check for check in probe(lambda _database: other)(server.database)}
    assert failed(checks) == {"images open"}


def test_the_probe_leaves_the_content_as_it_was(judge: Judge, server: Server) -> None:
    database: Database = server.database
    before = database.facts()
    judge()
    after = database.facts()
    changed = {name for name in before.digests if before.digests[name] != after.digests[name]}
    assert changed <= {"status_lists"}


def test_the_sample_is_small_and_has_every_stratum(server: Server) -> None:
    with server.database.engine.connect() as connection:
        sample = examining.sample(connection, server.site.clock())
    assert len(sample) <= 48
    suites = {signatures.suite_of(kept.document, kept.proof) for kept in sample}
    assert suites == {"eddsa-rdfc-2022", "EdDSA", "RS256"}
    assert any(kept.has_expired(server.site.clock()) for kept in sample)


def _all(rows: Rows) -> list[credentials.Kept]:
    query = sa.select(credential_table).order_by(credential_table.c.proof, credential_table.c.id)
    return [credentials.Kept(**row._mapping) for row in rows.execute(query)]


def _rewrite_all(rows: Rows, change: Callable[[credentials.Kept], str]) -> None:
    for kept in _all(rows):
        update = sa.update(credential_table).where(credential_table.c.id == kept.id)
        rows.execute(update.values(document=change(kept)))
