"""The metrics: what Prometheus reads, over HTTP and from a file, and what the dashboards ask for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from obms.backup.lock import locked
from obms.web import create_app
from tests.deployment import Deployment
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


@pytest.fixture
def full(stocked_sqlite: Deployment) -> Deployment:
    """A server of which every metric can be told."""
    server = stocked_sqlite
    server.environment |= {
        "BACKUP_SCHEDULE": "0 0 * * *",
        "BACKUP_STORES": str(server.folder / "store"),
        "METRICS_FILE": str(server.folder / "obms.prom"),
    }
    server.made_backup()
    assert server.obms("drill").code == 0
    assert server.obms("restore", "latest", "--yes").code == 0
    return server


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
    assert found["obms_backup_last_drill_rpo_seconds", ""] > 0
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


def test_a_folder_that_cannot_be_read_is_a_metric_and_no_error(sqlite: Deployment) -> None:
    sqlite.environment["BACKUP_DIR"] = str(sqlite.folder / ("x" * 300))
    found = metrics(sqlite)
    assert found["obms_backup_folder_readable", ""] == 0


@pytest.mark.parametrize(
    "damaged", [b"", b"[]", b'{"runs": "many", "restore": 3}', b'{"restore": {"seconds": "long"}}', b"\xff"]
)
def test_damaged_counters_stop_neither_the_metrics_nor_the_counting(
    sqlite: Deployment, damaged: bytes
) -> None:
    sqlite.backup_dir.mkdir()
    (sqlite.backup_dir / "counters.json").write_bytes(damaged)
    assert metrics(sqlite)["obms_backup_runs_total", ""] == 0
    assert sqlite.obms("backup", "run", SQLITE_FILE=str(sqlite.folder / "not-there.db")).code == 3
    assert metrics(sqlite)["obms_backup_failures_total", ""] == 1


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


def test_the_alerts_and_the_dashboard_ask_for_metrics_that_there_are(full: Deployment) -> None:
    names = {name for name, _ in metrics(full)}
    alerts = (DEPLOY / "prometheus-alerts.yml").read_text(encoding="utf-8")
    expressions = "\n".join(re.findall(r"expr: (?:>-\n)?((?:.|\n(?!        \w))+)", alerts))
    assert expressions.count("obms_") >= 10
    assert asked_for(expressions) - names == set()
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert asked_for(" ".join(asked)) - names == {"obms_backup_last_"}  # a pattern of two
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
