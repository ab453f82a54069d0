"""`obms init`: new secrets, for their owner's eyes, and never over a file."""

import stat

import pytest

from obms.config import read_settings
from tests.deployment import Deployment
from tests.real_faults import fill_disk, small_disk


def test_settings_for_which_there_is_no_room_leave_no_file(sqlite: Deployment) -> None:
    with small_disk(sqlite.folder / "full", 64) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        fill_disk(sqlite.folder / "full", leave=0)
        file = sqlite.folder / "full" / ".env"
        answer = sqlite.obms("init", "--file", str(file))
        assert answer.code == 9
        assert "No space left" in answer.err
        assert not file.exists()


def test_a_new_server_gets_secrets_of_its_own(sqlite: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sqlite.folder)
    assert "keep a copy" in sqlite.obms("init").out
    written = sqlite.folder / ".env"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    monkeypatch.delenv("SECRET_KEY", raising=False)
    first = read_settings().secret()
    assert len(first) == 64
    refused = sqlite.obms("init")
    assert refused.code == 8
    assert "SECRET_KEY would not open" in refused.err
    assert read_settings().secret() == first
    printed = sqlite.obms("init", "--print").out
    assert "SECRET_KEY=" in printed
    assert first not in printed
    assert sqlite.obms("init", "--print", "--json").json.keys() == {"SECRET_KEY", "AUTH_API_KEY"}
