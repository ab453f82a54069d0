"""Each exit code of the contract, reached through the command, with one line that says what to do."""

import socket
import subprocess
from pathlib import Path

import pytest

from obms.backup.lock import locked
from obms.databases import writing
from obms.databases.sqlite import Sqlite
from tests.deployment import Answer, Deployment
from tests.real_faults import program, small_disk, unreadable


def assert_told(answer: Answer, code: int, *words: str) -> None:
    """It ended with the code, said one line about it, and nothing on standard output."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    (line,) = [line for line in answer.err.splitlines() if line.startswith("obms: ")]
    assert line.endswith(f"(exit {code})")
    for word in words:
        assert word in line


def test_0_done(sqlite: Deployment) -> None:
    answer = sqlite.obms("backup", "run", "--no-prove")
    assert answer.code == 0
    assert "not proven" in answer.out


def test_1_is_for_bugs(sqlite: Deployment) -> None:
    """A real bug cannot be kept for a test: one is put where the program looks for its code."""
    folder = sqlite.folder / "broken"
    program(folder / "sitecustomize.py", "import obms.config", "del obms.config.read_settings")
    with sqlite.start("backup", "list", PYTHONPATH=str(folder)) as command:
        _, errors = command.communicate()
    assert command.returncode == 1
    assert "ImportError" in errors


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "many"),
        ("PORT", "99999"),
        ("BASE_URL", "here"),
        ("DATABASE_URL", "mysql://somewhere/else"),
        ("DATABASE_URL", "nothing like a URL"),
        ("DB_TYPE", "oracle"),
        ("BACKUP_MAX_AGE", "soon"),
        ("SECRET_KEY_FILE", "/nowhere/at/all"),
    ],
)
def test_2_a_wrong_setting_is_named(sqlite: Deployment, name: str, value: str) -> None:
    environment = {"SECRET_KEY": ""} if name.startswith("SECRET") else {}
    answer = sqlite.obms("backup", "list", **environment, **{name: value})
    assert_told(answer, 2, name if name != "SECRET_KEY_FILE" else "secret's file")


def test_2_a_port_that_cannot_be_had_is_named_before_anything_is_begun(sqlite: Deployment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert_told(sqlite.obms("serve", PORT=port), 2, f"127.0.0.1:{port}", "in use", "another PORT")
    for host in ("a..b", "192.0.2.1"):
        assert_told(sqlite.obms("serve", PORT=port, HOST=host), 2, f"{host}:{port}", "Set HOST")
    assert_told(sqlite.obms("serve", HOST="no.such.host.invalid"), 2, "no.such.host.invalid")


def test_2_a_bad_schedule_is_named(sqlite: Deployment) -> None:
    assert_told(sqlite.obms("backup", "schedule", BACKUP_SCHEDULE="at noon"), 2, "BACKUP_SCHEDULE", "at noon")


@pytest.mark.parametrize(
    ("name", "value", "schedule"),
    [
        ("BACKUP_AGE_RECIPIENTS", "nobody's key", "off"),
        ("BACKUP_AGE_RECIPIENTS", "nobody's key", "0 0 * * *"),
        ("DRILL_SCHEDULE", "at noon", "off"),
    ],
)
def test_2_the_api_does_not_start_with_a_wrong_setting_of_the_backups_whoever_makes_them(
    sqlite: Deployment, name: str, value: str, schedule: str
) -> None:
    """A process of its own: one that starts all the same would not end."""
    settings = {"BACKUP_SCHEDULE": schedule, "PORT": "0", name: value}
    with sqlite.start("serve", **settings) as command:
        out, err = command.communicate(timeout=120)
    assert_told(Answer(code=command.returncode, out=out, err=err), 2, name)


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "nothing"),
        ("restore",),
        ("restore", "x", "--undo"),
        ("backup", "verify", "x", "--level", "y"),
    ],
)
def test_2_wrong_usage(sqlite: Deployment, arguments: tuple[str, ...]) -> None:
    answer = sqlite.obms(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert "Usage:" in answer.err


def test_2_there_is_no_such_backup(sqlite: Deployment) -> None:
    assert_told(sqlite.obms("backup", "show", "no-such"), 2, "no-such", "obms backup list")
    assert_told(sqlite.obms("restore", "latest", "--yes"), 2, "latest")


def test_2_there_is_no_restore_to_take_back(sqlite: Deployment) -> None:
    assert_told(sqlite.obms("restore", "--undo", "--yes"), 2, "no restore to take back", "obms backup list")


@pytest.mark.parametrize(
    ("arguments", "lists"),
    [
        (("users", "disable", "mary"), "obms users list"),
        (("users", "give", "mary", "admin"), "obms users list"),
        (("users", "api-key", "revoke", "mary"), "obms users api-key list"),
        (("keys", "rotate", "mary"), "obms keys list"),
        (("keys", "retire", "mary"), "obms keys list"),
    ],
)
def test_2_a_name_that_is_not_there_is_told_with_what_lists_them(
    sqlite: Deployment, arguments: tuple[str, ...], lists: str
) -> None:
    assert_told(sqlite.obms(*arguments), 2, "mary", lists)


def test_3_the_database_is_not_there(deployment: Deployment) -> None:
    missing = {"SQLITE_FILE": str(deployment.folder / "no.db")}
    if deployment.postgres is not None:
        missing = {"DATABASE_URL": deployment.postgres.url("no_such_database")}
    assert_told(deployment.obms("backup", "run", **missing), 3, "obms migrate")
    assert not (deployment.folder / "no.db").exists()


ON_ROWS = [
    ("keys", "list"),
    ("keys", "rotate", "--all"),
    ("users", "list"),
    ("users", "disable", "mary"),
    ("seed",),
]


@pytest.mark.parametrize("arguments", ON_ROWS)
def test_3_a_command_on_rows_says_that_the_database_is_not_there(
    deployment: Deployment, arguments: tuple[str, ...]
) -> None:
    missing = {"SQLITE_FILE": str(deployment.folder / "no.db")}
    if deployment.postgres is not None:
        missing = {"DATABASE_URL": deployment.postgres.url("no_such_database")}
    assert_told(deployment.obms(*arguments, **missing), 3, "There is no database", "obms migrate")


@pytest.mark.parametrize("arguments", [*ON_ROWS, ("migrate",)])
def test_3_a_command_on_rows_says_that_the_database_is_damaged(
    sqlite: Deployment, arguments: tuple[str, ...]
) -> None:
    notes = sqlite.folder / "notes.txt"
    notes.write_text("not a database, and long enough to be taken for one\n" * 99, encoding="utf-8")
    before = notes.read_bytes()
    assert_told(sqlite.obms(*arguments, SQLITE_FILE=str(notes)), 3, "is damaged", "obms restore latest")
    assert notes.read_bytes() == before


@pytest.mark.parametrize("arguments", [*ON_ROWS, ("backup", "run")])
def test_3_a_command_says_that_the_folder_of_the_database_is_not_its_to_read(
    sqlite: Deployment, arguments: tuple[str, ...]
) -> None:
    with unreadable(sqlite.folder / "data"):
        assert_told(sqlite.obms(*arguments), 3, "Permission denied", "user of the server")


@pytest.mark.parametrize("arguments", ON_ROWS)
def test_3_a_command_on_rows_says_that_the_tables_are_not_there(
    sqlite: Deployment, arguments: tuple[str, ...]
) -> None:
    empty = sqlite.folder / "empty.db"
    Sqlite(empty, work=sqlite.folder).create()
    assert_told(sqlite.obms(*arguments, SQLITE_FILE=str(empty)), 3, "has schema none", "obms migrate")


def test_4_the_backup_could_not_be_made(postgresql: Deployment) -> None:
    folder = program(postgresql.folder / "bin" / "pg_dump", 'echo "pg_dump (PostgreSQL) 14.1"')
    assert_told(postgresql.obms("backup", "run", PG_BIN_DIR=str(folder)), 4, "pg_dump", "14.1", "PG_BIN_DIR")


def test_5_the_backup_is_damaged(sqlite: Deployment) -> None:
    made = sqlite.obms("backup", "run", "--no-prove", "--json").json
    image = sqlite.backup_dir / made["file"]
    image.write_bytes(image.read_bytes()[:-1])
    assert_told(sqlite.obms("restore", made["id"], "--yes"), 5, made["file"])
    answer = sqlite.obms("backup", "verify", made["id"], "--json")
    assert answer.code == 5
    assert not answer.json["ok"]


def test_6_the_backup_is_not_proven(sqlite: Deployment) -> None:
    sqlite.seed(12)
    with writing(sqlite.database.engine) as connection:
        connection.exec_driver_sql("UPDATE status_entries SET value = 1 - value")
    answer = sqlite.obms("backup", "run", "--json")
    assert answer.code == 6
    assert answer.json["proven"] is False
    assert "status lists agree" in [
        check["name"] for check in answer.json["proof"]["checks"] if not check["ok"]
    ]


def test_7_another_run_holds_the_lock(sqlite: Deployment) -> None:
    with locked(sqlite.backups):
        assert_told(sqlite.obms("backup", "run"), 7, str(sqlite.backup_dir))


def test_8_a_restore_without_a_word_of_consent_is_refused(sqlite: Deployment) -> None:
    made = sqlite.obms("backup", "run", "--no-prove", "--json").json
    assert_told(sqlite.obms("restore", made["id"]), 8, "--yes", "--dry-run")


def test_9_the_storage_failed(sqlite: Deployment) -> None:
    sqlite.backup_dir.parent.joinpath("file").write_text("a file, where a folder is wanted", encoding="utf-8")
    answer = sqlite.obms("backup", "run", BACKUP_DIR=str(sqlite.folder / "file" / "backups"))
    assert_told(answer, 9, "file")


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "list"),
        ("backup", "show", "latest"),
        ("backup", "verify", "latest"),
        ("backup", "prune", "--yes"),
        ("restore", "latest", "--yes"),
        ("drill",),
    ],
)
def test_9_a_folder_of_copies_that_is_not_there_is_no_empty_one(
    sqlite: Deployment, arguments: tuple[str, ...]
) -> None:
    absent = sqlite.folder / "mistyped"
    assert_told(sqlite.obms(*arguments, "--store", str(absent)), 9, f"no folder {absent}", "mounted")
    assert not absent.exists()


def test_9_settings_and_a_database_that_cannot_be_written(sqlite: Deployment) -> None:
    sqlite.folder.joinpath("file").write_text("a file, where a folder is wanted", encoding="utf-8")
    below = str(sqlite.folder / "file" / "it")
    assert_told(sqlite.obms("init", "--file", below), 9, below, "--file")
    assert_told(sqlite.obms("migrate", SQLITE_FILE=below), 9, "file", "SQLITE_FILE")


def test_9_a_disk_that_fills_while_the_tables_are_made(sqlite: Deployment) -> None:
    folder = sqlite.folder / "small"
    new = {"SQLITE_FILE": str(folder / "new.db")}
    with small_disk(folder, 400) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        assert_told(sqlite.obms("migrate", **new), 9, "disk is full", "Free some space")
        subprocess.run(["mount", "-o", "remount,size=8192k", folder], check=True)
        assert sqlite.obms("migrate", **new).code == 0


def test_10_a_key_is_missing(sqlite: Deployment) -> None:
    assert_told(sqlite.obms("seed", SECRET_KEY=""), 10, "SECRET_KEY", "openssl rand")


def test_143_an_end_by_sigterm_takes_back_what_was_begun(sqlite: Deployment) -> None:
    with sqlite.start("backup", "schedule", BACKUP_SCHEDULE="0 0 1 1 *") as command:
        assert command.stderr is not None
        assert "schedule.next" in command.stderr.readline()
        command.terminate()
        assert command.wait(30) == 143
    assert not list(Path(sqlite.backup_dir).glob("*.db*"))


def test_a_secret_may_come_from_a_file(sqlite: Deployment) -> None:
    path = sqlite.folder / "secret"
    path.write_text("from a file\n", encoding="utf-8")
    answer = sqlite.obms(
        "seed", "--credentials", "12", "--proof", "jwt", SECRET_KEY="", SECRET_KEY_FILE=str(path)
    )
    assert answer.code == 0, answer.err
    told = sqlite.obms("backup", "run", SECRET_KEY="from a file")
    assert told.code == 0, told.err


def test_the_program_starts_as_a_module(sqlite: Deployment) -> None:
    with sqlite.start("--version") as command:
        out, _ = command.communicate()
    assert command.returncode == 0
    assert subprocess.list2cmdline([out.strip()]).count(".") == 2
