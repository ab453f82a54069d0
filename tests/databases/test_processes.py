"""A child's exit status is never overlooked."""

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from obms.databases.processes import read_from, write_to
from obms.errors import BackupDamaged, BackupFailed


def read(*command: str) -> bytes:
    return b"".join(read_from(command, env=None, error=BackupFailed))


def sh(script: str) -> bytes:
    return read("/bin/sh", "-c", script)


def test_what_a_child_writes_is_read() -> None:
    assert sh("head -c 3000000 /dev/zero") == bytes(3_000_000)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("printf data; exit 3", "sh ended with 3: no message"),
        ("printf data; echo hint >&2; echo 'last line' >&2; exit 1", "sh ended with 1: last line"),
        ("echo 'x: error: this' >&2; echo 'detail' >&2; exit 1", "sh ended with 1: x: error: this"),
        ("printf data; kill -9 $$", "sh was killed by signal 9: no message"),
    ],
)
def test_a_child_that_failed_is_an_error_at_the_end_of_its_bytes(script: str, said: str) -> None:
    chunks = read_from(("/bin/sh", "-c", script), env=None, error=BackupFailed)
    with pytest.raises(BackupFailed, match=said):
        b"".join(chunks)


def test_a_child_whose_reader_stops_is_ended() -> None:
    before = set(psutil.Process().children())
    chunks = read_from(("cat", "/dev/zero"), env=None, error=BackupFailed)
    assert next(chunks) == bytes(1 << 20)
    chunks.close()
    assert set(psutil.Process().children()) == before


def test_what_a_child_is_given_arrives(tmp_path: Path) -> None:
    write_to(
        (
            sys.executable,
            "-c",
            f"import sys; open({str(tmp_path / 'got')!r}, 'wb').write(sys.stdin.buffer.read())",
        ),
        iter((b"one ", b"two")),
        env=None,
        error=BackupDamaged,
    )
    assert (tmp_path / "got").read_bytes() == b"one two"


@pytest.mark.parametrize("script", ["exit 3", "exec <&-; exit 0", "kill -9 $$"])
def test_a_child_that_does_not_take_all_is_an_error(script: str) -> None:
    with pytest.raises(BackupDamaged):
        write_to(("/bin/sh", "-c", script), iter([bytes(1 << 20)] * 4), env=None, error=BackupDamaged)


def test_a_source_that_fails_ends_the_child() -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ZeroDivisionError

    before = set(psutil.Process().children())
    with pytest.raises(ZeroDivisionError):
        write_to(("cat",), broken(), env=None, error=BackupDamaged)
    assert set(psutil.Process().children()) == before
