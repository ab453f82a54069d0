"""Notices and heartbeats arrive at a real server; one that does not arrive fails nothing."""

import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

import obms
from obms.app import open_hook
from obms.backup.counters import read_counters
from obms.backup.lock import locked
from obms.backup.run import run
from obms.backup.staleness import watch_alone, watch_staleness
from obms.errors import ConfigurationError
from obms.notices import TITLES, UNTOLD, Notices, open_teller
from obms.observe import Event, utc_now
from tests.backup.conftest import Noted, execute
from tests.deployment import Deployment
from tests.listening import Listener, listening
from tests.real_faults import unreadable, wait_until
from tests.serving import free_port

FAILED = Event(name="backup.run", ok=False, facts={"id": None, "error": "The disk is gone."})


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def told_sqlite(sqlite: Deployment, listener: Listener) -> Deployment:
    """A server that tells the listener, and is watched by it."""
    sqlite.environment["BACKUP_NOTIFY_URLS"] = f"{listener.address}/hook?token=hidden"
    sqlite.environment["BACKUP_HEARTBEAT_URL"] = f"{listener.address}/ping/hidden"
    sqlite.seed(12)
    return sqlite


def notices(*urls: str, bound: float = 20.0, report: Noted) -> Notices:
    return Notices(
        tellers=tuple(map(open_teller, urls)),
        heartbeats=(),
        every_run=False,
        server="https://badges.example.org",
        version="1",
        clock=utc_now,
        report=report,
        bound=bound,
    )


def test_a_failed_run_is_told_and_so_is_the_next_good_one_once(
    told_sqlite: Deployment, listener: Listener
) -> None:
    missing = str(told_sqlite.folder / "not-there.db")
    assert told_sqlite.obms("backup", "run", SQLITE_FILE=missing).code == 3
    (message,) = [body for body in listener.bodies if body]
    assert message["event"] == "backup.run"
    assert message["ok"] is False
    assert message["title"].endswith("a backup failed")
    assert "not-there.db" in message["facts"]["error"]
    assert message["facts"]["exit_code"] == 3
    for _ in range(2):
        told_sqlite.made_backup()
    assert [body["event"] for body in listener.bodies if body] == ["backup.run", "backup.recovered"]
    beats = sorted(path for method, path in listener.asked if method == "GET")
    assert beats == ["/ping/hidden", "/ping/hidden", "/ping/hidden/fail"]


def test_each_run_is_told_where_that_is_wanted_and_only_a_proven_one_is_a_heartbeat(
    told_sqlite: Deployment, listener: Listener
) -> None:
    assert told_sqlite.obms("backup", "run", "--no-prove", BACKUP_NOTIFY_ON="all").code == 0
    assert listener.asked == [("POST", "/hook?token=hidden")]


def test_a_refused_run_is_told_and_counted(told_sqlite: Deployment, listener: Listener) -> None:
    with locked(told_sqlite.backups):
        assert told_sqlite.obms("backup", "run").code == 7
    assert [body["event"] for body in listener.bodies] == ["backup.refused"]
    assert read_counters(told_sqlite.backup_dir)["refusals"] == 1


def test_a_bad_backup_is_told_once(told_sqlite: Deployment, listener: Listener) -> None:
    made = told_sqlite.made_backup()
    image = told_sqlite.backup_dir / made["file"]
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    assert told_sqlite.obms("backup", "verify", made["id"]).code == 5
    (message,) = [body for body in listener.bodies if body]
    assert (message["event"], message["facts"]["outcome"]) == ("backup.judged", "bad")
    assert "stored bytes" in message["facts"]["error"]
    assert "obms backup list" in message["facts"]["hint"]


def test_a_backup_that_could_not_be_judged_is_told_as_that_with_the_reason(
    told_sqlite: Deployment, listener: Listener
) -> None:
    execute(told_sqlite, "UPDATE alembic_version SET version_num = '9999'")
    assert told_sqlite.obms("backup", "run").code == 6
    (message,) = [body for body in listener.bodies if body]
    assert message["title"].endswith("a backup could not be judged")
    assert "9999" in message["facts"]["error"]
    assert message["facts"]["hint"]


def test_all_is_good_again_only_when_a_backup_is_proven(told_sqlite: Deployment, listener: Listener) -> None:
    missing = str(told_sqlite.folder / "not-there.db")
    assert told_sqlite.obms("backup", "run", SQLITE_FILE=missing).code == 3
    assert told_sqlite.obms("backup", "run", "--no-prove").code == 0
    assert [body["event"] for body in listener.bodies if body] == ["backup.run"]
    told_sqlite.made_backup()
    assert [body["event"] for body in listener.bodies if body] == ["backup.run", "backup.recovered"]


def test_a_run_whose_proof_fails_is_one_notice(listener: Listener, noted: Noted) -> None:
    hook = notices(listener.address, report=noted)
    hook(Event(name="backup.judged", ok=False, facts={"id": "a"}))
    hook(Event(name="backup.run", ok=False, facts={"id": "a"}))
    hook(Event(name="backup.run", ok=False, facts={"id": "b"}))
    assert [body["event"] for body in listener.bodies] == ["backup.judged", "backup.run"]


def test_a_notice_is_tried_again(noted: Noted) -> None:
    with listening(503, 500, 204) as listener:
        notices(listener.address, report=noted)(FAILED)
    assert len(listener.asked) == 3
    assert [event.name for event in noted.events] == ["notice.delivered"]


@pytest.mark.parametrize("statuses", [(500,), (404,), (302,)])
def test_one_that_is_not_taken_is_reported_without_its_secret(noted: Noted, statuses: tuple[int]) -> None:
    with listening(*statuses) as listener:
        notices(f"{listener.address}/hidden?token=hidden", report=noted)(FAILED)
    (told,) = noted.events
    assert (told.name, told.ok) == ("notice.failed", False)
    assert told.facts["to"] == "http://127.0.0.1"
    assert str(statuses[0]) in str(told.facts["error"])
    assert "hidden" not in str(told)


def test_where_nobody_listens_the_run_is_made_and_the_lost_notice_counted(
    told_sqlite: Deployment,
) -> None:
    with listening() as gone:
        pass
    told_sqlite.environment["BACKUP_NOTIFY_URLS"] = f"{gone.address}/hidden"
    told_sqlite.environment["BACKUP_HEARTBEAT_URL"] = "https://[not-a-url/hidden"
    answer = told_sqlite.obms("backup", "run", BACKUP_NOTIFY_ON="all")
    assert answer.code == 0, answer.err
    assert "notice.failed" in answer.err
    assert "ConnectError" in answer.err
    assert "hidden" not in answer.err
    assert read_counters(told_sqlite.backup_dir)["undelivered_notices"] >= 1


def test_a_notice_that_is_tried_again_leaves_standard_output_to_the_document(sqlite: Deployment) -> None:
    sqlite.seed(12)
    with listening(500) as refusing:
        url = f"{refusing.address}/hidden"
        with sqlite.start(
            "backup", "run", "--json", BACKUP_NOTIFY_URLS=url, BACKUP_NOTIFY_ON="all"
        ) as command:
            out, err = command.communicate(timeout=60)
    assert len(refusing.asked) == 3
    assert json.loads(out)["proven"] is True
    assert "notice.failed" in err
    assert "hidden" not in err


def test_what_is_logged_first_goes_to_standard_error() -> None:
    script = "from obms.observe import logger; logger().error('the first line')"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    assert "the first line" in done.stderr


def test_one_who_never_answers_is_given_up_and_the_others_are_told(listener: Listener, noted: Noted) -> None:
    with listening() as silent:
        silent.open.clear()
        began = time.monotonic()
        notices(silent.address, listener.address, bound=1.0, report=noted)(FAILED)
        took = time.monotonic() - began
    assert took < 3
    assert len(listener.asked) == 1
    assert [event.facts["error"] for event in noted.named("notice.failed")] == ["no answer in 1 s"]


def test_apprise_tells_what_is_no_webhook(listener: Listener, noted: Noted) -> None:
    notices(f"json://127.0.0.1:{listener.port}/", report=noted)(FAILED)
    (message,) = listener.bodies
    assert message["title"] == "https://badges.example.org: a backup failed"
    assert "The disk is gone." in message["message"]
    assert message["type"] == "failure"
    assert [event.name for event in noted.events] == ["notice.delivered"]


def test_what_apprise_cannot_deliver_is_reported_without_its_secret(noted: Noted) -> None:
    with listening() as gone:
        pass
    notices(f"json://me:hidden@127.0.0.1:{gone.port}/", report=noted)(FAILED)
    assert [event.facts["to"] for event in noted.events] == ["json:"]
    assert "hidden" not in str(noted.events)


@pytest.mark.parametrize("url", ["nosuch://me:hidden@example.org", "hidden"])
def test_a_url_that_nothing_knows_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError) as told:
        open_teller(url)
    assert "hidden" not in f"{told.value} {told.value.hint}"


WITHOUT_APPRISE = "import sys; sys.modules['apprise'] = None; from obms.cli import main; main()"


def obms_without_apprise(server: Deployment, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command where the extra is not installed."""
    environment = {**server.environment, "BACKUP_NOTIFY_URLS": "mailto://me:hidden@example.org"}
    command = [sys.executable, "-c", WITHOUT_APPRISE, *arguments]
    return subprocess.run(
        command, cwd=server.folder, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_without_apprise_the_schedule_says_what_to_install(sqlite: Deployment) -> None:
    sqlite.environment["BACKUP_SCHEDULE"] = "0 0 * * *"
    for command in (("serve",), ("backup", "schedule")):
        done = obms_without_apprise(sqlite, *command)
        assert done.returncode == 2, done.stderr
        assert "pip install 'openbadges-modular-server[notify]'" in done.stderr
        assert "hidden" not in done.stderr


def test_without_apprise_a_backup_is_made_all_the_same_and_says_so(sqlite: Deployment) -> None:
    sqlite.seed(12)
    done = obms_without_apprise(sqlite, "backup", "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["proven"] is True
    assert "notice.failed" in done.stderr


def test_secrets_of_notices_are_in_no_setting_that_is_shown(told_sqlite: Deployment) -> None:
    assert "hidden" not in repr(told_sqlite.settings)


def test_s2_no_fresh_proven_backup_is_told_once_and_that_there_is_one_again(
    sqlite: Deployment, noted: Noted
) -> None:
    sqlite.seed(12)
    now = [utc_now()]
    backups = replace(sqlite.backups, clock=lambda: now[0], notify=noted)
    run(backups)
    look = watch_staleness(backups, timedelta(hours=26))
    for hours, told in ((25, []), (2, ["backup.stale"]), (5, ["backup.stale"])):
        now[0] += timedelta(hours=hours)
        look()
        assert [event.name for event in noted.events if "judged" not in event.name][1:] == told
    run(backups)
    look()
    look()
    assert len(noted.named("backup.fresh")) == 1
    assert [event.ok for event in noted.named("backup.stale")] == [False]


def test_s2_a_new_server_has_time_for_its_first_backup_and_one_that_failed_has_not(
    sqlite: Deployment, noted: Noted
) -> None:
    now = [utc_now()]
    backups = replace(sqlite.backups, clock=lambda: now[0], notify=noted)
    look = watch_staleness(backups, timedelta(hours=26))
    look()
    assert noted.events == []
    now[0] += timedelta(hours=27)
    look()
    assert len(noted.named("backup.stale")) == 1
    sqlite.obms("backup", "run", SQLITE_FILE=str(sqlite.folder / "not-there.db"))
    watch_staleness(backups, timedelta(hours=26))()
    assert len(noted.named("backup.stale")) == 2


def test_s2_an_api_that_keeps_no_schedule_tells_of_it(told_sqlite: Deployment, listener: Listener) -> None:
    assert told_sqlite.obms("backup", "run", "--no-prove").code == 0
    settings = {"PORT": str(free_port()), "BACKUP_MAX_AGE": "1s"}
    with told_sqlite.start("serve", "--no-schedule", **settings) as api:
        wait_until(lambda: listener.bodies, "the notice")
        api.terminate()
        api.communicate(timeout=30)
    assert [body["event"] for body in listener.bodies] == ["backup.stale"]


def test_s2_of_the_processes_with_one_folder_one_looks(tmp_path: Path) -> None:
    looked: list[str] = []
    first, second = (watch_alone(tmp_path, partial(looked.append, name)) for name in ("first", "second"))
    for look in (first, second, first):
        look()
    del first, look
    second()
    assert looked == ["first", "first", "second"]


def test_s2_where_no_lock_can_be_had_each_looks(tmp_path: Path) -> None:
    looked: list[str] = []
    for name in ("first", "second"):
        watch_alone(tmp_path / ("x" * 300), partial(looked.append, name))()
    assert looked == ["first", "second"]


def test_s2_a_folder_that_cannot_be_read_is_told(sqlite: Deployment, noted: Noted) -> None:
    sqlite.made_backup()
    look = watch_staleness(replace(sqlite.backups, notify=noted), timedelta(hours=26))
    look()
    assert noted.events == []
    with unreadable(sqlite.backup_dir):
        look()
        look()
    (told,) = noted.events
    assert (told.name, told.ok) == ("backup.stale", False)
    assert "Permission denied" in str(told.facts["problem"])


def test_what_cannot_be_counted_fails_nothing(sqlite: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    sqlite.environment["BACKUP_DIR"] = str(sqlite.folder / ("x" * 300))
    open_hook(sqlite.settings, logged=False)(FAILED)
    assert "counters.failed" in capsys.readouterr().err


def names_of_failures() -> Iterator[str]:
    """What the program calls the events that may say that something went wrong."""
    for file in Path(obms.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name | ast.Attribute):
                continue
            given = {keyword.arg: keyword.value for keyword in call.keywords}
            called = call.func.id if isinstance(call.func, ast.Name) else call.func.attr
            if called == "Event" and "ok" in given:
                yield from words_in(given["name"])
            elif "guard" in (called, *(arg.id for arg in call.args[:1] if isinstance(arg, ast.Name))):
                yield from (word for arg in call.args for word in words_in(arg) if "." in word)


def words_in(expression: ast.expr) -> list[str]:
    found = (part.value for part in ast.walk(expression) if isinstance(part, ast.Constant))
    return [value for value in found if isinstance(value, str)]


def test_whatever_goes_wrong_has_a_title_or_is_told_by_another_event() -> None:
    names = set(names_of_failures())
    assert {"backup.run", "backup.stale", "schedule.run_failed", "schedule.look_failed"} <= names
    assert names <= {*TITLES, *UNTOLD}
    assert {*TITLES, *UNTOLD} <= names | {"backup.recovered", "notice.delivered"}
