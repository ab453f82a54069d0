"""`obms keys`: listed, rotated, retired, and what is refused."""

from typing import Any

import sqlalchemy as sa

from obms.badges import verifying
from obms.schema import audit_events, credentials
from tests.deployment import Deployment


def keys_of(server: Deployment, *arguments: str) -> list[dict[str, Any]]:
    answer = server.obms("keys", "list", "--json", *arguments)
    assert answer.code == 0, answer.err
    found: list[dict[str, Any]] = answer.json
    return found


def test_keys_are_listed_rotated_and_retired_and_every_badge_goes_on_to_verify(
    stocked_sqlite: Deployment,
) -> None:
    server = stocked_sqlite
    before = keys_of(server)
    assert {key["signs"] for key in before} == {"EdDSA", "RS256"}
    issuer = next(key["issuer"] for key in before if key["algorithm"] == "RSA")

    made = server.obms("keys", "rotate", f"did:web:localhost:issuers:{issuer}", "--json").json
    assert [key["signs"] for key in made] == ["EdDSA", "RS256"]
    assert "retired" in server.obms("keys", "list", "--issuer", issuer).out

    one = server.obms("keys", "rotate", issuer, "--algorithm", "RSA", "--json").json
    assert [key["signs"] for key in one] == ["RS256"]
    retired = server.obms("keys", "retire", one[0]["method"], "--json")
    assert (retired.code, retired.json["retired_at"] is not None) == (0, True)
    assert server.obms("keys", "retire", one[0]["id"]).out.startswith(one[0]["id"])

    in_use = [key for key in keys_of(server, "--issuer", issuer) if key["retired_at"] is None]
    assert [key["signs"] for key in in_use] == ["EdDSA"]
    everyone = server.obms("keys", "rotate", "--all", "--algorithm", "Ed25519", "--json").json
    assert len(everyone) == len({key["issuer"] for key in before})

    site = server.application.site
    with server.database.engine.connect() as connection:
        for id in connection.execute(sa.select(credentials.c.id)).scalars():
            verdict = verifying.verify(connection, site, id)
            assert verdict is not None
            assert verdict.has_valid_signature
        acts = connection.execute(sa.select(audit_events.c.action)).scalars().all()
    assert (acts.count("key.retire"), acts.count("key.rotate")) == (1, 3 + len(everyone))
    assert server.obms("backup", "run").code == 0


def test_what_is_not_there_or_not_said_ends_with_exit_2(sqlite: Deployment) -> None:
    assert "no key yet" in sqlite.obms("keys", "list").out
    assert keys_of(sqlite) == []
    for arguments in (["retire", "none"], ["rotate", "none"], ["rotate"], ["rotate", "x", "--all"]):
        answer = sqlite.obms("keys", *arguments)
        assert answer.code == 2, answer.err
