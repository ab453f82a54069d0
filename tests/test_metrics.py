"""The metrics: what Prometheus reads, over HTTP and from a file, and what the dashboards ask for."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from obms.backup.lock import locked
from obms.web import create_app
from tests.backup.conftest import execute
from tests.backup.test_revocations_outlive import revoke, valid_ids
from tests.deployment import Deployment, Templates
from tests.real_faults import fill_disk, small_disk, wait_until
from tests.serving import serving
from tests.web.conftest import Client

DEPLOY = Path(__file__).parents[1] / "deploy"
Samples = Mapping[tuple[str, str], float]


def read(text: str) -> Samples:
    """Each sample by its name and the value of its last label; every family has a type and a meaning."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in ("gauge", "counter", "info"), family.name
        for sample in family.samples:
            label = next(reversed(sample.labels.values()), "") if len(sample.labels) == 1 else ""
            found[sample.name, label] = sample.value
    return found


def metrics(server: Deployment) -> Samples:
    answer = Client(app=create_app(server.application)).get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return read(answer.text)


def be_full(server: Deployment) -> None:
    server.environment |= {
        "BACKUP_SCHEDULE": "0 0 * * *",
        "BACKUP_STORES": str(server.folder / "store"),
        "METRICS_FILE": str(server.folder / "obms.prom"),
    }
    server.made_backup()
    assert server.obms("drill").code == 0
    assert server.obms("restore", "latest", "--yes").code == 0


@pytest.fixture
def full(templates: Templates) -> Iterator[Deployment]:
    """A server of which every metric can be told."""
    with templates.stand_ready(be_full) as server:
        yield server


def test_they_tell_how_the_backups_stand(full: Deployment) -> None:
    found = metrics(full)
    shown = full.obms("backup", "show", "latest").json["manifest"]
    assert found["obms_backup_size_bytes", ""] == shown["bytes"]
    assert found["obms_backup_raw_size_bytes", ""] == shown["raw_bytes"]
    assert found["obms_backup_rows", "credentials"] == shown["rows"]["credentials"]
    assert 0 <= found["obms_backup_rpo_seconds", ""] < 120
    assert found["obms_backup_stale", ""] == 0
    assert found["obms_backup_backups", "proven"] == len([one for one in listed(full) if one["proven"]])
    assert found["obms_backup_last_run_success", ""] == 1
    stages = {label for name, label in found if name == "obms_backup_stage_duration_seconds"}
    assert {"prepare", "snapshot", "publish", "prove", "copy"} <= stages
    assert found["obms_backup_last_run_duration_seconds", ""] > 0
    assert found["obms_backup_last_restore_seconds", ""] > 0
    assert found["obms_backup_last_drill_seconds", ""] > 0
    assert found["obms_backup_last_drill_rpo_seconds", ""] == 0
    assert found["obms_backup_last_drill_success", ""] == 1
    assert (
        found["obms_backup_next_run_timestamp_seconds", ""]
        > found["obms_backup_last_run_timestamp_seconds", ""]
    )
    assert found["obms_backup_folder_readable", ""] == 1
    assert found["obms_info", ""] == 1
    stores = [value for (name, _), value in found.items() if name == "obms_backup_store_success"]
    assert stores == [1]


def listed(server: Deployment) -> Any:
    return server.obms("backup", "list", "--json").json


def test_failures_and_refusals_are_counted_over_processes(full: Deployment) -> None:
    assert full.obms("backup", "run", SQLITE_FILE=str(full.folder / "not-there.db")).code == 3
    with locked(full.backups), full.start("backup", "run") as command:
        command.communicate(timeout=60)
    found = metrics(full)
    assert command.returncode == 7
    assert found["obms_backup_runs_total", ""] == 2
    assert found["obms_backup_failures_total", ""] == 1
    assert found["obms_backup_refusals_total", ""] == 1
    assert found["obms_backup_last_run_success", ""] == 0
    assert found["obms_backup_last_run_exit_code", ""] == 3


def test_a_store_that_fails_is_told_by_its_name(full: Deployment) -> None:
    before = metrics(full)
    blocked = full.folder / "blocked"
    blocked.write_text("a file, where a folder is wanted", encoding="utf-8")
    full.environment["BACKUP_STORES"] += f" {blocked}/store?attempts=1"
    assert full.obms("backup", "run").code == 9
    found = metrics(full)
    states = {label: value for (name, label), value in found.items() if name == "obms_backup_store_success"}
    assert sorted(states.values()) == [0, 1]
    (bad,) = [store for store, value in states.items() if not value]
    assert "blocked" in bad
    assert found["obms_backup_store_complete_timestamp_seconds", bad] == 0
    (good,) = set(states) - {bad}
    name = "obms_backup_store_complete_timestamp_seconds"
    assert found[name, good] > before[name, good]


def test_s2_without_a_proven_backup_they_say_stale(sqlite: Deployment) -> None:
    found = metrics(sqlite)
    assert found["obms_backup_stale", ""] == 1
    assert ("obms_backup_rpo_seconds", "") not in found


def test_s2_of_a_proven_backup_that_is_too_old_they_say_stale(full: Deployment) -> None:
    full.environment["BACKUP_MAX_AGE"] = "1s"
    made_at = metrics(full)["obms_backup_newest_proven_timestamp_seconds", ""]
    wait_until(lambda: time.time() > made_at + 1, "the second")
    found = metrics(full)
    assert found["obms_backup_stale", ""] == 1
    assert found["obms_backup_rpo_seconds", ""] > found["obms_backup_max_age_seconds", ""] == 1


def test_a_folder_that_cannot_be_read_is_a_metric_and_no_error(sqlite: Deployment) -> None:
    sqlite.environment["BACKUP_DIR"] = str(sqlite.folder / ("x" * 300))
    found = metrics(sqlite)
    assert found["obms_backup_folder_readable", ""] == 0


def counters(server: Deployment) -> set[str]:
    return {name for name, _ in metrics(server) if name.endswith("_total")}


COUNTERS = {f"obms_backup_{name}_total" for name in ("runs", "failures", "refusals", "undelivered_notices")}


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"runs": 3', b"\xff"])
def test_counters_that_cannot_be_read_are_left_out_and_do_not_fall_to_0(
    sqlite: Deployment, damaged: bytes
) -> None:
    sqlite.environment["BACKUP_STORES"] = str(sqlite.folder / "store")
    sqlite.backup_dir.mkdir()
    assert counters(sqlite) == COUNTERS
    assert [value for (name, _), value in metrics(sqlite).items() if "_store_" in name] == [0, 0]
    (sqlite.backup_dir / "counters.json").write_bytes(damaged)
    assert counters(sqlite) == set()
    assert [name for name, _ in metrics(sqlite) if "_store_" in name] == []
    assert sqlite.obms("backup", "run", SQLITE_FILE=str(sqlite.folder / "not-there.db")).code == 3
    assert metrics(sqlite)["obms_backup_failures_total", ""] == 1


def test_counters_of_a_folder_that_is_gone_are_left_out(full: Deployment) -> None:
    assert counters(full) == COUNTERS
    full.backup_dir.rename(full.folder / "unmounted")
    assert counters(full) == set()


def test_what_is_damaged_within_the_counters_is_left_out_alone(sqlite: Deployment) -> None:
    sqlite.backup_dir.mkdir()
    told = {"runs": "many", "failures": 2, "restore": {"seconds": "long", "at": 5}, "drill": {"ok": False}}
    (sqlite.backup_dir / "counters.json").write_text(json.dumps(told), encoding="utf-8")
    found = metrics(sqlite)
    assert counters(sqlite) == COUNTERS - {"obms_backup_runs_total"}
    assert found["obms_backup_failures_total", ""] == 2
    recovered = {name.removeprefix("obms_backup_last_"): value for (name, _), value in found.items()}
    assert (recovered["restore_timestamp_seconds"], recovered["drill_success"]) == (5, 0)
    assert not recovered.keys() & {"restore_seconds", "drill_seconds", "drill_rpo_seconds"}


def test_they_tell_that_removal_is_held_back(full: Deployment) -> None:
    assert metrics(full)["obms_backup_retention_held", ""] == 0
    execute(full, "DELETE FROM user_roles")
    full.made_backup()
    assert metrics(full)["obms_backup_retention_held", ""] == 1
    assert full.obms("backup", "prune", "--yes").code == 0
    assert metrics(full)["obms_backup_retention_held", ""] == 0


def test_they_tell_that_revocations_cannot_be_written_beside_the_backups(full: Deployment) -> None:
    assert metrics(full)["obms_backup_journal_writable", ""] == 1
    with small_disk(full.backup_dir / "journal", 128) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        fill_disk(full.backup_dir / "journal", leave=10_000)
        assert metrics(full)["obms_backup_journal_writable", ""] == 0


def behind(server: Deployment) -> float:
    (value,) = (
        value for (name, _), value in metrics(server).items() if name.endswith("journal_behind_bytes")
    )
    return value


def test_they_tell_how_much_of_the_journal_a_store_lacks(full: Deployment) -> None:
    assert behind(full) == 0
    journal = full.backups.later.journal
    journal.append([{"known": "here alone"}])
    (file,) = journal.files()
    lacking = len(file.read_bytes().splitlines(keepends=True)[-1])
    assert behind(full) == lacking
    store = full.folder / "store"
    store.rename(full.folder / "away")
    store.write_text("in the way", encoding="utf-8")
    assert full.obms("backup", "run", BACKUP_STORES=f"{store}?attempts=1").code == 9
    assert behind(full) >= lacking
    store.unlink()
    (full.folder / "away").rename(store)
    full.made_backup()
    assert behind(full) == 0


def test_a_journal_that_is_shorter_than_what_was_sent_is_another_one_and_lacked(full: Deployment) -> None:
    assert behind(full) == 0
    (file,) = full.backups.later.journal.files()
    last = file.read_bytes().splitlines(keepends=True)[-1]
    file.write_bytes(last)
    assert behind(full) == len(last)


def test_what_the_api_brings_to_the_store_is_known_without_a_run(full: Deployment) -> None:
    (file,) = full.backups.later.journal.files()
    before = file.stat().st_size
    revoke(full, valid_ids(full, 1))
    assert file.stat().st_size > before
    wait_until(lambda: behind(full) == 0, "the arrival of the journal in the store")


@pytest.mark.parametrize("junk", [[], {"revocations": "much"}], ids=["no sizes", "a word"])
def test_junk_in_what_is_known_of_a_store_is_taken_for_nothing_known(full: Deployment, junk: object) -> None:
    file = full.backup_dir / "counters.json"
    told = json.loads(file.read_bytes())
    (name,) = (name for name in told if name.startswith("journal "))
    file.write_text(json.dumps(told | {name: {"ok": True, "held": junk}}), encoding="utf-8")
    assert behind(full) > 0
    full.made_backup()
    assert behind(full) == 0


def test_a_line_that_was_left_torn_is_not_lacked(full: Deployment) -> None:
    (file,) = full.backups.later.journal.files()
    with file.open("ab") as torn:
        torn.write(b'{"entry"')
    assert behind(full) == 0


def test_a_run_writes_them_to_a_file_as_a_whole(full: Deployment) -> None:
    file = full.folder / "obms.prom"
    found = read(file.read_text(encoding="utf-8"))
    assert found["obms_backup_last_run_success", ""] == 1
    assert full.obms("backup", "run", SQLITE_FILE=str(full.folder / "not-there.db")).code == 3
    found = read(file.read_text(encoding="utf-8"))
    assert found["obms_backup_last_run_success", ""] == 0
    assert found["obms_backup_failures_total", ""] == 1
    assert [path.name for path in full.folder.glob("obms.prom*")] == ["obms.prom"]


def test_a_file_that_cannot_be_written_fails_no_run_and_is_told(stocked_sqlite: Deployment) -> None:
    answer = stocked_sqlite.obms("backup", "run", METRICS_FILE=str(stocked_sqlite.folder / "none" / "x.prom"))
    assert answer.code == 0
    assert "metrics.failed" in answer.err


@pytest.mark.slow
def test_every_worker_says_the_same(full: Deployment) -> None:
    with serving(full, workers=2) as address:
        texts = [httpx.get(f"{address}/metrics", timeout=30).text for _ in range(6)]
    names = ("obms_backup_runs_total", "obms_backup_last_restore_seconds", "obms_backup_size_bytes")
    assert len({tuple(read(text)[name, ""] for name in names) for text in texts}) == 1


def asked_for(text: str) -> set[str]:
    return set(re.findall(r"\bobms_\w+", text))


ALERTS = (DEPLOY / "prometheus-alerts.yml").read_text(encoding="utf-8")
EXPRESSIONS = "\n".join(re.findall(r"expr: (?:>-\n)?((?:.|\n(?!        \w))+)", ALERTS))
DASHBOARD = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
ASKED = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])


def test_the_alerts_and_the_dashboard_ask_for_metrics_that_there_are(full: Deployment) -> None:
    names = {name for name, _ in metrics(full)}
    assert EXPRESSIONS.count("obms_") >= 10
    assert asked_for(EXPRESSIONS) - names == set()
    assert asked_for(ASKED) - names == {"obms_backup_last_"}  # a pattern of two
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_alerts_and_the_dashboard_see_a_textfile_that_is_frozen() -> None:
    """By the clock of Prometheus, and against the setting: the ages in a file are of when it was written."""
    assert "obms_backup_rpo_seconds" not in EXPRESSIONS + ASKED
    assert "* 3600" not in EXPRESSIONS
    asked = "time() - obms_backup_newest_proven_timestamp_seconds"
    assert f"{asked} > obms_backup_max_age_seconds" in EXPRESSIONS
    assert asked in ASKED


def test_every_metric_is_documented_and_every_counter_that_fails_has_an_alert(full: Deployment) -> None:
    page = (DEPLOY.parent / "docs" / "how-to" / "monitoring.md").read_text(encoding="utf-8")
    told = re.sub(r"\{.*?\}", "", page)
    names = {name.removeprefix("obms_backup_") for name, _ in metrics(full)}
    in_short = {"last_restore_timestamp_seconds", "last_drill_timestamp_seconds"}
    assert [
        name for name in sorted(names - in_short) if f"`{name}`" not in re.sub(r"\{.*?\}", "", told)
    ] == []
    assert asked_for(EXPRESSIONS) >= COUNTERS - {"obms_backup_runs_total"}
