"""The older names of routes do the same, and tell what takes their place."""

from email.utils import parsedate_to_datetime

import pytest

from obms.web import older
from tests.web.conftest import Client, order
from tests.web.test_resources import WHOLE, bare

DEPRECATED = {"deprecation", "sunset", "link"}


@pytest.mark.parametrize("prefix", ["", "/v2", "/v3"])
def test_each_older_name_does_the_same_and_names_its_successor(one: Client, prefix: str) -> None:
    issuer = one.add_issuer()
    made = one.post(f"{prefix}/badge-classes", {**WHOLE, "issuer": issuer})
    assert made.status_code == 201, made.text
    badge = bare(made.json()["id"])
    issued = one.post(f"{prefix}/assertions", order(badge))
    id = bare(issued.json()["id"])
    pairs = {
        "badge-classes": "achievements",
        f"badge-classes/{badge}": f"achievements/{badge}",
        f"badge-classes/{badge}/assertions": f"achievements/{badge}/credentials",
        f"badge-classes/{badge}/related": f"achievements/{badge}/related",
        f"issuers/{bare(issuer)}/badge-classes": f"issuers/{bare(issuer)}/achievements",
        "assertions": "credentials",
        f"assertions/{id}": f"credentials/{id}",
        f"assertions/{id}/verify": f"credentials/{id}/verify",
    }
    for old, new in pairs.items():
        older_answer, newer = one.get(f"{prefix}/{old}"), one.get(f"{prefix}/{new}")
        assert (older_answer.status_code, older_answer.json()) == (200, newer.json()) or "verify" in old
        assert not DEPRECATED & set(newer.headers) - {"link"}
        if (prefix, old) == ("/v2", f"assertions/{id}"):
            # The id of a hosted assertion is no older name of anything.
            assert not DEPRECATED & set(older_answer.headers)
            continue
        assert older_answer.headers["Deprecation"] == older.DEPRECATED
        assert f'<{prefix}/{new}>; rel="successor-version"' in older_answer.headers["Link"]
        assert parsedate_to_datetime(older_answer.headers["Sunset"]).timestamp() > int(older.DEPRECATED[1:])
    assert 'rel="first"' in one.get(f"{prefix}/assertions").headers["Link"]
    assert one.post(f"{prefix}/assertions/{id}/revoke").json()["status"] == "revoked"
    assert one.get(f"{prefix}/assertions/{id}").status_code == 410
    assert one.ask("DELETE", f"{prefix}/badge-classes/{badge}?cascade=true").status_code == 204


def test_an_error_under_an_older_name_tells_the_successor_too(one: Client) -> None:
    for answer in (
        one.get("/badge-classes/nothing"),
        one.post("/assertions", {}),
        one.get("/assertions", key=None),
    ):
        assert answer.status_code in (400, 401, 404)
        assert set(answer.headers) >= DEPRECATED


def test_the_openapi_document_has_each_route_and_marks_the_older_ones(one: Client) -> None:
    paths = one.get("/openapi.json").json()["paths"]
    for prefix in ("", "/v2", "/v3"):
        assert paths[f"{prefix}/badge-classes/{{achievement_id}}"]["put"]["deprecated"] is True
        assert "deprecated" not in paths[f"{prefix}/achievements/{{achievement_id}}"]["put"]
    assert "deprecated" not in paths["/v2/assertions/{credential_id}"]["get"]
    assert paths["/v2/assertions/{credential_id}"]["put"]["deprecated"] is True
