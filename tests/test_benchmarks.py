"""What the comparison says of common backup scripts and of this program is so."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import compare_faults
from tests.postgres import Server, running_server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the scripts use the program sqlite3")
@pytest.mark.parametrize("case", compare_faults.CASES, ids=lambda case: case.title)
def test_the_scripts_report_success_and_lose_data_and_ours_does_not(
    case: compare_faults.Case, server: Server, tmp_path: Path
) -> None:
    theirs, ours = compare_faults.play(case, server, tmp_path)
    assert (theirs.status, theirs.right) == (0, False)
    assert ours.right
