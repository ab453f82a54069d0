"""Credentials that are kept ready: the same answers, and none that is not so any more."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Barrier, Event

import httpx
import sqlalchemy as sa

from obms.badges import statuses
from obms.databases import writing
from obms.schema import credentials, status_entries
from obms.web.ready import Kept, Shelf
from tests.deployment import API_KEY, Deployment
from tests.serving import serving

TURNS = 21
READERS = 4
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def asked(deployment: Deployment) -> Iterator[httpx.Client]:
    """A server as a process of its own, and someone who asks it once it keeps credentials ready."""
    with (
        serving(deployment, workers=1) as address,
        httpx.Client(base_url=address, headers={"X-API-Key": API_KEY}, timeout=30) as client,
    ):
        known = valid_ids(deployment)[0]
        deadline = time.monotonic() + 20
        while "etag" not in client.get(f"/credentials/{known}").headers:
            assert time.monotonic() < deadline, "nothing is kept ready"
        yield client


def valid_ids(deployment: Deployment) -> list[str]:
    with deployment.database.engine.connect() as connection:
        ids = connection.execute(sa.select(credentials.c.id)).scalars()
        return [
            id for id in ids if not (status := statuses.read_status(connection, id)) or not status.revoked
        ]


def test_what_is_kept_ready_is_what_the_route_answers_and_ends_with_the_revocation(
    deployment: Deployment,
) -> None:
    deployment.seed(2 * TURNS + 20)
    backup = deployment.made_backup()
    with asked(deployment) as client:
        _same_answers(client, valid_ids(deployment)[:4])
        _same_verdicts(client, deployment)
        _revoked_here_and_elsewhere(client, deployment)
        _revoked_while_many_read(client, deployment)
        _restored(client, deployment, backup["id"])


def _same_answers(client: httpx.Client, ids: list[str]) -> None:
    for id in ids:
        kept, made = (
            client.get(f"/credentials/{id}"),
            client.get(f"/credentials/{id}", params={"format": "json"}),
        )
        assert "etag" in kept.headers
        assert "etag" not in made.headers
        assert (kept.status_code, kept.content) == (made.status_code, made.content) == (200, made.content)
        # All that every answer has, the one that is kept ready has too.
        assert made.headers.keys() <= kept.headers.keys()
        assert client.get(f"/v3/credentials/{id}").headers["etag"] == kept.headers["etag"]
        # Were a body sent after HEAD, the next answer of the connection would begin with it.
        head = client.head(f"/credentials/{id}")
        assert (head.status_code, head.headers["etag"]) == (200, kept.headers["etag"])
        again = client.get(f"/credentials/{id}", headers={"If-None-Match": kept.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == kept.headers["etag"]
        other = client.get(f"/credentials/{id}", headers={"If-None-Match": '"another"'})
        assert other.content == kept.content
        token = client.get(f"/credentials/{id}", headers={"Accept": "Application/VC+JWT"})
        assert token.headers["content-type"].startswith("application/vc+jwt")
    assert client.get("/credentials/00000000-0000-4000-8000-000000000000").status_code == 404


def _same_verdicts(client: httpx.Client, deployment: Deployment) -> None:
    """Whatever there is to be said of a credential, both ways say it."""
    good, suspended, forged, unsigned, moved, unplaced, late = valid_ids(deployment)[-7:]
    client.post(f"/credentials/{suspended}/suspend", json={"reason": "wait"})
    table, entries, this = credentials, status_entries, credentials.c.id
    kept = sa.select(table.c.key_id, table.c.issuer_id, table.c.document)
    with writing(deployment.database.engine) as connection:
        first = connection.execute(kept.where(this == good)).one()
        others = connection.execute(kept.where(table.c.issuer_id != first.issuer_id)).first()
        assert others is not None
        for id, change in (
            (forged, {"document": first.document}),
            (unsigned, {"document": "nothing"}),
            (moved, {"key_id": others.key_id, "issuer_id": first.issuer_id}),
            (late, {"expires_at": NOW}),
        ):
            connection.execute(sa.update(table).where(this == id).values(change))
        connection.execute(sa.delete(entries).where(entries.c.credential_id == unplaced))
    for id in (good, suspended, forged, unsigned, moved, unplaced, late):
        short, long = (client.get(f"/credentials/{id}/verify{more}").json() for more in ("", "?long=1"))
        assert short | {"verifiedAt": ""} == long | {"verifiedAt": ""}
        assert short["isValid"] is (id == good), short
    assert client.get(f"/v3/credentials/{good}/verify").json()["isValid"]
    # What was spoiled is out of the way of what follows.
    for id in (suspended, forged, unsigned, moved, unplaced, late):
        client.delete(f"/credentials/{id}")


def _revoked_here_and_elsewhere(client: httpx.Client, deployment: Deployment) -> None:
    """By the server itself, and by another process: the one that this test is."""
    site = deployment.application.site
    for number, id in enumerate(valid_ids(deployment)[:TURNS]):
        assert client.get(f"/credentials/{id}").status_code == 200
        if number % 3 == 0:
            assert client.post(f"/credentials/{id}/revoke").status_code == 200
        elif number % 3 == 1:
            with writing(deployment.database.engine) as connection:
                statuses.revoke(connection, site, id)
        else:
            assert client.delete(f"/credentials/{id}").status_code == 204
        assert client.get(f"/credentials/{id}").status_code == 410


def _revoked_while_many_read(client: httpx.Client, deployment: Deployment) -> None:
    site, ids, over = deployment.application.site, valid_ids(deployment)[:TURNS], Event()

    begun = Barrier(READERS + 1, timeout=30)

    def read() -> list[tuple[float, str, int]]:
        """When each reading began, of what, and what came of it; the first of them before all is revoked."""
        seen = []
        with httpx.Client(base_url=client.base_url, timeout=30) as reader:

            def look(id: str) -> None:
                seen.append((time.monotonic(), id, reader.get(f"/credentials/{id}").status_code))

            look(ids[-1])
            begun.wait()
            while not over.is_set():
                for id in ids:
                    look(id)
            look(ids[0])
        return seen

    with ThreadPoolExecutor(READERS) as pool:
        readers = [pool.submit(read) for _ in range(READERS)]
        try:
            begun.wait()
            revoked_at = {}
            for id in ids:
                with writing(deployment.database.engine) as connection:
                    statuses.revoke(connection, site, id)
                revoked_at[id] = time.monotonic()
        finally:
            over.set()
    seen = [one for reader in readers for one in reader.result()]
    assert {status for began, id, status in seen if began >= revoked_at[id]} <= {410}
    assert {status for *_, status in seen} == {200, 410}


def _restored(client: httpx.Client, deployment: Deployment, backup: str) -> None:
    """What the restored database has not is not answered from before it."""
    id = valid_ids(deployment)[0]
    with writing(deployment.database.engine) as connection:
        row = connection.execute(sa.select(credentials).where(credentials.c.id == id)).mappings().one()
        later = "11111111-1111-4111-8111-111111111111"
        connection.execute(sa.insert(credentials).values({**row, "id": later}))
    assert client.get(f"/credentials/{later}").status_code == 200
    assert deployment.obms("restore", backup, "--yes").code == 0
    assert client.get(f"/credentials/{later}").status_code in (404, 503)
    assert client.get(f"/credentials/{id}").status_code in (200, 503)


def test_the_shelf_keeps_so_many_bytes_of_one_version() -> None:
    shelf = Shelf(limit=100)
    shelf.accept("first")
    for name in "abc":
        shelf.put(name, Kept(body=bytes(40), etag=b"", headers=()))
    assert [shelf.get(name) is not None for name in "abc"] == [False, True, True]
    assert shelf.bytes == 80
    shelf.accept("first")
    assert shelf.get("c") is not None
    shelf.accept("second")
    assert (shelf.get("c"), shelf.bytes) == (None, 0)
    shelf.put("large", Kept(body=bytes(101), etag=b"", headers=()))
    assert (shelf.get("large"), shelf.bytes) == (None, 0)
