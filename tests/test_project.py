"""The project around the program: locks, generated pages, links and the first start."""

import os
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

import obms
from docs import generate
from obms.config import Settings, misspelt_names, read_settings
from obms.env_file import write_settings
from obms.errors import ConfigurationError
from tools import first_run

ROOT = Path(__file__).parents[1]
LOCKS = sorted(ROOT.glob("*.lock"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("lock", LOCKS, ids=relative)
def test_each_locked_version_has_a_hash_and_no_lock_names_an_index(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    requirements = re.split(r"\n(?=[a-z0-9])", text)
    assert all("--hash=sha256:" in requirement for requirement in requirements if "==" in requirement)
    assert "://" not in text


def test_both_locks_agree() -> None:
    runtime, development = (
        dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert runtime.items() <= development.items()


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["postgresql"]
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in (re.split(r"[\[>=<]", requirement)[0] for requirement in wanted):
        assert re.search(rf"^{re.escape(name)}==", locked, re.MULTILINE), name


@pytest.mark.parametrize("path", generate.PAGES, ids=relative)
def test_the_generated_pages_are_those_of_this_program(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generate.PAGES[path](), "run `make docs`"


def test_every_exit_code_has_a_meaning() -> None:
    assert {kind.exit_code for kind in generate.errors_of_the_program()} <= set(generate.MEANINGS)


@pytest.mark.parametrize("page", DOCUMENTS, ids=relative)
def test_links_in_the_documents_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_can_be_reached_from_the_first_one() -> None:
    start = ROOT / "docs" / "README.md"
    linked = {(start.parent / target).resolve() for target in re.findall(r"\]\(([^)#:]+)", start.read_text())}
    assert {page for page in DOCUMENTS if page.is_relative_to(ROOT / "docs")} <= linked | {start}


def test_the_changelog_knows_this_version() -> None:
    assert f"## {obms.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_make_lists_what_it_can_do() -> None:
    shown = subprocess.run(["make", "-s"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for target in ("run", "test", "check", "bench", "lock", "clean"):
        assert f"make {target} " in shown


def test_the_checks_of_a_change_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_the_file_of_a_secret_may_be_named_in_the_file_of_settings(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second"):
        (elsewhere / name).write_text(f"the {name} key\n", encoding="utf-8")
    (elsewhere / ".env").write_text("SECRET_KEY_FILE=first\n", encoding="utf-8")
    assert read_settings().secret() == "the first key"
    assert read_settings().secret_files() == (Path("first"),)
    monkeypatch.setenv("SECRET_KEY_FILE", "second")
    assert read_settings().secret() == "the second key"


@pytest.mark.parametrize(("text", "line"), [("PORT=3001\nBACKUP_DIR 'x\n", 2), ("BACKUP_DIR='x\n", 1)])
def test_a_line_of_the_settings_that_is_none_is_named(elsewhere: Path, text: str, line: int) -> None:
    (elsewhere / ".env").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"\.env: line {line} is no setting"):
        read_settings()


def test_a_first_start_writes_secrets_that_only_their_owner_reads(elsewhere: Path) -> None:
    path = elsewhere / ".env"
    assert write_settings(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    settings = read_settings()
    assert len(settings.secret()) == 64
    assert settings.auth_api_key is not None


def test_a_later_start_leaves_the_settings_alone(elsewhere: Path) -> None:
    path = elsewhere / ".env"
    path.write_text("PORT=4000\n", encoding="ascii")
    assert not write_settings(path)
    assert path.read_text(encoding="ascii") == "PORT=4000\n"


def test_misspelt_settings_of_the_file_are_found(elsewhere: Path) -> None:
    text = "DRIL_SCHEDULE=off\nDRILL_SCHEDULE=off\nSECRET_KEY_FIL=x\nCOMPOSE_FILE=x\nAUTH_BASIC_AUTH_A=x\n"
    (elsewhere / ".env").write_text(text, encoding="ascii")
    assert misspelt_names() == {"DRIL_SCHEDULE": "DRILL_SCHEDULE", "SECRET_KEY_FIL": "SECRET_KEY_FILE"}


def test_badges_and_the_first_start_name_the_port_that_is_set(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().public_url() == "http://localhost:3000"
    (elsewhere / ".env").write_text("PORT=4000\n", encoding="ascii")
    assert read_settings().public_url() == "http://localhost:4000"
    monkeypatch.setenv("PORT", "3137")
    assert read_settings().public_url() == "http://localhost:3137"
    monkeypatch.setenv("BASE_URL", "https://badges.example.org/")
    assert read_settings().public_url() == "https://badges.example.org"


def test_samples_go_only_into_a_database_that_did_not_exist(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLITE_FILE", "openbadges.db")
    assert first_run.database_is_new(read_settings())
    (elsewhere / "openbadges.db").touch()
    assert not first_run.database_is_new(read_settings())
    monkeypatch.setenv("DB_TYPE", "postgresql")
    assert not first_run.database_is_new(read_settings())
