"""Uploads to S3 that broke off go on where they did: only the parts that are missing are sent."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse

from obms.backup import object_store, s3_access, s3_parts, s3_requests
from obms.backup.copies import copy_to_stores
from obms.backup.manifest import Manifest
from obms.backup.object_store import ObjectStore, size_of_parts
from obms.backup.pace import Pace
from obms.backup.s3_requests import S3Requests
from obms.backup.stores import MB, Store, Stores, open_store, open_stores
from obms.errors import AlreadyThere, BackupDamaged, StorageFailed, StoreRefused
from obms.observe import utc_now
from tests.backup.conftest import manifest_of
from tests.backup.test_copies import assert_locked, locking_bucket, run, states, upload_images
from tests.deployment import Deployment
from tests.proxy import Proxy, proxy_to
from tests.real_faults import wait_until
from tests.s3_server import BUCKET, S3Server

PART = 5 * MB
GB = 1000**3


@pytest.fixture
def place() -> str:
    """A prefix of this test alone."""
    return f"{BUCKET}/{uuid4().hex}"


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    with proxy_to(s3.port) as running:
        yield running


@pytest.fixture
def server(stocked_sqlite: Deployment, s3: S3Server) -> Deployment:
    """A server with badges and the key of the S3 server."""
    stocked_sqlite.environment |= s3.environment
    return stocked_sqlite


@pytest.fixture
def store(s3: S3Server, place: str) -> Store:
    return open_store(s3.url(place), s3.credentials)


class Raw(BytesIO):
    """What a connection gives."""

    def stream(self) -> Iterator[bytes]:
        yield self.read()


Handler = Callable[[AWSRequest], AWSResponse | None]


def requests_of(store: Store) -> S3Requests:
    assert isinstance(store.storage, ObjectStore)
    assert store.storage.requests is not None
    return store.storage.requests


def intercept(requests: S3Requests, what: str, handler: Handler) -> None:
    """Let `handler` see each request of this kind, and answer it in place of the server."""
    requests.client.meta.events.register(f"before-send.s3.{what}", lambda request, **_: handler(request))


def refuse(requests: S3Requests, what: str, status: int, code: str, *, times: int = 1_000_000) -> None:
    left = [times]

    def handle(request: AWSRequest) -> AWSResponse | None:
        left[0] -= 1
        if left[0] < 0:
            return None
        body = f"<Error><Code>{code}</Code><Message>It is so.</Message></Error>".encode()
        return AWSResponse(request.url, status, {}, Raw(body))

    intercept(requests, what, handle)


def parts_sent(requests: S3Requests) -> list[int]:
    """The numbers of the parts that are sent from now on."""
    found: list[int] = []

    def note(request: AWSRequest) -> None:
        found.append(int(request.url.partition("partNumber=")[2].partition("&")[0]))

    intercept(requests, "UploadPart", note)
    return found


def unfinished(s3: S3Server, place: str, name: str) -> dict[int, int]:
    """The parts that are there of an upload, with their bytes."""
    found = s3.requests(place).unfinished(name)
    return {number: part.size for number, part in found[1].items()} if found else {}


def copy_to(server: Deployment, store: Store) -> None:
    (copy,) = copy_to_stores(replace(server.backups, stores=Stores(configured=(store,))))
    assert copy.error is None


def begin(store: Store, data: bytes, name: str, *, parts: range) -> None:
    """What a run left that was killed: these parts of the data."""
    requests = requests_of(store)
    id = requests.begin(name)
    for number in parts:
        part = data[(number - 1) * PART : number * PART]
        requests.send(name, id, number, part, s3_parts.digest_of(part))


def large_image(server: Deployment, count: int = 4) -> tuple[Manifest, bytes]:
    """A proven backup of `count` times 4 MB, and its bytes."""
    upload_images(server, count)
    manifest = manifest_of(server, server.made_backup()["id"])
    return manifest, (server.backup_dir / manifest.file).read_bytes()


def breaking(data: bytes, error: BaseException) -> Iterator[bytes]:
    yield data
    raise error


def killed_in_mid_upload(server: Deployment, s3: S3Server, proxy: Proxy, place: str) -> tuple[Manifest, int]:
    """A run that was killed when three parts were there: its backup, and how many bytes those are."""
    proxy.stall_after = PART + MB  # of each connection
    url = s3.url(place, "timeout=60", endpoint=proxy.endpoint)
    process = server.start("backup", "run", BACKUP_STORES=url)
    wait_until(lambda: s3.uploads(place), "the upload")
    (file,) = s3.uploads(place)
    wait_until(lambda: len(unfinished(s3, place, file)) == s3_parts.AT_ONCE, "three parts")
    wait_until(proxy.stalled.is_set, "the end of what is sent")
    process.kill()
    process.communicate()
    proxy.stall_after = None
    return manifest_of(server, file.partition(".")[0]), sum(unfinished(s3, place, file).values())


def test_b4_after_a_kill_only_the_parts_that_are_missing_are_sent(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    """B4, B11: SIGKILL while the parts are sent, and the next run."""
    upload_images(server, 6)
    manifest, there = killed_in_mid_upload(server, s3, proxy, place)
    assert states(server, s3, place) == {}
    assert there == s3_parts.AT_ONCE * PART
    proxy.sent = 0
    copy_to(server, open_store(s3.url(place, endpoint=proxy.endpoint), s3.credentials))
    assert manifest.bytes - there < proxy.sent < manifest.bytes - there + 100_000
    assert states(server, s3, place) == {manifest.id: "proven"}
    assert s3.uploads(place) == []


def test_a_copy_that_never_fits_in_one_run_comes_about_in_several(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    """The image that is there in part goes before the newer one of each run."""
    upload_images(server, 6)
    manifest, _ = killed_in_mid_upload(server, s3, proxy, place)
    answer = run(server, s3.url(place))
    assert answer.code == 0, answer.err
    assert answer.json["copies"][0]["copied"] == [manifest.id, answer.json["id"]]


@pytest.mark.parametrize("how", ["timeout", "signal"])
def test_b13_a_run_that_is_ended_leaves_what_it_has_sent(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str, how: str
) -> None:
    """B13: BACKUP_TIMEOUT and SIGTERM, and a store that hangs at that moment."""
    upload_images(server, 6)
    proxy.stall_after = PART + MB
    limit = {"BACKUP_TIMEOUT": "8s"} if how == "timeout" else {}
    url = s3.url(place, "timeout=60", endpoint=proxy.endpoint)
    process = server.start("backup", "run", BACKUP_STORES=url, **limit)
    wait_until(proxy.stalled.is_set, "the end of what is sent")
    (file,) = s3.uploads(place)
    wait_until(lambda: unfinished(s3, place, file), "a part")
    if how == "signal":
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=25)
    assert process.returncode == (128 + signal.SIGTERM if how == "signal" else 4)
    assert set(unfinished(s3, place, file).values()) == {PART}
    proxy.stall_after = None
    sending = open_store(s3.url(place), s3.credentials)
    there, sent = unfinished(s3, place, file), parts_sent(requests_of(sending))
    copy_to(server, sending)
    assert not set(there) & set(sent)
    assert list(states(server, s3, place).values()) == ["proven"]


def test_b11_each_try_of_a_run_goes_on_where_the_last_one_broke_off(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    manifest, _ = large_image(server, 6)
    store = open_store(s3.url(place, "attempts=6", endpoint=proxy.endpoint), s3.credentials)
    sent = parts_sent(requests_of(store))
    refuse(requests_of(store), "CompleteMultipartUpload", 400, "RequestTimeout", times=4)
    copy_to(server, store)
    assert sorted(sent) == list(range(1, -(-manifest.bytes // PART) + 1))
    assert proxy.sent < 1.1 * manifest.bytes
    assert states(server, s3, place) == {manifest.id: "proven"}


def test_a_part_that_was_changed_in_the_store_is_sent_anew(
    server: Deployment, s3: S3Server, store: Store, place: str
) -> None:
    manifest, data = large_image(server)
    changed = data[:PART] + bytes([data[PART] ^ 1]) + data[PART + 1 :]
    begin(store, changed, manifest.file, parts=range(1, 4))
    sent = parts_sent(requests_of(store))
    copy_to(server, store)
    assert sorted(sent) == [2, 4]
    assert states(server, s3, place) == {manifest.id: "proven"}


def test_a_part_of_another_size_is_sent_anew(server: Deployment, s3: S3Server, place: str) -> None:
    """After `part_size` was changed, and the upload that was begun has more parts than there are now."""
    manifest, data = large_image(server)
    larger = open_store(s3.url(place).replace("part_size=5242880", "part_size=6000000"), s3.credentials)
    begin(larger, data + data, manifest.file, parts=range(1, 7))
    sent = parts_sent(requests_of(larger))
    copy_to(server, larger)
    assert sorted(sent) == [1, 2, 3]
    assert states(server, s3, place) == {manifest.id: "proven"}


def test_all_pages_of_a_list_are_read(
    server: Deployment, s3: S3Server, store: Store, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_requests, "PAGE", 1)
    manifest, data = large_image(server)
    for name in ("a", "b", f"{manifest.file}.more"):
        requests_of(store).begin(name)
    begin(store, data, manifest.file, parts=range(1, 4))
    sent = parts_sent(requests_of(store))
    copy_to(server, store)
    assert sent == [4]
    assert sorted(s3.uploads(place)) == ["a", "b"]


def test_of_several_uploads_the_newest_that_is_still_there_goes_on(store: Store) -> None:
    requests = requests_of(store)
    older = requests.begin("name")
    Event().wait(1.1)  # the server tells the second of its beginning
    newer = requests.begin("name")
    assert [id for _, id in requests.uploads("name")] == [older, newer]
    refuse(requests, "ListParts", 404, "NoSuchUpload", times=1)
    assert requests.unfinished("name") == (older, {})
    refuse(requests, "ListParts", 403, "AccessDenied")
    with pytest.raises(StoreRefused, match=r"refused: AccessDenied: It is so\.$"):
        requests.unfinished("name")


def test_an_upload_of_an_image_that_the_store_lacks_no_longer_is_aborted(
    server: Deployment, s3: S3Server, store: Store, place: str
) -> None:
    held, _ = large_image(server, 1)
    copy_to(server, store)
    owed, data = large_image(server, 1)
    begin(store, data, held.file, parts=range(1, 2))
    begin(store, data, owed.file, parts=range(1, 2))
    aborted: list[str] = []
    intercept(requests_of(store), "AbortMultipartUpload", lambda request: aborted.append(request.url))
    copy_to(server, store)
    assert [held.file in url for url in aborted] == [True]
    assert s3.uploads(place) == []


def test_an_upload_whose_bytes_turn_out_damaged_is_aborted(s3: S3Server, store: Store, place: str) -> None:
    with pytest.raises(BackupDamaged):
        store.storage.put("x", breaking(bytes(3 * PART), BackupDamaged(name="x", detail="broken")))
    assert s3.uploads(place) == []
    with pytest.raises(KeyboardInterrupt):
        store.storage.put("x", breaking(bytes(3 * PART), KeyboardInterrupt()))
    assert s3.uploads(place) == ["x"]


def test_a_store_that_does_not_tell_what_is_unfinished_forgets_it(
    s3: S3Server, store: Store, place: str
) -> None:
    refuse(requests_of(store), "ListMultipartUploads", 403, "AccessDenied")
    with pytest.raises(KeyboardInterrupt):
        store.storage.put("x", breaking(bytes(3 * PART), KeyboardInterrupt()))
    assert s3.uploads(place) == []
    store.storage.put("x", iter((bytes(3 * PART),)))
    assert store.storage.size("x") == 3 * PART


def test_a_store_that_hangs_is_not_waited_for_longer_than_the_grace(
    s3: S3Server, proxy: Proxy, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_parts, "GRACE_SECONDS", 0.2)
    store = open_store(s3.url(place, "timeout=600", endpoint=proxy.endpoint), s3.credentials)

    def damaged() -> Iterator[bytes]:
        yield bytes(2 * PART)
        yield bytes(PART)  # the first is on its way
        proxy.stall_after = 0
        yield bytes(PART)
        raise BackupDamaged(name="x", detail="broken")

    with pytest.raises(BackupDamaged):
        store.storage.put("x", damaged())


def test_an_abort_that_is_refused_hides_no_damage(store: Store) -> None:
    refuse(requests_of(store), "AbortMultipartUpload", 403, "AccessDenied")
    with pytest.raises(BackupDamaged):
        store.storage.put("x", breaking(bytes(2 * PART), BackupDamaged(name="x", detail="broken")))


def test_a_part_that_fails_ends_the_sending_and_stays_for_the_next(s3: S3Server, place: str) -> None:
    store = open_store(s3.url(place), s3.credentials)
    made: list[int] = []

    def many() -> Iterator[bytes]:
        for number in range(40):
            made.append(number)
            yield os.urandom(PART)

    refuse(requests_of(store), "UploadPart", 400, "BadDigest")
    with pytest.raises(StorageFailed, match=r"BadDigest: It is so\.$") as failed:
        store.storage.put("x", many())
    assert not isinstance(failed.value, StoreRefused)
    assert len(made) < 20
    assert s3.uploads(place) == ["x"]


def test_the_parts_of_a_large_object_are_few_enough() -> None:
    sizes = {size: size_of_parts(8 * MB, size) for size in (79 * GB, 81 * GB, 1000 * GB, 5000 * GB)}
    assert sizes == {79 * GB: 8 * MB, 81 * GB: 8 * MB, 1000 * GB: 96 * MB, 5000 * GB: 477 * MB}
    assert all(-(-size // part) <= 10_000 and part % MB == 0 for size, part in sizes.items())
    assert size_of_parts(8 * MB, 84 * GB) == 9 * MB
    assert size_of_parts(8 * MB, 10_000 * 8 * MB) == 8 * MB
    assert size_of_parts(8 * MB, 10_000 * 8 * MB + 1) == 9 * MB
    assert size_of_parts(6_000_000, 79 * GB) == 8 * MB
    assert size_of_parts(6_000_000, None) == size_of_parts(6_000_000, 5) == 6_000_000


def test_the_size_that_will_come_makes_the_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "MOST_PARTS", 2)
    sent = parts_sent(requests_of(store))
    store.storage.put("x", iter([bytes(MB)] * 14), size=14 * MB)
    assert sorted(sent) == [1, 2]
    assert store.storage.size("x") == 14 * MB


def test_a_copy_tells_the_size_that_will_come(
    server: Deployment, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "MOST_PARTS", 2)
    large_image(server)
    sent = parts_sent(requests_of(store))
    copy_to(server, store)
    assert sorted(sent) == [1, 2]


def test_the_rate_limit_slows_only_what_is_sent(
    server: Deployment, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: list[int] = []

    class Counting(Pace):
        def passing(self, count: int) -> Any:
            passed.append(count)
            return super().passing(count)

    manifest, data = large_image(server)
    begin(store, data, manifest.file, parts=range(1, 3))
    monkeypatch.setattr(object_store, "Pace", Counting)
    slow = replace(store, options=replace(store.options, rate_limit=GB))
    copy_to(server, slow)
    assert [count for count in passed if count > MB] == [PART, len(data) - 3 * PART]


def test_a_profile_of_the_machine_opens_a_store_and_locks_what_is_there(
    stocked_sqlite: Deployment, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = locking_bucket(s3)
    profile(s3, tmp_path, monkeypatch)
    upload_images(stocked_sqlite, 2)
    answer = run(stocked_sqlite, s3.url(bucket, "lock_days=30"))
    assert answer.code == 0, answer.err
    assert len(assert_locked(s3, bucket, 30)) > 2
    s3.requests(bucket).begin(f"{answer.json['file']}")
    assert run(stocked_sqlite, s3.url(bucket, "lock_days=30")).code == 0
    assert s3.uploads(bucket) == []


def profile(s3: S3Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "credentials"
    path.write_text(
        f"[backups]\naws_access_key_id = {s3.key}\naws_secret_access_key = {s3.secret}\n", encoding="ascii"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_PROFILE", "backups")


def test_the_files_of_other_programs_do_not_matter_to_a_key_of_the_settings(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "one that is not there")
    assert list(requests_of(store).uploads()) == []


def test_a_profile_that_is_not_there_is_told_in_one_line(
    s3: S3Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    storage = open_store(s3.url(place), {}).storage
    for ask in (storage.names, storage.sweep):
        with pytest.raises(StorageFailed, match=r"nobody\) could not be found\.$") as failed:
            list(ask())
        assert not isinstance(failed.value, StoreRefused)


def test_a_machine_without_credentials_is_told_so(
    s3: S3Server, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (store,) = open_stores((s3.url(place, "lock_days=3"),), {})
    for ask in (store.storage.names, store.storage.sweep):
        with pytest.raises(StorageFailed, match=r"s3://.*: no credentials are found: .*profile\.$") as failed:
            list(ask())
        assert not isinstance(failed.value, StoreRefused)
        assert "BACKUP_STORES" in str(failed.value.hint)


def test_no_client_tells_its_key(s3: S3Server, store: Store) -> None:
    requests = requests_of(store)
    shown = repr(requests) + repr(store) + repr(vars(store.storage)) + repr(requests.client)
    assert s3.secret not in shown
    assert s3.key not in shown


@pytest.mark.parametrize(
    ("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")]
)
def test_an_object_that_came_while_the_parts_were_sent_is_not_replaced(
    store: Store, status: int, code: str
) -> None:
    refuse(requests_of(store), "CompleteMultipartUpload", status, code)
    with pytest.raises(AlreadyThere, match="holds another object x"):
        store.storage.put("x", iter((bytes(2 * PART),)), replace=False)


@pytest.mark.parametrize("replace", [True, False])
def test_the_condition_is_asked_where_nothing_is_to_be_replaced(store: Store, replace: bool) -> None:
    seen: list[Any] = []

    def note(request: AWSRequest) -> None:
        seen.append(request.headers.get("If-None-Match"))

    intercept(requests_of(store), "CompleteMultipartUpload", note)
    store.storage.put("x", iter((bytes(2 * PART),)), replace=replace)
    assert seen == [None if replace else b"*"]


def test_a_server_that_knows_no_condition_is_asked_without_it(store: Store) -> None:
    refuse(requests_of(store), "CompleteMultipartUpload", 501, "NotImplemented", times=1)
    store.storage.put("x", iter((bytes(2 * PART),)), replace=False)
    assert store.storage.size("x") == 2 * PART
    refuse(requests_of(store), "CompleteMultipartUpload", 501, "NotImplemented")
    for replaced in (True, False):
        with pytest.raises(StoreRefused, match="NotImplemented"):
            store.storage.put("y", iter((bytes(2 * PART),)), replace=replaced)


def test_a_server_that_fails_has_refused_nothing(store: Store) -> None:
    refuse(requests_of(store), "CreateMultipartUpload", 507, "InsufficientStorage")
    with pytest.raises(StorageFailed, match="InsufficientStorage") as failed:
        requests_of(store).begin("x")
    assert not isinstance(failed.value, StoreRefused)


def test_a_slow_line_has_time_for_each_part(
    s3: S3Server, proxy: Proxy, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part as a whole has to be there within the time of a connection."""
    monkeypatch.setattr(s3_access, "CONNECT_SECONDS", 0.5)
    proxy.delay = 0.01
    url = s3.url(place, "attempts=1", endpoint=proxy.endpoint).replace("part_size=5242880", "part_size=32M")
    store = open_store(url, s3.credentials)
    store.storage.put("x", iter([bytes(MB)] * 62))
    assert proxy.sent < 66 * MB


def test_what_is_locked_is_sent_with_the_sum_that_older_servers_ask_for(store: Store) -> None:
    seen: list[Any] = []

    def note(request: AWSRequest) -> AWSResponse:
        seen.append(request.headers.get("Content-MD5"))
        return AWSResponse(request.url, 200, {}, Raw())

    intercept(requests_of(store), "PutObjectRetention", note)
    replace(store, options=replace(store.options, lock_days=1)).lock("x", utc_now())
    assert [len(told) for told in seen] == [24]


def test_a_passing_token_of_the_settings_is_sent(s3: S3Server, place: str) -> None:
    seen: list[Any] = []

    def note(request: AWSRequest) -> AWSResponse:
        seen.append(request.headers.get("X-Amz-Security-Token"))
        return AWSResponse(request.url, 204, {}, Raw())

    given = {"s3": {**s3.credentials["s3"], "session_token": "the token"}}
    requests = requests_of(open_store(s3.url(place), given))
    intercept(requests, "AbortMultipartUpload", note)
    requests.abort("x", "1")
    assert seen == [b"the token"]


def test_whom_the_system_trusts_is_trusted(
    s3: S3Server, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As obstore does: a server of one's own has a certificate of one's own authority; here a wrong one."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    (tmp_path / "authority.pem").write_text("nobody")
    url = s3.url(place, endpoint=s3.endpoint.replace("http:", "https:"))
    with pytest.raises(StorageFailed, match=r"(?i)no.certificate"):
        list(requests_of(open_store(url, s3.credentials)).uploads())


def test_a_bucket_of_amazon_is_asked_at_its_own_address() -> None:
    asked: list[str] = []

    def note(request: AWSRequest) -> AWSResponse:
        asked.append(request.url)
        return AWSResponse(request.url, 204, {}, Raw())

    key = {"access_key_id": "a", "secret_access_key": "b", "region": "eu-central-1"}
    requests = requests_of(open_store("s3://bucket/p", {"s3": key}))
    intercept(requests, "AbortMultipartUpload", note)
    requests.abort("x", "1")
    assert asked == ["https://bucket.s3.eu-central-1.amazonaws.com/p/x?uploadId=1"]


OPEN = """
import sys
import obms.cli
from obms.backup.stores import open_store
key = {"access_key_id": "a", "secret_access_key": "b"}
store = open_store("s3://b/p?endpoint=http://127.0.0.1:1&lock_days=3&attempts=1", {"s3": key})
open_store("s3://b/p?lock_days=3", {})
sys.exit("botocore" in sys.modules)
"""


def test_a_store_is_opened_without_what_only_its_uploads_need() -> None:
    subprocess.run([sys.executable, "-c", OPEN], check=True)
