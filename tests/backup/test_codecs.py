"""One suite for every codec: what goes in comes out, and what was changed is noticed."""

import gzip
import itertools
import random
import subprocess
import threading
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obms.backup.codecs import Chain, Codec, Compression, Gzip
from obms.backup.encryption import Age, with_own_key
from obms.backup.threads import Source, Target, through_thread
from obms.errors import BackupDamaged, IdentityMissing
from tests.deployment import Deployment

PLAIN = b"badge " * 3000 + bytes(range(256)) * 20
BOMB = 64 * 1024 * 1024


class Encrypted:
    """gzip and then age, as images are encrypted, with a key of its own."""

    name = "gzip and age"
    ending = ".gz.age"

    def __init__(self) -> None:
        self._chain = with_own_key(Chain(codecs=(Gzip(), Age((), None))))

    def encode(self, plain: Iterator[bytes]) -> Iterator[bytes]:
        return self._chain.encode(plain)

    def decode(self, coded: Iterator[bytes]) -> Iterator[bytes]:
        return self._chain.decode(coded, self._chain.names)


@pytest.fixture(
    params=[Gzip, lambda: Gzip("small"), Encrypted], ids=["gzip, fast", "gzip, small", "gzip and age"]
)
def codec(request: pytest.FixtureRequest) -> Codec:
    made: Codec = request.param()
    return made


def in_steps(data: bytes, step: int) -> Iterator[bytes]:
    return (data[start : start + step] for start in range(0, len(data), step))


def encoded(codec: Codec, plain: bytes, *, step: int = 5000) -> bytes:
    return b"".join(codec.encode(in_steps(plain, step)))


def decoded(codec: Codec, coded: bytes, *, step: int = 1000) -> bytes:
    return b"".join(codec.decode(in_steps(coded, step)))


@given(chunks=st.lists(st.binary(max_size=300), max_size=12), step=st.integers(1, 400))
def test_whatever_the_chunks_the_same_bytes_come_back(chunks: list[bytes], step: int) -> None:
    # An image is never empty; of no chunk at all there is nothing to decode.
    codec, chunks = Gzip(), [b"head", *chunks]
    coded = b"".join(codec.encode(iter(chunks)))
    assert decoded(codec, coded, step=step) == b"".join(chunks)


def test_a_large_random_stream_comes_back(codec: Codec) -> None:
    plain = random.Random(1).randbytes(3_000_000)  # noqa: S311 - the same bytes each time
    coded = b"".join(codec.encode(in_steps(plain, 1 << 20)))
    assert b"".join(codec.decode(in_steps(coded, 1 << 16))) == plain


@pytest.mark.parametrize("compression", ["fast", "small"])
def test_gunzip_reads_it(compression: Compression) -> None:
    coded = encoded(Gzip(compression), PLAIN)
    run = subprocess.run(["gunzip", "-c"], input=coded, capture_output=True, check=True)
    assert run.stdout == PLAIN


def test_small_is_as_small_as_by_gzip_and_fast_is_not_much_larger(stocked_sqlite: Deployment) -> None:
    badges = (stocked_sqlite.folder / "data" / "openbadges.db").read_bytes()
    theirs = len(gzip.compress(badges, 6))
    small, fast = (len(encoded(Gzip(kind), badges, step=1 << 20)) for kind in ("small", "fast"))
    assert small < 1.01 * theirs
    assert small < fast < 1.25 * theirs


def test_what_gzip_makes_is_decoded() -> None:
    assert decoded(Gzip(), gzip.compress(PLAIN)) == PLAIN


def test_members_that_were_joined_are_decoded_as_one() -> None:
    assert decoded(Gzip(), gzip.compress(b"one ") + gzip.compress(b"two")) == b"one two"


def test_a_stream_cut_at_any_byte_is_damaged(codec: Codec) -> None:
    """But for a cut between two members, which the hash in the manifest is for."""
    coded = encoded(codec, PLAIN, step=len(PLAIN))
    for length in range(len(coded)):
        with pytest.raises(BackupDamaged):
            decoded(codec, coded[:length])


@pytest.mark.parametrize("garbage", [b"\x00", b"x", b"\x1f", b"\x1f\x8b", b"\x00" * 512, b"<html>" * 100])
def test_what_was_appended_is_damage(codec: Codec, garbage: bytes) -> None:
    coded = encoded(codec, PLAIN)
    with pytest.raises(BackupDamaged):
        decoded(codec, coded + garbage)


def test_a_flipped_bit_changes_the_bytes_or_is_damage(codec: Codec) -> None:
    coded = encoded(codec, PLAIN)
    quiet = []
    for place in range(len(coded)):
        flipped = coded[:place] + bytes([coded[place] ^ 1]) + coded[place + 1 :]
        try:
            if decoded(codec, flipped) != PLAIN:
                quiet.append(place)
        except (BackupDamaged, IdentityMissing):
            continue
    # The codec's own checksum covers the content; the rest of a header is the manifest's to guard.
    assert quiet == []


def test_damage_is_told_before_the_stream_has_ended() -> None:
    coded = bytearray(encoded(Gzip(), random.Random(2).randbytes(500_000)))  # noqa: S311
    coded[200] ^= 0xFF
    read = 0

    def counted() -> Iterator[bytes]:
        nonlocal read
        for chunk in in_steps(bytes(coded), 1000):
            read += len(chunk)
            yield chunk

    with pytest.raises(BackupDamaged):
        b"".join(Gzip().decode(counted()))
    assert read < len(coded) // 2


def test_a_bomb_is_decoded_in_small_pieces() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(bytes(BOMB)) + packer.flush()
    assert len(bomb) < BOMB // 900
    tracemalloc.start()
    try:
        pieces = [len(piece) for piece in Gzip().decode(iter((bomb,)))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(pieces) == BOMB
    assert max(pieces) <= 1 << 20
    assert peak < 4 << 20


def test_what_fails_before_the_codec_passes_through_it(codec: Codec) -> None:
    class Broken(Exception):
        pass

    def broken() -> Iterator[bytes]:
        yield b"some"
        raise Broken

    with pytest.raises(Broken):
        list(codec.encode(broken()))
    with pytest.raises(Broken):
        list(codec.decode(broken_after(encoded(codec, PLAIN)[:50], Broken)))


def broken_after(coded: bytes, error: type[Exception]) -> Iterator[bytes]:
    yield coded
    raise error


class Reversed:
    """Turns each chunk around; it is in no manifest of ours."""

    name = "reversed"
    ending = ".rev"

    def encode(self, plain: Iterator[bytes]) -> Iterator[bytes]:
        return (chunk[::-1] for chunk in plain)

    def decode(self, coded: Iterator[bytes]) -> Iterator[bytes]:
        return (chunk[::-1] for chunk in coded)


def test_a_chain_encodes_in_order_and_decodes_backwards() -> None:
    chain = Chain(codecs=(Gzip(), Reversed()))
    coded = list(chain.encode(iter((PLAIN,))))
    assert (chain.names, chain.ending) == (("gzip", "reversed"), ".gz.rev")
    assert gzip.decompress(b"".join(chunk[::-1] for chunk in coded)) == PLAIN
    assert b"".join(chain.decode(iter(coded), chain.names)) == PLAIN


def test_the_manifest_says_what_an_image_passed_through_not_the_settings() -> None:
    coded = encoded(Gzip(), PLAIN)
    chain = Chain(codecs=(Reversed(),), others=(Gzip(),))
    assert b"".join(chain.decode(iter((coded,)), ("gzip",))) == PLAIN
    assert b"".join(chain.decode(iter((PLAIN,)), ())) == PLAIN


def test_a_codec_that_is_not_known_is_named() -> None:
    with pytest.raises(BackupDamaged, match="'zstd', which is not known"):
        Chain(codecs=(Gzip(),)).decode(iter((PLAIN,)), ("gzip", "zstd"))


@pytest.mark.parametrize("step", [1, 2, 5000])
def test_without_a_manifest_the_first_bytes_tell_the_codec(step: int) -> None:
    chain = Chain(codecs=(Gzip(),))
    for file in (PLAIN, encoded(Gzip(), PLAIN), gzip.compress(PLAIN)):
        assert b"".join(chain.decode_by_content(in_steps(file, step))) == PLAIN
    for short in (b"", b"\x1f", b"x"):
        assert b"".join(chain.decode_by_content(in_steps(short, step))) == short


def test_encryption_keeps_a_few_chunks_in_memory_whatever_the_size() -> None:
    age = Age((), None).with_own_key()
    chunk = random.Random(3).randbytes(1 << 20)  # noqa: S311 - the same bytes each time
    tracemalloc.start()
    try:
        size = sum(map(len, age.decode(age.encode(chunk for _ in range(64)))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 << 20
    assert peak < 24 << 20


def test_who_does_not_want_the_rest_ends_the_thread() -> None:
    age = Age((), None).with_own_key()
    before = threading.active_count()
    endless = age.encode(bytes(1 << 20) for _ in itertools.count())
    next(endless)
    assert threading.active_count() == before + 1
    endless.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_fails_in_the_thread_is_raised_where_the_chunks_are_wanted() -> None:
    def work(source: Source, target: Target) -> None:
        target.write(source.read(2))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(through_thread(work, iter((b"some", b"more"))))
