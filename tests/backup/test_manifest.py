"""The manifest and the verdict: each changed byte of them is noticed."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from obms.backup.manifest import Check, Manifest, Verdict
from obms.backup.signing import Signer
from obms.errors import BackupDamaged

SIGNER = Signer(b"a key for the tests".ljust(32))
OTHER = Signer(b"another key".ljust(32))
MANIFEST = Manifest(
    id="sqlite_backup_2026-11-22_00-00-00",
    file="sqlite_backup_2026-11-22_00-00-00.db.gz",
    reason="manual",
    database="sqlite",
    server_version="3.53.4",
    app_version="0.1.0",
    revision="0002",
    started_at=datetime(2026, 11, 22, tzinfo=UTC),
    ended_at=datetime(2026, 11, 22, 0, 0, 1, 5, tzinfo=UTC),
    codecs=("gzip",),
    raw_bytes=1000,
    raw_sha256="a" * 64,
    bytes=100,
    sha256="b" * 64,
    rows={"issuers": 3, "Zürich": 1},
    digests={},
    sealing_key="0011223344556677",
    tools={"sqlite": "3.53.4"},
).signed(SIGNER)
VERDICT = Verdict(
    id=MANIFEST.id,
    manifest=MANIFEST.fingerprint,
    outcome="good",
    level="proven",
    wanted="proven",
    judged_at=datetime(2026, 11, 22, tzinfo=UTC),
    checks=(Check(name="rows", ok=True, detail="4 in 2 tables"),),
).signed(SIGNER)
WRITTEN = MANIFEST.to_bytes()


def test_a_manifest_that_was_written_is_read() -> None:
    assert Manifest.from_bytes("m", WRITTEN) == MANIFEST


def test_a_verdict_that_was_written_is_read() -> None:
    assert Verdict.from_bytes("v", VERDICT.to_bytes()) == VERDICT


def test_a_manifest_is_json_that_a_person_can_read() -> None:
    content = json.loads(WRITTEN)
    assert content["rows"] == {"issuers": 3, "Zürich": 1}
    assert content["started_at"] == "2026-11-22T00:00:00+00:00"
    assert "Zürich".encode() in WRITTEN


def test_times_are_written_in_utc() -> None:
    moment = datetime(2026, 11, 22, 1, tzinfo=timezone(timedelta(hours=1)))
    elsewhere = replace(MANIFEST, started_at=moment).signed(SIGNER)
    assert elsewhere.to_bytes() == WRITTEN


@given(place=st.integers(0, len(WRITTEN) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_damage(place: int, bit: int) -> None:
    changed = WRITTEN[:place] + bytes([WRITTEN[place] ^ (1 << bit)]) + WRITTEN[place + 1 :]
    with pytest.raises(BackupDamaged):
        Manifest.from_bytes("m", changed)


def test_a_manifest_cut_at_any_byte_is_damage() -> None:
    for length in range(len(WRITTEN)):
        with pytest.raises(BackupDamaged):
            Manifest.from_bytes("m", WRITTEN[:length])


@pytest.mark.parametrize(
    "data",
    [
        WRITTEN + b" ",
        b" " + WRITTEN,
        WRITTEN.replace(b"  ", b"\t", 1),
        WRITTEN.replace(b"\n", b"\r\n"),
        WRITTEN.replace("ü".encode(), rb"\u00fc"),
        WRITTEN.replace(b'"bytes": 100', b'"bytes": 100, "bytes": 100'),
        b"",
        b"null",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"\xff\xfe",
        json.dumps({**json.loads(WRITTEN), "more": 1}).encode(),
        VERDICT.to_bytes(),
    ],
    ids=lambda data: f"{data[:12]!r}-{len(data)}",
)
def test_another_spelling_or_another_document_is_damage(data: bytes) -> None:
    with pytest.raises(BackupDamaged):
        Manifest.from_bytes("m", data)


@pytest.mark.parametrize("key", sorted(json.loads(WRITTEN)))
def test_a_value_changed_without_the_digest_is_damage(key: str) -> None:
    content = json.loads(WRITTEN)
    value = content[key]
    content[key] = value + 1 if isinstance(value, int) else "0003" if isinstance(value, str) else {"x": "1"}
    text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    with pytest.raises(BackupDamaged):
        Manifest.from_bytes("m", text.encode())


@pytest.mark.parametrize("key", sorted(json.loads(WRITTEN)))
def test_a_member_that_is_missing_is_damage(key: str) -> None:
    content = {name: value for name, value in json.loads(WRITTEN).items() if name != key}
    text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    with pytest.raises(BackupDamaged):
        Manifest.from_bytes("m", text.encode())


def test_two_manifests_that_differ_have_two_fingerprints() -> None:
    assert replace(MANIFEST, reason="safety").fingerprint != MANIFEST.fingerprint


@pytest.mark.parametrize(
    ("outcome", "level", "proven", "ok"),
    [
        ("good", "proven", True, True),
        ("good", "restorable", False, True),
        ("good", "intact", False, True),
        ("bad", "restorable", False, False),
        ("unknown", None, False, False),
        ("unknown", "proven", False, False),
    ],
)
def test_only_a_good_verdict_of_the_highest_level_is_proof(
    outcome: str, level: str | None, *, proven: bool, ok: bool
) -> None:
    verdict = replace(VERDICT, outcome=outcome, level=level)  # type: ignore[arg-type]
    assert (verdict.proven, verdict.ok) == (proven, ok)


def test_the_reason_is_the_first_check_that_failed() -> None:
    checks = (
        Check(name="loads", ok=True, detail="x"),
        Check(name="rows", ok=False, detail="3 are missing"),
        Check(name="digests", ok=False, detail="y"),
    )
    assert replace(VERDICT, checks=checks).reason == "rows: 3 are missing"
    assert replace(VERDICT, checks=()).reason == "no proof was made"


def digested(content: dict[str, object]) -> bytes:
    """This content with a digest that fits it, as anybody can make it."""

    def spell(members: dict[str, object]) -> bytes:
        return json.dumps(members, ensure_ascii=False, indent=2, sort_keys=True).encode() + b"\n"

    content = {name: value for name, value in content.items() if name != "digest"}
    return spell(content | {"digest": hashlib.sha256(spell(content)).hexdigest()})


def test_a_document_without_signature_says_that_it_has_none() -> None:
    """So does one of format 1, which is read as it was written."""
    old = {**json.loads(WRITTEN), "format": 1}
    del old["signed_by"], old["signature"]
    found = Manifest.from_bytes("m", digested(old))
    assert (found.signature_seen_by(SIGNER.public), found.format) == ("none", 1)
    assert found.to_bytes() == digested(old)
    assert replace(MANIFEST, format=1).signed(None) == found


def test_a_signature_is_ours_or_that_of_another() -> None:
    assert MANIFEST.signature_seen_by(SIGNER.public) == "ours"
    assert MANIFEST.signature_seen_by(OTHER.public) == "other"
    assert MANIFEST.signature_seen_by(None) == "other"
    foreign = Manifest.from_bytes("m", MANIFEST.signed(OTHER).to_bytes())
    assert foreign.signature_seen_by(SIGNER.public) == "other"


@pytest.mark.parametrize("key", sorted(set(json.loads(WRITTEN)) - {"digest"}))
def test_k6_a_value_changed_with_its_digest_does_not_fit_the_signature(key: str) -> None:
    content = json.loads(WRITTEN)
    value = content[key]
    content[key] = value + 1 if isinstance(value, int) else "0003" if isinstance(value, str) else {"x": "1"}
    content[key] = ["zstd"] if key == "codecs" else content[key]
    content[key] = "2026-01-01T00:00:00+00:00" if key.endswith("_at") else content[key]
    with pytest.raises(BackupDamaged, match="signature"):
        Manifest.from_bytes("m", digested(content))


@given(place=st.integers(0, 127), digit=st.sampled_from("0123456789abcdef"))
def test_k6_each_digit_of_the_signature_counts_although_the_digest_fits(place: int, digit: str) -> None:
    content = json.loads(WRITTEN)
    kept = content["signature"]
    content["signature"] = kept[:place] + digit + kept[place + 1 :]
    assume(content["signature"] != kept)
    with pytest.raises(BackupDamaged, match="signature"):
        Manifest.from_bytes("m", digested(content))


@pytest.mark.parametrize("missing", ["signature", "signed_by"])
def test_half_a_signature_is_damage(missing: str) -> None:
    content = json.loads(WRITTEN)
    del content[missing]
    with pytest.raises(BackupDamaged, match="signature"):
        Manifest.from_bytes("m", digested(content))


def test_the_signature_of_a_verdict_is_none_of_a_manifest() -> None:
    """Each says what kind of document was signed."""
    assert MANIFEST.statement().startswith(b"Manifest\n")
    assert VERDICT.statement().startswith(b"Verdict\n")


def test_the_private_key_is_not_shown() -> None:
    assert repr(SIGNER) == f"Signer({SIGNER.public})"
