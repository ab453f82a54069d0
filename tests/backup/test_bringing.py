"""What a store alone holds is encrypted anew: brought, replaced there, and gone here again."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from obms.backup.bringing import rekey_in_store
from obms.backup.create import sweep_uncommitted
from obms.backup.lock import locked as holding
from obms.backup.manifest import MANIFEST_END, Manifest
from obms.backup.one_backup import OneBackup
from obms.backup.rekey import rekey
from obms.backup.signing import Signer
from obms.backup.storage import Folder, Storage
from obms.backup.stores import join_name, open_store
from tests.backup.away import Away, away, stored
from tests.backup.conftest import found, images
from tests.backup.test_copies import locking_bucket
from tests.deployment import Answer
from tests.s3_server import BUCKET, S3Server

__all__ = ["away", "stored"]


@pytest.fixture(params=["folder", "s3"])
def kept_in(request: pytest.FixtureRequest, away: Away) -> tuple[str, Storage]:
    """The URL of the store, of each kind, and the store."""
    if request.param == "folder":
        return str(away.place), Folder(away.place)
    s3: S3Server = request.getfixturevalue("s3")
    url = s3.url(f"{BUCKET}/{uuid4().hex}")
    away.server.environment |= s3.environment | {"BACKUP_STORES": url}
    storage = open_store(url, s3.credentials).storage
    for path in away.place.iterdir():
        storage.put(path.name, iter((path.read_bytes(),)))
    return url, storage


def test_what_only_a_store_holds_is_brought_encrypted_anew_and_replaced_there(
    away: Away, kept_in: tuple[str, Storage]
) -> None:
    url, storage = kept_in
    old = {form.id: form.file for form in away.forms(storage)}
    answer = away.rekey("--all", "--json", store=url)
    assert answer.code == 0, answer.err
    told = {one["id"]: one for one in answer.json}
    assert {id: one["brought"] for id, one in told.items()} == {away.here: False, away.only_there: True}
    for id, one in told.items():
        assert (one["changed"], one["replaced"], one["error"]) == (True, [old[id]], None)
    away.require_replaced(storage)
    away.require_gone_here()
    assert {form.file for form in away.forms(storage)} == {one["file"] for one in told.values()}
    # As the command lists it, and restores it: with the new key alone.
    listed = away.server.obms("backup", "list", "--store", url, "--json").json
    assert {one["id"]: (one["state"], one["pinned"]) for one in listed} == {
        away.here: ("proven", False),
        away.only_there: ("proven", True),
    }
    for name in ("latest", away.only_there):
        restore = ("restore", join_name(url, name), "--dry-run")
        assert away.server.obms(*restore, **away.locked.opened_by("stranger")).code == 0
        assert away.server.obms(*restore, **away.locked.opened_by("escrow")).code == 10
    # None is left, and the next run sends nothing but its own.
    assert "still holds" not in answer.err
    assert away.rekey("--all", "--json", store=url).json == []
    run = away.server.obms("backup", "run", "--json").json
    assert run["copies"][0]["copied"] == [run["id"]]


def test_it_says_what_was_done_to_each(away: Away) -> None:
    answer = away.rekey("--all")
    assert answer.code == 0, answer.err
    first, second = answer.out.splitlines()
    assert first.endswith("  encrypted anew, replaced there")
    assert second == f"{away.form(away.only_there).file}  brought, encrypted anew, replaced there"
    assert "none to encrypt anew" in away.rekey("--all").out


def test_only_what_is_named_is_brought(away: Away) -> None:
    here, before = away.form(away.here), images(away.server)
    answer = away.rekey(away.only_there, "--json")
    assert answer.code == 0, answer.err
    assert [one["id"] for one in answer.json] == [away.only_there]
    assert away.form(away.here) == here
    assert [name for name in images(away.server) if name != "recipients.json"] == before
    again = away.rekey(away.only_there)
    assert again.out == f"{away.form(away.only_there).file}  as it was\n"
    assert away.rekey("sqlite_backup_none").code == 2


def test_of_the_others_no_image_is_read(away: Away) -> None:
    """A run reads an older one again each time; here that would be one for each."""
    read: list[str] = []

    class Noting(Folder):
        def get(self, name: str) -> Any:
            read.append(name)
            return super().get(name)

    rekey_in_store(away.backups, away.store(Noting(away.place)), [away.only_there], **away.change)
    assert {name for name in read if name.endswith(".age") and away.here in name} == set()
    assert [name for name in read if name.endswith(".age")]


def test_what_is_left_in_other_stores_is_told_with_the_command_that_ends_it(
    away: Away, tmp_path: Path
) -> None:
    other = tmp_path / "other copies"
    shutil.copytree(away.place, other)
    before = {path.name: path.read_bytes() for path in other.iterdir()}
    away.server.environment["BACKUP_STORES"] = f"{away.place.as_uri()} {other.as_uri()}"
    answer = away.rekey("--all")
    assert answer.code == 0, answer.err
    assert f"{other.as_uri()} still holds 2" in answer.err
    assert f"`obms backup rekey --store {other.as_uri()} --all {' '.join(away.options)}`" in answer.err
    assert f"{away.place.as_uri()} still" not in answer.err
    assert {path.name: path.read_bytes() for path in other.iterdir()} == before


def test_r15_without_a_key_that_opens_it_nothing_is_brought(away: Away) -> None:
    before, copies = images(away.server), away.forms()
    read: list[str] = []

    class Noting(Folder):
        def put(self, name: str, *rest: Any, **asked: Any) -> None:
            read.append(name)
            super().put(name, *rest, **asked)

    for key in ("none", "stranger"):
        path = away.server.folder / key
        environment = {"BACKUP_AGE_IDENTITY_FILE": str(away.locked.keys.get(key, path))}
        answer = away.rekey("--all", **environment)
        assert answer.code == 10, answer.err
    away.server.environment["BACKUP_AGE_IDENTITY_FILE"] = str(away.locked.keys["stranger"])
    backups = replace(away.server.backups, storage=Noting(away.server.backup_dir))
    (done,) = rekey_in_store(backups, away.store(), [away.only_there], **away.change)
    assert done.error is not None
    assert done.error.exit_code == 10
    assert read == []
    assert (images(away.server), away.forms()) == (before, copies)


def test_a_plain_backup_needs_no_key(away: Away) -> None:
    """Encryption came after it."""
    plain = away.server.obms("backup", "run", "--json", BACKUP_AGE_RECIPIENTS="").json
    for path in away.server.backup_dir.glob(f"{plain['id']}*"):
        path.unlink()
    answer = away.server.obms("backup", "rekey", "--store", str(away.place), "--all", "--json")
    assert answer.code == 0, answer.err
    assert [(one["id"], one["brought"]) for one in answer.json] == [(plain["id"], True)]
    assert away.opens(Folder(away.place), away.form(plain["id"]), "escrow")
    assert not list(away.place.glob(f"{plain['file']}*"))


def test_what_is_not_ours_is_left_alone(away: Away) -> None:
    """A server with another SECRET_KEY has its copies there too."""
    file = away.form(away.only_there).file
    manifest = away.place / f"{file}{MANIFEST_END}"
    theirs = Manifest.from_bytes(file, manifest.read_bytes()).signed(Signer(bytes(32)))
    manifest.write_bytes(theirs.to_bytes())
    answer = away.rekey("--all", "--json")
    assert (answer.code, [one["id"] for one in answer.json]) == (0, [away.here])
    named = away.rekey(away.only_there)
    assert (named.code, manifest.read_bytes()) == (10, theirs.to_bytes())
    assert "another SECRET_KEY" in named.err


def test_an_image_without_manifest_is_told_when_it_is_named(away: Away) -> None:
    (away.place / f"{away.form(away.only_there).file}{MANIFEST_END}").unlink()
    assert [one["id"] for one in away.rekey("--all", "--json").json] == [away.here]
    assert away.rekey(away.only_there).code == 5


def test_r15_the_new_form_is_locked_in_a_store_that_locks(away: Away, s3: S3Server) -> None:
    """The old one is hidden there until its time is up: the bucket keeps its versions."""
    bucket = locking_bucket(s3)
    url = s3.url(bucket, "lock_days=2")
    away.server.environment |= s3.environment | {"BACKUP_STORES": url}
    storage = open_store(url, s3.credentials).storage
    for path in away.place.iterdir():
        storage.put(path.name, iter((path.read_bytes(),)))
    answer = away.rekey("--all", "--json", store=url)
    assert answer.code == 0, answer.err
    client = s3.requests(bucket).client
    for one in answer.json:
        for end in ("", ".json", ".proof.json"):
            kept = client.get_object_retention(Bucket=bucket, Key=one["file"] + end)
            assert kept["Retention"]["RetainUntilDate"]


def test_the_policy_of_the_store_does_not_keep_the_new_form_away(away: Away) -> None:
    """It stands for the old one, which is there: what goes is for a run to say."""
    kept = f"{away.place.as_uri()}?retention_days=0"
    away.server.environment["BACKUP_STORES"] = kept
    (away.place / f"{away.only_there}.pin.json").unlink()
    old = away.form(away.only_there).file
    assert away.rekey("--all", store=kept).code == 0
    assert away.form(away.only_there).file == old.replace(".db", ".1.db")


def test_a_store_is_not_called_complete_by_it(away: Away) -> None:
    """Of what it lacks else nothing was looked at."""
    counters = (away.server.backup_dir / "counters.json").read_bytes()
    assert away.rekey(away.only_there).code == 0
    assert (away.server.backup_dir / "counters.json").read_bytes() == counters


def test_another_run_at_work_refuses_it(away: Away) -> None:
    with holding(away.backups):
        assert away.rekey("--all").code == 7


class Busy(Folder):
    """A store; while something is sent there, something else happens once."""

    def __init__(self, path: Path, happens: Callable[[], object]) -> None:
        super().__init__(path)
        self._happens = [happens]

    def put(self, name: str, *rest: Any, **asked: Any) -> None:
        if self._happens:
            self._happens.pop()()
        super().put(name, *rest, **asked)


def test_a_run_that_is_refused_meanwhile_has_its_turn_before_the_next_backup(away: Away) -> None:
    """A schedule looks again each half minute: it would find the lock held each time."""
    run = ("backup", "run", "--no-prove", "--json")
    refused: list[int] = []
    waited: list[float] = []
    made: list[Answer] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 20:
            made.append(away.server.obms(*run))

    store = away.store(Busy(away.place, lambda: refused.append(away.server.obms(*run).code)))
    done = rekey_in_store(away.backups, store, [], **away.change, wait=wait)
    assert refused == [7]
    assert [answer.code for answer in made] == [0]
    assert len(waited) >= 40
    assert [one.error for one in done] == [None, None]
    away.require_replaced()


@pytest.mark.parametrize("until", [6, 60])
def test_it_waits_for_whoever_has_the_lock_and_no_longer(away: Away, until: int) -> None:
    run, held = ("backup", "run", "--no-prove"), holding(away.backups)
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            held.__enter__()
        if len(waited) == until:
            held.__exit__(None, None, None)

    store = away.store(Busy(away.place, lambda: away.server.obms(*run)))
    done = rekey_in_store(away.backups, store, [], **away.change, wait=wait)
    assert len(waited) == until
    assert [one.error for one in done] == [None, None]


def test_a_pin_goes_with_an_uncommitted_image_only_where_no_other_form_is(away: Away) -> None:
    file, folder = away.form(away.only_there).file, away.server.backup_dir
    for name in (file, f"{away.only_there}.pin.json"):
        shutil.copy(away.place / name, folder)
    (folder / f".{file}.begun").touch()
    assert sweep_uncommitted(away.backups) == [file]
    away.require_gone_here()
    here = found(away.server, away.here).file
    (folder / f"{away.here}.pin.json").write_text("{}")
    (folder / f".{here.replace('.db', '.1.db')}.begun").touch()
    assert sweep_uncommitted(away.backups) == []
    assert found(away.server, away.here).pin is not None


def test_a_form_that_is_as_it_should_be_needs_no_bringing_to_stand_for_an_old_one(away: Away) -> None:
    """Killed before the removal, and BACKUP_DIR has forgotten it."""
    old = {path.name: path.read_bytes() for path in away.place.glob(f"{away.only_there}*")}
    assert away.rekey("--all").code == 0
    for name, content in old.items():
        (away.place / name).write_bytes(content)
    answer = away.server.obms("backup", "rekey", "--store", str(away.place), "--all", *away.options, "--json")
    assert answer.code == 0, answer.err
    (told,) = answer.json
    assert (told["brought"], told["changed"], told["replaced"]) == (
        False,
        False,
        [name for name in sorted(old) if name.endswith(".age")],
    )
    away.require_replaced()


def test_the_leavings_of_another_machine_do_not_hold_it_up(away: Away) -> None:
    """It died in the middle of this: its image is there without a manifest, and its mark."""
    file = away.form(away.only_there).file
    theirs = file.replace(".db", ".1.db")
    (away.place / theirs).write_bytes(b"of another")
    (away.place / f".{theirs}.begun").write_bytes(b"a fingerprint")
    answer = away.rekey("--all", "--json")
    assert answer.code == 0, answer.err
    assert (away.place / theirs).read_bytes() == b"of another"
    assert [one["file"] for one in answer.json if one["brought"]] == [file.replace(".db", ".2.db")]
    assert not list(away.place.glob(f"{file}*"))


def test_what_was_encrypted_anew_here_is_sent_and_replaced_without_a_key(away: Away) -> None:
    rekey(away.backups, [], **away.change)
    command = ("backup", "rekey", "--store", str(away.place), away.here, *away.options, "--json")
    answer = away.server.obms(*command)
    assert answer.code == 0, answer.err
    (told,) = answer.json
    assert (told["brought"], told["changed"], len(told["replaced"])) == (False, False, 1)
    assert found(away.server, away.here).file == told["file"] == away.form(away.here).file


def test_of_a_place_only_what_is_of_one_backup_is_swept(tmp_path: Path) -> None:
    mine, other = "sqlite_backup_2026-01-01_00-00-00", "sqlite_backup_2026-01-01_00-00-01"
    for id in (mine, other):
        (tmp_path / f".{id}.db.gz.01234567.partial").touch()
    assert OneBackup(Folder(tmp_path), mine).sweep() == frozenset()
    (left,) = tmp_path.iterdir()
    assert other in left.name
