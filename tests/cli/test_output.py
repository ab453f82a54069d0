"""What the commands print: one JSON document for programs, lines for people, secrets for nobody."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from typer.main import get_command

from obms.backup.copies import Copy
from obms.backup.run import run
from obms.cli import app
from obms.cli.output import run_as_text
from tests.deployment import SECRET, Deployment

RUN = {
    *("id", "file", "database", "created_at", "bytes", "raw_bytes", "sha256", "rows", "proven"),
    *("proof", "copies", "removed", "seconds"),
}
LISTED = {"id", "file", "database", "created_at", "bytes", "proven", "proven_at"}
RESTORED = {"id", "database", "rows", "proven", "safety_backup", "revocations_kept", "seconds"}


def every_command() -> list[tuple[str, ...]]:
    """The words of each command that does something."""
    return list(_commands(get_command(app)))


def _commands(command: object, *words: str) -> Iterator[tuple[str, ...]]:
    below: dict[str, object] | None = getattr(command, "commands", None)
    if below is None:
        yield words
        return
    for word, inner in below.items():
        yield from _commands(inner, *words, word)


@pytest.mark.parametrize("words", every_command(), ids=" ".join)
def test_the_help_of_each_command_has_an_example(sqlite: Deployment, words: tuple[str, ...]) -> None:
    answer = sqlite.obms(*words, "--help")
    assert answer.code == 0
    assert f"obms {' '.join(words)}" in answer.out.split("Example:")[1]


def test_the_json_of_each_command_holds_what_is_promised(deployment: Deployment) -> None:
    deployment.seed()
    made = deployment.made_backup()
    assert made.keys() >= RUN
    assert made["rows"]["credentials"] == 30
    assert made["proof"]["level"] == "proven"
    assert all(check.keys() == {"name", "ok", "detail"} for check in made["proof"]["checks"])
    (listed,) = deployment.obms("backup", "list", "--json").json
    assert listed.keys() >= LISTED
    assert listed["id"] == made["id"]
    shown = deployment.obms("backup", "show", "latest", "--json").json
    assert shown["manifest"]["sha256"] == made["sha256"]
    verified = deployment.obms("backup", "verify", made["id"], "--json").json
    assert verified.keys() >= {"id", "ok", "level", "checks"}
    planned = deployment.obms("restore", "latest", "--dry-run", "--json").json
    assert planned["rows"] == made["rows"]
    restored = deployment.obms("restore", "latest", "--yes", "--json").json
    assert restored.keys() >= RESTORED
    assert restored["rows"] == made["rows"]
    assert deployment.obms("migrate", "--json").json["database"] == made["database"]


@pytest.mark.parametrize("level", ["intact", "restorable", "proven"])
def test_a_verdict_reaches_the_level_that_was_asked_for(sqlite: Deployment, level: str) -> None:
    sqlite.seed(12)
    made = sqlite.obms("backup", "run", "--no-prove", "--json").json
    assert made["proof"] == {"level": None, "checks": []}
    answer = sqlite.obms("backup", "verify", made["id"], "--level", level, "--json")
    assert answer.code == 0
    assert answer.json["level"] == level
    (listed,) = sqlite.obms("backup", "list", "--json").json
    assert listed["proven"] is (level == "proven")


def test_people_are_told_in_lines(sqlite: Deployment) -> None:
    assert f"no backup in {sqlite.backup_dir}" in sqlite.obms("backup", "list").out
    sqlite.seed(12)
    run = sqlite.obms("backup", "run")
    assert run.out.rstrip().endswith("\nproven")
    assert "  ok   rows: " in run.out
    assert "proven" in sqlite.obms("backup", "list").out
    assert "later revocations" in sqlite.obms("restore", "latest", "--dry-run").out
    restored = sqlite.obms("restore", "latest", "--yes")
    assert "later revocations kept: 0" in restored.out
    assert "--undo" in restored.out
    assert sqlite.obms("backup", "show", "latest").out.startswith("{")


def test_a_show_of_a_backup_holds_its_problem(sqlite: Deployment) -> None:
    made = sqlite.obms("backup", "run", "--no-prove", "--json").json
    (sqlite.backup_dir / made["file"]).unlink()
    shown = sqlite.obms("backup", "show", made["id"], "--json").json
    assert shown["state"] == "damaged"
    assert shown["problem"] == "its image is missing"
    orphan = sqlite.backup_dir / "sqlite_backup_2020-01-01_00-00-00.db.gz"
    orphan.write_bytes(b"by hand")
    listed = {row["file"]: row for row in sqlite.obms("backup", "list", "--json").json}
    assert listed[orphan.name]["state"] == "orphan"
    assert listed[orphan.name]["proven"] is False


def test_no_progress_is_shown_without_a_terminal(sqlite: Deployment) -> None:
    with sqlite.start("seed", "--credentials", "12", "--proof", "jwt", "--json") as command:
        out, errors = command.communicate()
    assert command.returncode == 0
    assert json.loads(out)["credentials"] == 12
    assert errors == ""


def test_no_secret_is_ever_printed(postgresql: Deployment) -> None:
    assert postgresql.postgres is not None
    postgresql.seed(12)
    password = postgresql.postgres.password
    wrong = postgresql.environment["DATABASE_URL"].replace(password, "a-wrong-password")
    answers = [
        postgresql.obms("backup", "run"),
        postgresql.obms("backup", "show", "latest"),
        postgresql.obms("restore", "latest", "--yes"),
        postgresql.obms("backup", "run", DATABASE_URL=wrong),
        postgresql.obms("backup", "run", DATABASE_URL=f"mysql://user:{password}@here/there"),
    ]
    assert [answer.code for answer in answers] == [0, 0, 0, 3, 2]
    for answer in answers:
        for secret in (SECRET, password, "a-wrong-password"):
            assert secret not in answer.out + answer.err
    assert SECRET not in repr(postgresql.settings)
    assert password not in repr(postgresql.settings) + repr(postgresql.database.engine)


def test_a_copy_is_called_read_back_only_where_one_was_made(stocked_sqlite: Deployment) -> None:
    made = run(stocked_sqlite.backups)
    held = Copy(store="s3://b/p", ok=True, seconds=0.1, bytes=0)
    sent = replace(held, copied=(made.manifest.id,), bytes=70_000)
    told = [run_as_text(replace(made, copies=(copy,))) for copy in (held, sent)]
    assert "  ok   s3://b/p: it lacked nothing\n" in told[0]
    assert "  ok   s3://b/p: 1 copied, 70.0 kB, read back whole\n" in told[1]


def test_a_backup_is_shown_and_pinned_by_its_path_too(
    sqlite: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sqlite.obms("backup", "run", "--no-prove", "--json").json
    file = sqlite.backup_dir / made["file"]
    elsewhere = shutil.copytree(sqlite.backup_dir, sqlite.folder / "elsewhere") / made["file"]
    for path in (file, elsewhere):
        assert sqlite.obms("backup", "show", str(path), "--json").json["id"] == made["id"]
    monkeypatch.chdir(sqlite.folder)
    assert sqlite.obms("backup", "pin", f"backups/{made['file']}", "--json").json["pinned"]
    assert not sqlite.obms("backup", "unpin", str(file), "--json").json["pinned"]
    refused = sqlite.obms("backup", "pin", str(elsewhere))
    assert (refused.code, refused.out) == (2, "")
