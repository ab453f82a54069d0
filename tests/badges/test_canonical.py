"""The short way to the canonical form is right wherever it is taken: the library agrees with all of it."""

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openbadgeslib.errors import LibOpenBadgesException
from openbadgeslib.ob3 import OB3LdpVerifier, OB3VerificationError, add_data_integrity_proof

from obms.badges import canonical, data_integrity, signatures
from obms.badges.keys import private_pem, public_pem
from obms.schema import credentials
from tests.deployment import Deployment

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
METHOD = "did:web:school.example.org#key"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SEEDED = 120
TERMS = (
    "name",
    "description",
    "criteria",
    "narrative",
    "achievement",
    "image",
    "url",
    "tag",
    "evidence",
    "id",
)
# What a hostile, a careless and an unusual client might put anywhere.
VALUES: tuple[Any, ...] = (
    *(None, True, 7, 1.5, 0, "", [], {}, [[]], [None], {"@id": "https://a.example/"}, {"@value": "x"}),
    *(
        "a\tb",
        "a\nb",
        'a"b\\c',
        "\x7f",
        "\ufffe",
        "\ud800",
        "é漢📊",
        "urn:x:y",
        "https://a.example/../b",
        "relative",
    ),
    *(
        "https://a.example/ü",
        "https://a.example/ x",
        "_:b0",
        "@type",
        "http:x",
        "name:foo",
        "did:a",
        ["x", "x"],
    ),
    *(
        {"id": "https://a.example/"},
        {"id": "https://a.example/", "name": "x"},
        {"name": "x"},
        {"type": "Image"},
    ),
    *({"type": ["Profile"], "name": "x"}, {"type": ["Achievement", "Profile"], "name": "x"}, {"type": []}),
    *({"type": ["Criteria"], "narrative": "x"}, {"type": "AchievementCredential"}, {"type": ["Nothing"]}),
    *([{"name": "x"}, {"name": "x"}], [{"name": "x"}, {"name": "y"}], {"@context": {}, "name": "x"}),
    *("2026-01-01T00:00:00Z", ["https://a.example/"], {"@graph": []}, {"@list": ["x"]}, {"id": "_:b"}),
)
NAMES = (
    *TERMS,
    "@id",
    "@type",
    "@graph",
    "https://schema.org/name",
    "schema:name",
    "unknown",
    "type",
    "Criteria",
)
Path = tuple[str | int, ...]


class Corpus(list[dict[str, Any]]):
    """Too long to be printed with a failed test."""

    def __repr__(self) -> str:
        return f"{len(self)} documents"


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Credentials as the server signs them, of every shape that is seeded, without their proofs."""
    with Deployment.made(tmp_path_factory.mktemp("canonical"), None) as made:
        made.seed(SEEDED, proof="data-integrity")
        with made.database.engine.connect() as connection:
            texts = connection.execute(sa.select(credentials.c.document)).scalars().all()
    return Corpus({k: v for k, v in json.loads(text).items() if k != "proof"} for text in texts)


def library_signs(document: dict[str, Any]) -> str:
    return json.dumps(add_data_integrity_proof(document, private_pem(KEY), METHOD, created=NOW))


def library_accepts(text: str) -> bool:
    try:
        OB3LdpVerifier(pubkey_pem=public_pem(KEY)).verify(text)
    except OB3VerificationError as error:
        return str(error).startswith(signatures.ABOUT_TIME)
    return True


def is_left_to_the_library(document: dict[str, Any]) -> bool:
    """Values in an order are a chain of blank nodes in RDF, and an endorsement is a graph of its own."""
    return any(f'"{name}"' in json.dumps(document) for name in ("allowedValue", "endorsement"))


def test_all_that_is_seeded_goes_the_short_way_and_is_signed_alike(documents: Corpus) -> None:
    assert len(documents) == SEEDED
    short = [document for document in documents if canonical.canonize(document)]
    assert short == [document for document in documents if not is_left_to_the_library(document)]
    assert len(short) > SEEDED * 0.9
    for document in short[::6]:
        ours = data_integrity.sign(document, KEY.sign, METHOD, NOW)
        assert ours == json.loads(library_signs(document))
        assert data_integrity.check(json.dumps(ours), KEY.public_key()) == ours


def test_one_changed_letter_is_found(documents: Corpus) -> None:
    text = json.dumps(data_integrity.sign(documents[0], KEY.sign, METHOD, NOW))
    name = json.dumps(documents[0]["name"])[1:-1]
    assert data_integrity.check(text, KEY.public_key())
    assert data_integrity.check(text.replace(name, name + "."), KEY.public_key()) is None
    assert data_integrity.check(text, Ed25519PrivateKey.generate().public_key()) is None
    for spoiled in ("", "[]", "{}", text[:-1], text.replace('"proof"', '"prof"'), "[" * 100_000):
        assert data_integrity.check(spoiled, KEY.public_key()) is None


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a document that something could be put at."""
    if path:
        yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for name, child in children:
        yield from places(child, (*path, name))


def at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def spoiled(document: dict[str, Any], chance: Random) -> dict[str, Any]:
    """A document that was changed in one place, or in two."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 2))):
        path = chance.choice(list(places(document)))
        parent = at(document, path[:-1])
        how = chance.choice(("put", "put", "add", "rename", "remove", "wrap", "move"))
        if how == "put":
            parent[path[-1]] = copy.deepcopy(chance.choice(VALUES))
        elif how == "wrap":
            parent[path[-1]] = [parent[path[-1]]]
        elif how == "move":
            parent[path[-1]] = copy.deepcopy(at(document, chance.choice(list(places(document)))))
        elif isinstance(parent, dict):
            value = parent[path[-1]] if how == "add" else parent.pop(path[-1])
            if how != "remove":
                parent[chance.choice(NAMES)] = copy.deepcopy(value)
    return document


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(chance=st.integers(0, 2**32).map(Random))
def test_whatever_is_put_into_a_document_the_short_way_says_what_the_library_says_or_nothing(
    documents: Corpus, chance: Random
) -> None:
    document = spoiled(chance.choice(documents), chance)
    try:
        theirs = library_signs(document)
    except (LibOpenBadgesException, UnicodeEncodeError):
        theirs = None
    ours = data_integrity.sign(document, KEY.sign, METHOD, NOW)
    if ours is None:
        return
    # Over the same bytes an Ed25519 signature is the same.
    assert theirs is not None
    assert json.loads(theirs) == ours
    if data_integrity.check(theirs, KEY.public_key()):
        assert library_accepts(theirs)


def test_a_status_that_is_only_named_is_left_to_the_library_and_refused(documents: Corpus) -> None:
    signed = library_signs({**documents[0], "credentialStatus": "https://a.example/status"})
    assert data_integrity.check(signed, KEY.public_key()) is None
    with pytest.raises(signatures.BadSignature, match="credentialStatus"):
        signatures.check(signed, "data-integrity", public_pem(KEY))


def test_two_blank_nodes_that_look_alike_are_left_to_the_library(documents: Corpus) -> None:
    document = {**documents[0], "evidence": [{"type": ["Evidence"], "name": "x"}] * 2}
    assert canonical.canonize(document) is None
    signed = library_signs(document)
    assert data_integrity.check(signed, KEY.public_key()) is None
    assert signatures.check(signed, "data-integrity", public_pem(KEY))["evidence"] == document["evidence"]


def test_a_list_of_contexts_that_is_not_pinned_is_left_to_the_library(
    documents: Corpus,
) -> None:
    for contexts in (
        documents[0]["@context"][0],
        [*documents[0]["@context"], {"name": "https://schema.org/description"}],
        [*documents[0]["@context"], "https://a.example/context"],
        [*documents[0]["@context"], documents[0]["@context"][0]],
        documents[0]["@context"][1:],
        [],
        [7],
        None,
    ):
        assert canonical.canonize({**documents[0], "@context": contexts}) is None
