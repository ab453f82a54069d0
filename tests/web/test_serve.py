"""What goes on beside the API: the schedule, in a process that is started again when it ends."""

import sys
from pathlib import Path
from threading import Event as Flag
from threading import Thread

import pytest

from obms.observe import Event
from obms.web.serve import keep_running
from tests.real_faults import wait_until

# It ends by a wrong setting twice, by another one, and then for a signal, again and again.
ENDING = """
import os, pathlib, sys
starts = pathlib.Path({starts!r})
starts.write_text(starts.read_text() + "x")
count = len(starts.read_text())
if count > 3:
    print("timestamp=now level=info event=schedule.next", file=sys.stderr, flush=True)
    os.kill(os.getpid(), 9)
print("obms: The configuration is wrong:", "second" if count > 2 else "first", file=sys.stderr)
sys.exit(2)
"""


def test_a_schedule_that_ends_at_once_again_is_told_once_with_its_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    starts, over, told = tmp_path / "starts", Flag(), list[Event]()
    starts.touch()
    command = (sys.executable, "-c", ENDING.format(starts=str(starts)))
    kept = {"notify": told.append, "command": command, "pause": 0.01}
    keeper = Thread(target=keep_running, args=(over,), kwargs=kept)
    keeper.start()
    try:
        wait_until(lambda: len(starts.read_text()) > 5, "the fifth start")
    finally:
        over.set()
        keeper.join()
    assert [(event.name, event.ok) for event in told] == [("schedule.ended", False)] * 3
    assert [event.facts for event in told] == [
        {"exit_code": 2, "error": "obms: The configuration is wrong: first"},
        {"exit_code": 2, "error": "obms: The configuration is wrong: second"},
        {"exit_code": -9, "error": None},
    ]
    assert capfd.readouterr().err.count("first") == 2
