"""Faults while what a store alone holds is encrypted anew: the store has a whole form of it throughout."""

import hashlib
import itertools
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from obms.backup.bringing import rekey_in_store
from obms.backup.catalog import read_catalog
from obms.backup.rekey import rekey
from obms.backup.rereading import is_whole
from obms.backup.storage import Folder, Storage
from obms.errors import BackupNotFound, ConfigurationError, StorageFailed, StoreRefused
from tests.backup.away import Away, away, stored
from tests.backup.conftest import Watched, found, images
from tests.backup.test_copies import upload_images
from tests.backup.test_damage import flip
from tests.backup.test_encryption import encrypting, public_of
from tests.backup.test_rekey import Killed, MortalFolder
from tests.proxy import Proxy
from tests.real_faults import fill_disk, small_disk
from tests.s3_server import S3Server

__all__ = ["away", "stored"]


def require_whole_there(away: Away, *ids: str, storage: Storage | None = None) -> None:
    """A proven form of each, read back."""
    there = storage or Folder(away.place)
    whole = {
        form.id
        for form in read_catalog(there, away.server.backups.trusted)
        if form.proven and form.manifest and is_whole(there, form.manifest, None)
    }
    assert whole >= set(ids or (away.here, away.only_there))


def killed(away: Away, where: str, *, after: bool) -> Iterator[int]:
    """Killed at each step of those here, or of those in the store, with what is left to be looked at."""
    for step in itertools.count(1):
        backups, store = away.backups, away.store()
        if where == "here":
            folder = MortalFolder(away.server.backup_dir, step, after=after)
            backups = replace(backups, storage=folder)
        else:
            store = away.store(MortalFolder(away.place, step, after=after))
        try:
            rekey_in_store(backups, store, [away.only_there], **away.change)
        except Killed:
            yield step
        else:
            return
        away.put_back()


@pytest.mark.parametrize("after", [False, True], ids=["before a step", "after it"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_k8_killed_at_any_step_the_store_is_whole_and_a_second_call_ends_it(
    away: Away, where: str, after: bool
) -> None:
    """K8: here there is nothing of it then."""
    steps = 0
    for step in killed(away, where, after=after):
        steps = step
        require_whole_there(away)
        done = rekey_in_store(away.backups, away.store(), [], **away.change)
        assert [one.error for one in done] == [None] * len(done), step
        away.require_replaced()
        away.require_gone_here()
    assert steps >= (15 if where == "here" else 10)


@pytest.mark.parametrize("after", [False, True], ids=["before a step", "after it"])
@pytest.mark.parametrize("where", ["here", "there"])
def test_k8_killed_at_any_step_the_next_run_does_no_harm(away: Away, where: str, after: bool) -> None:
    """K8: a run that finds what was brought unpins nothing in the store, and removes nothing there."""
    run = ("backup", "run", "--json")
    for step in killed(away, where, after=after):
        if step % 3:
            continue
        answer = away.server.obms(*run, BACKUP_STORES=f"{away.place.as_uri()}?scrub=0")
        assert answer.code == 0, (step, answer.err)
        require_whole_there(away)
        forms = [form for form in away.forms() if form.id == away.only_there]
        assert all(form.pin for form in forms), step
        if [name for name in images(away.server) if name.startswith(away.only_there)]:
            assert found(away.server, away.only_there).proven, step


def test_k8_the_process_is_killed_in_mid_upload(
    s3: S3Server, proxy: Proxy, place: str, tmp_path: Path
) -> None:
    """K8: really, and with an image of several parts."""
    with encrypting(tmp_path, None) as locked:
        server, url = locked.server, s3.url(place)
        server.environment |= s3.environment | locked.opened_by("operator") | {"BACKUP_STORES": url}
        upload_images(server, 3)
        made = server.made_backup()
        for path in server.backup_dir.glob(f"{made['id']}*"):
            path.unlink()
        change = (made["id"], "--remove", public_of(locked.keys["escrow"]), "--json")
        proxy.stall_after = 4_000_000
        proxied = s3.url(place, endpoint=proxy.endpoint)
        with server.start("backup", "rekey", *change, "--store", proxied) as command:
            assert proxy.stalled.wait(30)
            command.kill()
        assert command.returncode == -signal.SIGKILL
        assert server.obms("backup", "verify", made["id"], "--store", url, "--level", "intact").code == 0
        assert found(server, made["id"]).proven
        assert len(s3.uploads(place)) == 1
        before = found(server, made["id"]).file
        answer = server.obms("backup", "rekey", *change, "--store", url)
        assert answer.code == 0, answer.err
        (told,) = answer.json
        assert (told["file"], told["replaced"]) == (before, [made["file"]])
        listed = server.obms("backup", "list", "--store", url, "--json").json
        forms = [(one["file"], one["state"]) for one in listed if one["id"] == made["id"]]
        assert forms == [(told["file"], "proven")]
        assert server.obms("backup", "verify", made["id"], "--store", url).code == 0
        assert s3.uploads(place) == []


def test_k6_a_damaged_image_is_left_and_told_and_the_others_are_done(away: Away) -> None:
    file = away.form(away.only_there).file
    flip(away.place / file, 3000)
    before = {path.name: path.read_bytes() for path in away.place.glob(f"{away.only_there}*")}
    answer = away.rekey("--all", "--json")
    assert answer.code == 5, answer.err
    assert file in answer.err
    told = {one["id"]: one for one in answer.json}
    assert told[away.only_there]["error"] == f"The backup {file} is damaged: {DAMAGE}."
    assert (told[away.only_there]["file"], told[away.only_there]["changed"]) == (file, False)
    assert told[away.here]["replaced"]
    assert {path.name: path.read_bytes() for path in away.place.glob(f"{away.only_there}*")} == before
    away.require_gone_here()


DAMAGE = "it is not what its manifest says, and was not copied"


def test_k6_a_damaged_manifest_is_told(away: Away) -> None:
    file = away.form(away.only_there).file
    path = away.place / f"{file}.json"
    path.write_bytes(path.read_bytes().replace(b'"reason"', b'"reasom"'))
    answer = away.rekey("--all", "--json")
    assert answer.code == 5, answer.err
    assert {one["id"]: bool(one["error"]) for one in answer.json} == {away.only_there: True, away.here: False}


def test_k1_nothing_is_read_where_nobody_would_be_left_who_could_open_it(away: Away) -> None:
    form, store = away.form(away.only_there), Watched(away.place)
    assert form.manifest is not None
    all_of_them = form.manifest.recipients
    (done,) = rekey_in_store(away.backups, away.store(store), [form.id], remove=all_of_them)
    assert isinstance(done.error, ConfigurationError)
    assert form.file not in store.read


def test_k6_an_old_form_stays_where_the_new_one_has_rotted(away: Away) -> None:
    """It was sent by a call that was killed, and is here no longer."""
    old = {path.name: path.read_bytes() for path in away.place.glob(f"{away.only_there}*")}
    assert away.rekey("--all").code == 0
    flip(away.place / away.form(away.only_there).file, 500)
    for name, content in old.items():
        (away.place / name).write_bytes(content)
    answer = away.rekey("--all")
    assert answer.code == 5, answer.err
    assert "so that its old form stays there" in answer.err
    assert {name: (away.place / name).read_bytes() for name in old} == old
    require_whole_there(away)
    (rotten,) = re.findall(r"`obms backup verify (\S+) --store", answer.err)
    judged = away.server.obms("backup", "verify", rotten, "--store", str(away.place))
    assert judged.code == 5, judged.err
    assert away.rekey("--all").code == 0
    away.require_replaced()


def test_k6_an_image_cut_off_is_told_without_reading_it(away: Away) -> None:
    file = away.place / away.form(away.only_there).file
    file.write_bytes(file.read_bytes()[:-1])
    answer = away.rekey("--all", "--json")
    assert (answer.code, [one["error"] is None for one in answer.json]) == (5, [True, False])
    away.require_gone_here()


def test_an_unproven_copy_stays_for_its_new_form_would_not_be_sent(away: Away) -> None:
    (away.place / f"{away.form(away.only_there).file}.proof.json").unlink()
    answer = away.rekey("--all", "--json")
    assert answer.code == 6, answer.err
    assert "proven ones only" in answer.err
    assert [one["error"] is None for one in answer.json] == [True, False]
    away.require_gone_here()


def test_what_is_damaged_here_does_not_replace_what_is_whole_there(away: Away) -> None:
    old = found(away.server, away.here).file
    flip(away.server.backup_dir / old, 3000)
    answer = away.rekey(away.here)
    assert answer.code == 5, answer.err
    require_whole_there(away)
    assert away.form(away.here).file == old


def test_what_is_unproven_here_does_not_replace_what_is_proven_there(away: Away) -> None:
    old = found(away.server, away.here).file
    (away.server.backup_dir / f"{old}.proof.json").unlink()
    answer = away.rekey(away.here)
    assert answer.code == 6, answer.err
    assert "it is unproven" in answer.err
    assert away.form(away.here).file == old


def test_b3_where_there_is_no_room_it_is_told_and_the_next_one_is_done(away: Away) -> None:
    before, size = {path.name for path in away.place.iterdir()}, away.form(away.only_there).stored
    shutil.rmtree(away.server.backup_dir)
    with small_disk(away.server.backup_dir, 4 * 1024) as mounted:
        if not mounted:
            pytest.skip("only root can mount a small disk")
        shutil.copytree(away.server.folder / "good", away.server.backup_dir, dirs_exist_ok=True)
        fill_disk(away.server.backup_dir, leave=2 * int(size or 0))
        answer = away.rekey("--all", "--json")
        assert answer.code == 9, answer.err
        assert "are needed" in answer.err
        assert [one["error"] is None for one in answer.json] == [True, False]
        away.require_gone_here()
    assert {name for name in before if away.only_there in name} <= {
        path.name for path in away.place.iterdir()
    }


class Refusing(Folder):
    """A store that lets no backup be removed, or not even a mark."""

    def __init__(self, path: Path, *, marks: bool) -> None:
        super().__init__(path)
        self._marks = marks

    def remove(self, name: str) -> None:
        if (self.path / name).exists() and (self._marks or not name.startswith(".")):
            raise StoreRefused(store=self.path, detail="it is locked")
        super().remove(name)


@pytest.mark.parametrize("marks", [False, True])
def test_what_a_store_does_not_let_be_removed_is_told_and_not_brought_again(away: Away, marks: bool) -> None:
    old = away.form(away.only_there).file
    refusing = away.store(Refusing(away.place, marks=marks))
    for _ in range(2):
        (done,) = rekey_in_store(away.backups, refusing, [away.only_there], **away.change)
        assert isinstance(done.error, StoreRefused)
        away.require_gone_here()
        forms = [form.file for form in away.forms() if form.id == away.only_there]
        assert forms == [old.replace(".db", ".1.db"), old]
    (done,) = rekey_in_store(away.backups, away.store(), [away.only_there], **away.change)
    assert (done.error, done.replaced) == (None, (old,))


class Failing(Folder):
    """A store that takes no image, and loses what it had, if it is to."""

    def __init__(self, path: Path, *, loses: str = "") -> None:
        super().__init__(path)
        self._loses = loses

    def put(self, name: str, *rest: Any, **asked: Any) -> None:
        if name.endswith(".age"):
            for path in self.path.glob(f"{self._loses}*") if self._loses else ():
                path.unlink()
            raise StorageFailed(detail="it does not answer")
        super().put(name, *rest, **asked)


def test_b11_what_could_not_be_sent_stays_there_and_is_gone_here(away: Away) -> None:
    done = rekey_in_store(away.backups, away.store(Failing(away.place)), [], **away.change)
    assert {one.error.exit_code for one in done if one.error} == {9}
    assert "goes on with it" in str(done[1].error.hint if done[1].error else "")
    require_whole_there(away)
    away.require_gone_here()
    assert [one.error for one in rekey_in_store(away.backups, away.store(), [], **away.change)] == [None] * 2
    # What was here went on with its form; of the other a second one was made, and a mark stays of the first.
    (mark,) = away.place.glob(".*.begun")
    assert mark.name.startswith(f".{away.only_there}.1.")
    mark.unlink()
    away.require_replaced()


def test_the_last_copy_is_not_removed_here_when_the_store_loses_it_meanwhile(away: Away) -> None:
    store = away.store(Failing(away.place, loses=away.only_there))
    (done,) = rekey_in_store(away.backups, store, [away.only_there], **away.change)
    assert done.error is not None
    assert found(away.server, away.only_there).proven
    assert found(away.server, away.only_there).pin is not None


def test_what_the_store_has_lost_since_it_was_listed_is_told(away: Away) -> None:
    class Losing(Folder):
        listed = 0

        def sizes(self) -> Any:
            self.listed += 1
            return super().sizes() if self.listed == 1 else {}

    (done,) = rekey_in_store(away.backups, away.store(Losing(away.place)), [away.only_there], **away.change)
    assert isinstance(done.error, BackupNotFound)
    away.require_gone_here()


def test_k5_the_new_form_of_another_is_not_taken_for_ours(away: Away) -> None:
    """As large to the byte, of the same name, whole, and for other keys: the old one stays."""
    kept = away.form(away.here).file
    (made,) = rekey(away.backups, [away.here], **away.change)
    ours = found(away.server, made.id)
    assert ours.manifest is not None
    assert ours.verdict is not None
    image = (away.server.backup_dir / made.file).read_bytes()[::-1]
    recipients = (public_of(away.locked.keys["escrow"]), ours.manifest.recipients[0])
    manifest = replace(ours.manifest, sha256=hashlib.sha256(image).hexdigest(), recipients=recipients)
    theirs = manifest.signed(away.backups.signer)
    verdict = replace(ours.verdict, manifest=theirs.fingerprint).signed(away.backups.signer)
    (away.place / made.file).write_bytes(image)
    (away.place / f"{made.file}.json").write_bytes(theirs.to_bytes())
    (away.place / f"{made.file}.proof.json").write_bytes(verdict.to_bytes())
    answer = away.rekey(away.here)
    assert answer.code == 9, answer.err
    assert f"another object {made.file}" in answer.err
    assert (away.place / kept).exists()


def test_both_forms_are_gone_here_where_it_breaks_off_between_them(away: Away) -> None:
    class Forgetful(Folder):
        def put(self, name: str, *rest: Any, **asked: Any) -> None:
            if name == "recipients.json":
                raise StorageFailed(detail="a full disk")
            super().put(name, *rest, **asked)

    backups = replace(away.backups, storage=Forgetful(away.server.backup_dir))
    (done,) = rekey_in_store(backups, away.store(), [away.only_there], **away.change)
    assert isinstance(done.error, StorageFailed)
    away.require_gone_here()
    require_whole_there(away)


def test_what_still_stands_beside_the_new_form_is_told(away: Away) -> None:
    """The newest form there is cut off, and stands for nothing."""
    kept = away.form(away.here).file
    newest = kept.replace(".db", ".7.db")
    (made,) = rekey(away.backups, [away.here], **away.change)
    manifest = found(away.server, made.id).manifest
    assert manifest is not None
    (away.place / f"{newest}.json").write_bytes(
        replace(manifest, file=newest).signed(away.backups.signer).to_bytes()
    )
    (away.place / newest).write_bytes(b"cut off")
    answer = away.rekey(away.here)
    assert answer.code == 9, answer.err
    assert f"still holds {kept} beside {made.file}" in answer.err


def test_an_image_that_was_never_committed_hides_no_old_form(away: Away) -> None:
    old = away.form(away.here).file
    (away.place / old.replace(".db", ".7.db")).write_bytes(b"of a machine that died")
    answer = away.rekey(away.here, "--json")
    assert answer.code == 0, answer.err
    assert answer.json[0]["replaced"] == [old]
