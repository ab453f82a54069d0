"""The examples of the W3C's Bitstring Status List, and the rules of its text, held against our lists.

Source: https://www.w3.org/TR/vc-bitstring-status-list/, examples 1 to 3.
"""

import base64
import gzip
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from openbadgeslib.ob3 import decode_encoded_list, encode_bitstring, set_indices

from obms.badges import statuses
from obms.badges.contexts import CONTEXTS
from obms.badges.graphs import STATUS, VC, expand, unsaid
from obms.schema import status_entries
from obms.specs import vcdm
from tests.web.conftest import Client

# All of its 131,072 bits are 0.
EMPTY = "uH4sIAAAAAAAAA-3BMQEAAADCoPVPbQwfoAAAAAAAAAAAAAAAAAAAAIC3AYbSVKsAQAAA"
ENTRY_MEMBERS = {"id", "type", "statusPurpose", "statusListIndex", "statusListCredential"}


@pytest.fixture(scope="module")
def badge(client: Client) -> dict[str, Any]:
    """A credential that was revoked afterwards."""
    id = client.issue(proof="data-integrity")
    found: dict[str, Any] = client.get(f"/credentials/{id}").json()
    client.post(f"/credentials/{id}/revoke")
    return found


@pytest.fixture(scope="module")
def served(client: Client, badge: dict[str, Any]) -> dict[str, Any]:
    url = badge["credentialStatus"]["statusListCredential"]
    found: dict[str, Any] = client.get("/" + url.split("/", 3)[3], key=None).json()
    return found


def test_the_list_of_the_example_is_read_and_written() -> None:
    plain = decode_encoded_list(EMPTY)
    assert (len(plain) * 8, set(set_indices(plain))) == (131_072, set())
    assert decode_encoded_list(encode_bitstring([], statuses.LIST_SIZE)) == plain


@pytest.mark.parametrize("place", [0, 1, 7, 8, 131_071])
def test_the_first_bit_is_the_leftmost_of_the_first_byte(place: int) -> None:
    encoded = encode_bitstring([place], statuses.LIST_SIZE)
    assert encoded.startswith("u")
    plain = gzip.decompress(base64.urlsafe_b64decode(encoded[1:] + "=" * (-len(encoded[1:]) % 4)))
    assert int.from_bytes(plain) == 1 << (131_071 - place)


def test_an_entry_has_what_the_text_asks_for(badge: dict[str, Any]) -> None:
    entry = badge["credentialStatus"]
    assert set(entry) == ENTRY_MEMBERS
    assert (entry["type"], entry["statusPurpose"]) == ("BitstringStatusListEntry", "revocation")
    assert 0 <= int(entry["statusListIndex"]) < 131_072
    assert entry["id"] != entry["statusListCredential"]


def test_a_list_has_what_the_text_asks_for(served: dict[str, Any], badge: dict[str, Any]) -> None:
    assert list(vcdm.credential_complaints(served)) == []
    assert unsaid(served, CONTEXTS) is None
    assert "BitstringStatusListCredential" in served["type"]
    subject = served["credentialSubject"]
    assert (subject["type"], subject["statusPurpose"]) == ("BitstringStatusList", "revocation")
    plain = decode_encoded_list(subject["encodedList"])
    assert len(plain) >= 16 * 1024
    assert set(set_indices(plain)) == {int(badge["credentialStatus"]["statusListIndex"])}
    assert datetime.fromisoformat(served["validFrom"]) <= datetime.now(UTC)
    assert datetime.fromisoformat(served["validUntil"]) > datetime.now(UTC)
    node = expand(served, CONTEXTS)[f"{VC}credentialSubject"][0]
    assert {f"{STATUS}encodedList", f"{STATUS}statusPurpose", f"{STATUS}ttl"} <= set(node)


def test_a_list_and_its_token_verify_as_credentials(client: Client, served: dict[str, Any]) -> None:
    path = "/" + served["id"].split("/", 3)[3]
    for held in (served, client.get(path, params={"format": "jwt"}).text):
        answer = client.post("/vc/credentials/verify", {"verifiableCredential": held}, key=None)
        assert answer.json()["verified"], answer.text


def test_no_two_credentials_share_a_place_and_neighbours_stand_apart(client: Client) -> None:
    for _ in range(5):
        client.issue(proof="jwt")
    with client.app.state.server.database.engine.connect() as connection:
        rows = connection.execute(sa.select(status_entries.c.list_id, status_entries.c.position)).all()
    assert len(set(rows)) == len(rows)
    assert max(row.position for row in rows) > 1000
