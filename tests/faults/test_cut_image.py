"""R1: an image without a manifest that was cut off in any of its pages is refused, and nothing is touched."""

import gzip
from itertools import pairwise

from obms.databases.sqlite import PAGE_SIZE
from tests.deployment import Deployment


def test_r1_an_image_cut_off_in_any_page_is_refused_as_damaged(sqlite: Deployment) -> None:
    sqlite.seed(12)
    made = sqlite.made_backup()
    image = gzip.decompress((sqlite.backup_dir / made["file"]).read_bytes())
    before = sqlite.database.facts()
    answers = {}
    for start, _end in pairwise(range(PAGE_SIZE, len(image) + 1, PAGE_SIZE)):
        path = sqlite.folder / "cut.db"
        path.write_bytes(image[: start + 100])
        answers[start] = sqlite.obms("restore", str(path), "--yes").code
    assert {start: code for start, code in answers.items() if code != 5} == {}
    assert sqlite.database.facts() == before
