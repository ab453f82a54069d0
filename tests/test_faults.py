"""Every fault that the server has to survive has a test, and the page that lists them tells no other."""

import ast
import re
from pathlib import Path

import pytest

from docs import generate
from docs.faults import FAULTS, TESTS, shown_by_fault, shown_in

COUNTS = {"B": 13, "K": 8, "R": 15, "S": 5}
PAGE = generate.FAULTS_PAGE.read_text(encoding="utf-8")


def test_the_list_is_whole() -> None:
    assert list(FAULTS) == [f"{area}{n}" for area, count in COUNTS.items() for n in range(1, count + 1)]


@pytest.mark.parametrize("id", FAULTS)
def test_a_fault_has_a_test_and_is_in_the_page(id: str) -> None:
    assert shown_by_fault()[id]
    assert re.search(rf"^## {id}\n\n- `tests/", PAGE, re.MULTILINE), "run `make docs`"
    assert FAULTS[id] in PAGE, "run `make docs`"


def test_each_test_in_the_page_is_there() -> None:
    told = re.findall(r"^- `(tests/\S+)`: (?:`(\w+)`)?", PAGE, re.MULTILINE)
    assert len(told) > len(FAULTS)
    for file, name in told:
        tree = ast.parse((TESTS.parent / file).read_text(encoding="utf-8"))
        names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert not name or name in names, "run `make docs`"


def test_a_fault_is_read_from_names_and_docstrings_and_not_from_any_mention(tmp_path: Path) -> None:
    page = tmp_path / "test_x.py"
    page.write_text(
        '"""B1 and K2: all of these."""\n'
        "def test_b3_and_r10_here(): pass\n"
        'def test_told():\n    """B4, K8: killed."""\n'
        'def test_at_the_end():\n    """It lives on (S5)."""\n'
        'def test_of_s3():\n    """On S3 it works."""\n',
        encoding="utf-8",
    )
    found = {(id, shown.test) for id, shown in shown_in(page)}
    assert found == {
        ("B1", ""),
        ("K2", ""),
        ("B3", "test_b3_and_r10_here"),
        ("R10", "test_b3_and_r10_here"),
        ("B4", "test_told"),
        ("K8", "test_told"),
        ("S5", "test_at_the_end"),
    }
