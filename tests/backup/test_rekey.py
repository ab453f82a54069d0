"""Encrypting backups anew: the right keys open them then, and there is never one good copy fewer."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import pytest

from obms.backup.catalog import read_catalog
from obms.backup.prune import REMOVING_END
from obms.backup.rekey import rekey, rekey_store
from obms.backup.run import clean_up
from obms.backup.storage import Folder
from obms.backup.stores import Store
from obms.databases import Chunks
from tests.backup.conftest import found, images, manifest_of
from tests.backup.test_damage import flip
from tests.backup.test_encryption import Locked, locked, made, public_of
from tests.deployment import Deployment
from tests.real_faults import wait_until

__all__ = ["locked", "made"]


def test_a_new_recipient_opens_an_old_backup_and_a_removed_one_does_not(locked: Locked) -> None:
    server, id = locked.server, locked.made["id"]
    new, gone = public_of(locked.keys["stranger"]), public_of(locked.keys["escrow"])
    command = ("backup", "rekey", id, "--add", new, "--remove", gone, "--json")
    answer = server.obms(*command, **locked.opened_by("operator"))
    assert answer.code == 0, answer.err
    (told,) = answer.json
    assert (told["id"], told["changed"], told["file"]) == (id, True, f"{id}.1.{ending(locked)}")
    assert set(manifest_of(server, id).recipients) == {new, public_of(locked.keys["operator"])}
    # Nothing of the old form is left, and the proof holds for the new one, whose plain bytes are the same.
    assert {name for name in images(server) if not name.startswith("recipients")} == {
        f"{told['file']}{end}" for end in ("", ".json", ".proof.json")
    }
    assert found(server, "latest").file == told["file"]
    for name, code in (("stranger", 0), ("operator", 0), ("escrow", 10)):
        assert server.obms("backup", "verify", id, **locked.opened_by(name)).code == code
    # Done again it does nothing, and a third key makes a third form.
    assert not server.obms(*command, **locked.opened_by("operator")).json[0]["changed"]
    again = server.obms("backup", "rekey", "--all", "--json", **locked.opened_by("operator")).json
    assert ".2." in again[0]["file"]


def ending(locked: Locked) -> str:
    return str(locked.made["file"]).partition(".")[2]


def test_a_plain_backup_is_encrypted_and_the_rest_is_told(backed_plain: Deployment, locked: Locked) -> None:
    server, public = backed_plain, public_of(locked.keys["operator"])
    server.made_backup()
    newest, oldest = server.obms("backup", "list", "--json").json
    flip(server.backup_dir / oldest["file"], 3000)
    before = (server.backup_dir / oldest["file"]).read_bytes()
    answer = server.obms("backup", "rekey", "--all", "--add", public, "--json")
    assert answer.code == 5, answer.err
    assert [(one["changed"], one["error"] is None) for one in answer.json] == [(True, True), (False, False)]
    assert (server.backup_dir / oldest["file"]).read_bytes() == before
    assert found(server, newest["id"]).file.endswith(".1.db.gz.age")
    assert found(server, newest["id"]).proven
    assert server.obms("backup", "verify", newest["id"], **locked.opened_by("operator")).code == 0


@pytest.fixture
def backed_plain(stocked_sqlite: Deployment) -> Deployment:
    stocked_sqlite.made_backup()
    return stocked_sqlite


def test_r15_without_the_key_nothing_is_touched(locked: Locked) -> None:
    server, new = locked.server, public_of(locked.keys["stranger"])
    before = images(server)
    for key in ({}, locked.opened_by("stranger")):
        answer = server.obms("backup", "rekey", "--all", "--add", new, **key)
        assert answer.code == 10, answer.err
        assert images(server) == before
    assert found(server, locked.made["id"]).proven


def test_it_refuses_to_leave_nobody_who_could_open_it(locked: Locked) -> None:
    gone = [("--remove", public_of(locked.keys[name])) for name in ("operator", "escrow")]
    answer = locked.server.obms(
        "backup", "rekey", "--all", *itertools.chain(*gone), **locked.opened_by("operator")
    )
    assert answer.code == 2, answer.err
    assert "nobody" in answer.err


def test_a_manifest_that_anybody_may_have_written_is_not_signed_by_it(locked: Locked) -> None:
    server, new = locked.server, public_of(locked.keys["stranger"])
    manifest = manifest_of(server, locked.made["id"]).signed(None)
    Path(f"{locked.image}.json").write_bytes(manifest.to_bytes())
    answer = server.obms("backup", "rekey", "--all", "--add", new, **locked.opened_by("operator"))
    assert answer.code == 8, answer.err
    assert manifest_of(server, locked.made["id"]) == manifest


def test_with_options_each_keeps_its_own_recipients_whatever_the_settings_say(locked: Locked) -> None:
    server = locked.server
    operator, escrow, stranger = (public_of(locked.keys[name]) for name in ("operator", "escrow", "stranger"))
    opened = locked.opened_by("operator")

    def rekeyed(*options: str, settings: str) -> set[str]:
        answer = server.obms("backup", "rekey", "--all", *options, **opened, BACKUP_AGE_RECIPIENTS=settings)
        assert answer.code == 0, answer.err
        return set(manifest_of(server, locked.made["id"]).recipients)

    both = f"{operator} {escrow}"
    assert rekeyed("--remove", escrow, settings=both) == {operator}
    # The settings still name whom the backup has lost, and do not name the one it has.
    assert rekeyed("--add", stranger, settings=escrow) == {operator, stranger}
    assert rekeyed("--remove", escrow, settings=escrow) == {operator, stranger}
    assert rekeyed(settings=both) == {operator, escrow}


def test_a_file_that_has_the_name_of_the_new_form_is_not_written_over(locked: Locked) -> None:
    server, id = locked.server, locked.made["id"]
    theirs = server.backup_dir / f"{id}.1.{ending(locked)}"
    theirs.write_bytes(b"theirs")
    gone = ("--remove", public_of(locked.keys["escrow"]))
    file = locked.made["file"]
    answer = server.obms("backup", "rekey", file, *gone, "--json", **locked.opened_by("operator"))
    assert answer.code == 0, answer.err
    assert answer.json[0]["file"] == f"{id}.2.{ending(locked)}"
    assert theirs.read_bytes() == b"theirs"


@pytest.fixture
def copied(locked: Locked, tmp_path: Path) -> Path:
    """A store that holds the backup, and another one that is in it alone."""
    place = tmp_path / "copies"
    locked.server.environment["BACKUP_STORES"] = str(place)
    alone = locked.server.made_backup()
    for path in locked.server.backup_dir.glob(f"{alone['file']}*"):
        path.unlink()
    stamp = alone["id"].partition("_backup_")[2]
    wait_until(lambda: f"{datetime.now(UTC):%Y-%m-%d_%H-%M-%S}" > stamp, "a moment with another name")
    return place


def test_what_a_store_holds_for_a_removed_key_is_told_and_replaced_when_asked(
    locked: Locked, copied: Path
) -> None:
    server, old = locked.server, locked.made["file"]
    there = {path.name for path in copied.glob("*.age")}
    (alone,) = there - {old}
    escrow = public_of(locked.keys["escrow"])
    answer = server.obms("backup", "rekey", "--all", "--remove", escrow, **locked.opened_by("operator"))
    assert answer.code == 0, answer.err
    assert f"{copied.as_uri()} still holds 2 for the old keys: {alone}, {old}" in answer.err
    command = ("backup", "rekey", "--store", str(copied))
    assert f"`obms backup rekey --store {copied.as_uri()} --all --remove {escrow}`" in answer.err
    assert server.obms(*command, "--add", escrow).code == 2
    done = server.obms(*command, "--json")
    assert (done.code, done.json) == (0, [old])
    new = found(server, locked.made["id"]).file
    assert {path.name for path in copied.glob("*.age")} == {alone, new}
    assert not list(copied.glob(f"{old}*"))
    assert {backup.state for backup in read_catalog(Folder(copied), server.backups.trusted)} == {"proven"}
    named = server.obms("backup", "rekey", new, "--remove", escrow, **locked.opened_by("operator"))
    assert "still holds" not in named.err
    assert "no old ones" in server.obms(*command).out


class Interrupted(Folder):
    """A folder where a removal is cut short, once the manifest is gone."""

    def remove(self, name: str) -> None:
        if name.endswith(".age"):
            raise KeyboardInterrupt
        super().remove(name)


def test_k8_killed_while_a_store_gets_the_new_forms_a_second_call_ends_it(
    locked: Locked, copied: Path
) -> None:
    server, old = locked.server, locked.made["file"]
    gone = ("--remove", public_of(locked.keys["escrow"]))
    assert server.obms("backup", "rekey", "--all", *gone, **locked.opened_by("operator")).code == 0
    with pytest.raises(KeyboardInterrupt):
        rekey_store(server.backups, Store(name=copied.as_uri(), storage=Interrupted(copied)))
    assert (copied / old).exists()
    assert server.obms("backup", "verify", "latest", "--store", str(copied), "--level", "intact").code in (
        0,
        10,
    )
    assert server.obms("backup", "rekey", "--store", str(copied)).code == 0
    assert not list(copied.glob(f"*{old}*"))


def test_k6_an_old_form_stays_in_a_store_where_the_new_one_has_rotted(locked: Locked, copied: Path) -> None:
    server, old = locked.server, locked.made["file"]
    gone = ("--remove", public_of(locked.keys["escrow"]))
    assert server.obms("backup", "rekey", "--all", *gone, **locked.opened_by("operator")).code == 0
    assert server.obms("backup", "run", BACKUP_STORES=f"{copied.as_uri()}?scrub=0").code == 0
    flip(copied / found(server, locked.made["id"]).file, 500)
    answer = server.obms("backup", "rekey", "--store", str(copied))
    assert answer.code == 5, answer.err
    assert "its old form stays there" in answer.err
    assert (copied / old).exists()


def test_a_store_that_does_not_answer_stops_no_rekeying(locked: Locked, tmp_path: Path) -> None:
    server = locked.server
    server.environment["BACKUP_STORES"] = str(tmp_path / ("x" * 300))
    gone = ("--remove", public_of(locked.keys["escrow"]))
    answer = server.obms("backup", "rekey", "--all", *gone, **locked.opened_by("operator"))
    assert answer.code == 0, answer.err
    assert "is not known now" in answer.err


@pytest.mark.usefixtures("copied")
def test_a_copy_whose_only_key_is_removed_is_told_of(locked: Locked) -> None:
    server = locked.server
    operator, escrow = (public_of(locked.keys[name]) for name in ("operator", "escrow"))
    only = {"BACKUP_AGE_RECIPIENTS": operator}
    alone = server.obms("backup", "run", "--json", **only).json
    for path in server.backup_dir.glob(f"{alone['file']}*"):
        path.unlink()
    assert {escrow, operator} == set(manifest_of(server, locked.made["id"]).recipients)
    answer = server.obms("backup", "rekey", "--all", "--remove", operator, **locked.opened_by("escrow"))
    assert answer.code == 0, answer.err
    assert alone["file"] in answer.err


def test_a_key_that_is_none_is_told_before_a_backup_is_touched(locked: Locked) -> None:
    before = images(locked.server)
    answer = locked.server.obms("backup", "rekey", "--all", "--add", "age1x", **locked.opened_by("operator"))
    assert (answer.code, images(locked.server)) == (2, before)
    assert answer.out == ""


class Change(TypedDict):
    """Whom a backup loses and gains."""

    add: list[str]
    remove: list[str]


def swap(locked: Locked) -> Change:
    return {"add": [public_of(locked.keys["stranger"])], "remove": [public_of(locked.keys["escrow"])]}


class Killed(BaseException):
    """The process is gone: nothing that it would have done afterwards is done."""


class MortalFolder(Folder):
    """A folder whose process is killed at the step of this number, before or after it is done."""

    def __init__(self, path: Path, steps: int, *, after: bool) -> None:
        super().__init__(path)
        self._left, self._after = steps, after

    def put(self, name: str, chunks: Chunks, **asked: Any) -> None:
        with self._step():
            super().put(name, chunks, **asked)

    def remove(self, name: str) -> None:
        with self._step():
            super().remove(name)

    def _step(self) -> "Step":
        self._left -= 1
        return Step(before=self._left < 0 or (self._left == 0 and not self._after), after=self._left == 0)


class Step:
    """A step that may be the last one."""

    def __init__(self, *, before: bool, after: bool) -> None:
        self._before, self._after = before, after

    def __enter__(self) -> None:
        if self._before:
            raise Killed

    def __exit__(self, *_ended: object) -> None:
        if self._after:
            raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before a step", "after it"])
def test_k8_killed_at_any_step_a_proven_copy_stands_and_a_second_call_ends_it(
    locked: Locked, after: bool
) -> None:
    server = locked.server
    server.environment["BACKUP_AGE_IDENTITY_FILE"] = str(locked.keys["operator"])
    change = swap(locked)
    try:
        steps = list(killed_at_each_step(locked, change, after=after))
    finally:
        del server.environment["BACKUP_AGE_IDENTITY_FILE"]
    assert len(steps) >= 10


def killed_at_each_step(locked: Locked, change: Change, *, after: bool) -> Iterator[int]:
    server = locked.server
    for step in itertools.count(1):
        backups = replace(server.backups, storage=MortalFolder(server.backup_dir, step, after=after))
        try:
            rekey(backups, [], **change)
        except Killed:
            yield step
        else:
            return
        catalog = read_catalog(Folder(server.backup_dir), backups.trusted)
        whole = [backup for backup in catalog if backup.proven]
        assert whole, step
        for backup in whole:
            path = str(server.backup_dir / backup.file)
            judged = server.obms("backup", "verify", path, "--level", "intact")
            assert judged.code == 0, (step, judged.err)
        (ended,) = {one.id for one in rekey(server.backups, [], **change)}
        assert ended == locked.made["id"]
        (only,) = read_catalog(Folder(server.backup_dir), backups.trusted)
        assert only.proven
        assert only.manifest is not None
        assert set(only.manifest.recipients) == {public_of(locked.keys["operator"]), *change["add"]}
        assert not [name for name in images(server) if name.startswith(".")]
        shutil.rmtree(server.backup_dir)
        shutil.copytree(server.folder / "good", server.backup_dir)


@pytest.fixture
def with_key(locked: Locked) -> Iterator[None]:
    """The private key of the operator is at hand."""
    locked.server.environment["BACKUP_AGE_IDENTITY_FILE"] = str(locked.keys["operator"])
    yield
    del locked.server.environment["BACKUP_AGE_IDENTITY_FILE"]


@pytest.mark.usefixtures("with_key")
@pytest.mark.parametrize("after", [False, True], ids=["before a step", "after it"])
def test_k8_killed_at_any_step_the_next_run_ends_what_was_committed(locked: Locked, after: bool) -> None:
    """K8, B4: by the next run there is one form of each backup again, and it is proven."""
    server = locked.server
    change = swap(locked)
    for step in (*range(4, 14, 3), 14):
        backups = replace(server.backups, storage=MortalFolder(server.backup_dir, step, after=after))
        with suppress(Killed):
            rekey(backups, [], **change)
        clean_up(server.backups)
        (only,) = read_catalog(Folder(server.backup_dir), backups.trusted)
        assert only.proven, step
        assert not [name for name in images(server) if name.startswith(".")]
        shutil.rmtree(server.backup_dir)
        shutil.copytree(server.folder / "good", server.backup_dir)


@pytest.mark.usefixtures("with_key")
def test_k8_a_removal_that_was_killed_and_a_new_form_do_not_confuse_each_other(locked: Locked) -> None:
    """K8: retention was killed after its mark, when the backup was encrypted anew."""
    server = locked.server
    manifest = manifest_of(server, locked.made["id"])
    mark = server.backup_dir / f".{manifest.file}{REMOVING_END}"
    mark.write_bytes(manifest.to_bytes())
    change = swap(locked)
    (done,) = rekey(server.backups, [], **change)
    assert done.changed
    clean_up(server.backups)
    (only,) = read_catalog(Folder(server.backup_dir), server.backups.trusted)
    assert (only.file, only.proven) == (done.file, True)
    assert not mark.exists()
