"""A dump as bytes: what is left out of it for older servers, and where it ends."""

from pathlib import Path

from obms.databases.postgresql_dump import EDGE, END, edged, read_dump, whole, without_timeout


def test_the_setting_that_older_servers_do_not_know_is_left_out() -> None:
    head = b"-- head\nSET transaction_timeout = 0;\nSET x = 1;\n"
    assert b"".join(without_timeout(iter((head, b"SET transaction_timeout = 0;\n")))) == (
        b"-- head\nSET x = 1;\nSET transaction_timeout = 0;\n"
    )
    assert b"".join(without_timeout(iter(()))) == b""


def test_the_end_of_a_dump_is_found_across_chunks() -> None:
    dump = b"x" * 5000 + END + b"\n\n"
    for size in (1, 7, len(dump)):
        chunks = (dump[start : start + size] for start in range(0, len(dump), size))
        assert b"".join(whole(chunks)) == dump


def test_a_dump_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "dump").write_bytes(b"x" * 3_000_000 + END + b"\n")
    assert b"".join(read_dump(tmp_path / "dump")) == (tmp_path / "dump").read_bytes()


def test_only_the_edges_of_a_dump_are_changed_however_it_comes() -> None:
    dump = b"a" * EDGE + b"b" * 3 * EDGE + b"c" * EDGE
    for size in (EDGE, EDGE + 1, 3 * EDGE, len(dump)):
        chunks = (dump[start : start + size] for start in range(0, len(dump), size))
        changed = b"".join(edged(chunks, lambda head: head.replace(b"a", b""), lambda end: end[:-1] + b"!"))
        assert changed == b"b" * 3 * EDGE + b"c" * (EDGE - 1) + b"!"
