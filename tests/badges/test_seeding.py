"""Seeded data: really signed, and the same each time."""

import unicodedata
from typing import Any

import pytest
import sqlalchemy as sa

from obms.badges import Site, seeding, signatures, statuses, verifying
from obms.badges.seeding_cast import picture
from obms.badges.seeding_rows import ORDER, given
from obms.domain import ProofKind
from obms.errors import Conflict
from obms.observe import utc_now
from obms.schema import (
    achievements,
    credentials,
    issuers,
    metadata,
    revocations,
    status_entries,
    status_lists,
)


def _fill(
    engine: sa.Engine, site: Site, number: int, *, seed: int = 1, proof: ProofKind = "jwt"
) -> dict[str, int]:
    told: list[int] = []
    counts = seeding.seed(engine, site, credentials=number, seed=seed, proof=proof, progress=told.append)
    assert sum(told) == number
    return counts


def _rows(engine: sa.Engine) -> dict[str, list[Any]]:
    with engine.connect() as connection:
        return {
            table.name: list(connection.execute(sa.select(table).order_by(*table.primary_key)))
            for table in metadata.sorted_tables
        }


@pytest.mark.parametrize(("proof", "number"), [("jwt", 300), ("data-integrity", 25)])
def test_every_seeded_badge_verifies_and_stands_as_its_rows_say(
    engine: sa.Engine, site: Site, proof: ProofKind, number: int
) -> None:
    counts = _fill(engine, site, number, proof=proof)
    with engine.connect() as connection:
        for id in connection.execute(sa.select(credentials.c.id)).scalars().all():
            verdict = verifying.verify(connection, site, id)
            assert verdict is not None
            assert verdict.has_valid_signature, verdict.detail
        for table in metadata.sorted_tables:
            held = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            assert counts.get(table.name, 0) == held, table.name
        for row in connection.execute(sa.select(status_lists)):
            places = sa.select(sa.func.count()).where(status_entries.c.list_id == row.id)
            assert connection.execute(places).scalar_one() == row.next_index


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(engine: sa.Engine, site: Site) -> None:
    _fill(engine, site, 60)
    first = _rows(engine)
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    _fill(engine, Site(base_url=site.base_url, seal=site.seal, clock=utc_now), 60)
    assert _rows(engine) == first
    _fill(engine, site, 60, seed=2)
    assert len(_rows(engine)["credentials"]) == 120


def test_processes_give_what_one_process_gives(
    engine: sa.Engine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(seeding.BATCH, "jwt", 20)
    _fill(engine, site, 70)
    first = _rows(engine)
    with engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    monkeypatch.setitem(seeding.ALONE, "jwt", 0)
    _fill(engine, site, 70)
    assert _rows(engine) == first


def test_the_same_seed_is_not_sown_twice(engine: sa.Engine, site: Site) -> None:
    _fill(engine, site, 5)
    with pytest.raises(Conflict):
        _fill(engine, site, 5)


def test_there_is_some_of_everything(engine: sa.Engine, site: Site) -> None:
    _fill(engine, site, 1000)
    rows = _rows(engine)
    assert {row.purpose for row in rows["revocations"]} == {"revocation", "suspension"}
    assert any(key.retired_at for key in rows["signing_keys"])
    assert {row.key_id for row in rows["credentials"]} == {key.id for key in rows["signing_keys"]}
    assert any((row.extra or {}).get("evidence") for row in rows["credentials"])
    assert any((row.extra or {}).get("results") for row in rows["credentials"])
    assert [row.proven for row in rows["endorsements"]] == [True]
    assert len(rows["related_achievements"]) == 1
    assert any(
        "endorsementComment" in str(signatures.read(row.document, row.proof)) for row in rows["credentials"]
    )
    assert any(row.expires_at and row.expires_at < utc_now() for row in rows["credentials"])
    assert any(row.expires_at and row.expires_at > utc_now() for row in rows["credentials"])


def test_the_texts_are_of_several_scripts(engine: sa.Engine, site: Site) -> None:
    _fill(engine, site, 1)
    with engine.connect() as connection:
        texts = connection.execute(sa.select(issuers.c.name).union(sa.select(achievements.c.name))).scalars()
        scripts = {unicodedata.name(character).split()[0] for text in texts for character in text}
    assert {"LATIN", "ARABIC", "CYRILLIC", "DEVANAGARI", "GREEK", "HEBREW", "CJK", "COMBINING"} <= scripts


def test_lists_that_fill_up_are_followed_by_others(
    engine: sa.Engine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statuses, "LIST_SIZE", 8)
    monkeypatch.setitem(seeding.BATCH, "jwt", 30)
    _fill(engine, site, 100)
    with engine.begin() as connection:
        sizes = connection.execute(sa.select(status_lists.c.next_index, status_lists.c.size)).all()
        assert len(sizes) > 16
        assert sum(row.next_index for row in sizes) == 200
        entries = connection.execute(sa.select(status_entries.c.list_id, status_entries.c.position)).all()
        assert len(set(entries)) == 200
        revoked = connection.execute(sa.select(sa.func.count()).select_from(revocations)).scalar_one()
        assert revoked > 0
        next_place = statuses.take_places(
            connection, site, connection.execute(sa.select(issuers.c.id)).scalars().all()[0]
        )
        assert not {(entry.list_id, entry.position) for entry in next_place} & set(map(tuple, entries))


def test_how_many_an_issuer_was_given_is_what_counting_says() -> None:
    for number in range(3 * len(ORDER)):
        for issuer in set(ORDER):
            counted = sum(ORDER[each % len(ORDER)] == issuer for each in range(number))
            assert given(issuer, number) == counted


def test_the_picture_is_a_whole_png() -> None:
    content = picture(1, 2, 3)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert content.endswith(b"IEND\xaeB`\x82")
