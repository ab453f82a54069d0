"""A store with a backup that BACKUP_DIR has no longer, for the tests of encrypting it anew."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyrage import DecryptError, decrypt
from pyrage.x25519 import Identity

from obms.backup import Backups
from obms.backup.catalog import Backup, read_catalog
from obms.backup.rereading import is_whole
from obms.backup.storage import Folder, Storage
from obms.backup.stores import Options, Store
from tests.backup.conftest import found, images
from tests.backup.test_encryption import Locked, encrypting
from tests.backup.test_rekey import Change, swap
from tests.deployment import Answer, Deployment

OPENERS = ("operator", "stranger")  # of the new forms


@dataclass(frozen=True, slots=True, kw_only=True)
class Away:
    """A store with a pinned backup that BACKUP_DIR has no longer, and one that it has."""

    locked: Locked
    place: Path
    here: str  # the ids
    only_there: str

    @property
    def server(self) -> Deployment:
        return self.locked.server

    @property
    def change(self) -> Change:
        return swap(self.locked)

    @property
    def options(self) -> tuple[str, ...]:
        return ("--add", *self.change["add"], "--remove", *self.change["remove"])

    @property
    def backups(self) -> Backups:
        """Of this server, with the operator's private key."""
        self.server.environment |= self.locked.opened_by("operator")
        try:
            return self.server.backups
        finally:
            del self.server.environment["BACKUP_AGE_IDENTITY_FILE"]

    def store(self, storage: Storage | None = None) -> Store:
        """The folder, or what stands in its place; nothing is tried again there."""
        storage = Folder(self.place) if storage is None else storage
        return Store(name=self.place.as_uri(), storage=storage, options=Options(attempts=1))

    def rekey(self, *arguments: str, store: str | None = None, **environment: str) -> Answer:
        command = ("backup", "rekey", *arguments, "--store", store or str(self.place), *self.options)
        return self.server.obms(*command, **self.locked.opened_by("operator") | environment)

    def forms(self, storage: Storage | None = None) -> list[Backup]:
        """What the store holds."""
        return list(read_catalog(storage or Folder(self.place), self.server.backups.trusted))

    def form(self, id: str) -> Backup:
        """The only one that the store has of it."""
        (only,) = (form for form in self.forms() if form.id == id)
        return only

    def require_replaced(self, storage: Storage | None = None) -> None:
        """Each is there in one new form: whole, proven, pinned as it was, and opened by the right keys."""
        there = storage or Folder(self.place)
        forms = {form.id: form for form in self.forms(there)}
        assert len(self.forms(there)) == len(forms)
        assert set(forms) == {self.here, self.only_there}
        for form in forms.values():
            assert form.proven
            assert form.manifest is not None
            assert is_whole(there, form.manifest, None)
            assert {name for name in self.locked.keys if self.opens(there, form, name)} == set(OPENERS)
        assert forms[self.only_there].pin is not None
        assert forms[self.only_there].pin == self.pin
        assert forms[self.here].pin is None
        # The mark of what was sent may stay after a kill: it does no harm.
        marks = {name for name in there.names() if name.startswith(".")}
        assert marks <= {f".{form.file}.begun" for form in forms.values()}

    def opens(self, storage: Storage, form: Backup, name: str) -> bool:
        key = Identity.from_str(self.locked.keys[name].read_text(encoding="utf-8").splitlines()[-1])
        try:
            return bool(decrypt(b"".join(storage.get(form.file)), [key]))
        except DecryptError:
            return False

    @property
    def pin(self) -> object:
        (pinned,) = (form for form in self.forms(Folder(self.server.folder / "good copies")) if form.pin)
        return pinned.pin

    def require_gone_here(self) -> None:
        """Nothing of what was brought is left, and what was here is."""
        assert not [name for name in images(self.server) if self.only_there in name or name.startswith(".")]
        assert found(self.server, self.here).proven

    def put_back(self) -> None:
        for kept, place in (("good", self.server.backup_dir), ("good copies", self.place)):
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(self.server.folder / kept, place)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Away]:
    with encrypting(tmp_path_factory.mktemp("away"), None) as locked:
        server, place = locked.server, locked.server.folder / "copies"
        server.environment["BACKUP_STORES"] = str(place)
        old = locked.made["id"]
        assert server.obms("backup", "pin", old, "--reason", "an audit").code == 0
        here = server.made_backup()["id"]
        for path in server.backup_dir.glob(f"{old}*"):
            path.unlink()
        shutil.copytree(server.backup_dir, server.folder / "good")
        shutil.copytree(place, server.folder / "good copies")
        yield Away(locked=locked, place=place, here=here, only_there=old)


@pytest.fixture
def away(stored: Away) -> Iterator[Away]:
    environment = dict(stored.server.environment)
    yield stored
    stored.server.environment.clear()
    stored.server.environment.update(environment)
    stored.put_back()
