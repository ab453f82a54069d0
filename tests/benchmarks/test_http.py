"""The benchmark of the API measures: it starts a server, asks it, and is told by it what it wanted."""

from pathlib import Path

import pytest

from benchmarks import http


@pytest.mark.slow
def test_a_short_run_measures_what_it_asks_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seconds", "0.2", "--credentials", "5", "--database", "sqlite", "--only", "get"]
    trivial, read = http.measure_all(tmp_path, http.arguments(options))
    assert (trivial.wrong, read.wrong) == ({}, {})
    assert read.rate > 0
    assert 0 < read.p99 < 60
    assert 0 < trivial.cpu < read.cpu < 1
    assert read.rss > 10 * http.MEBIBYTE
    assert "sqlite get" in capsys.readouterr().out
