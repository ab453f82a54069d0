"""Uploads to S3 that broke off go on where they did: only the parts that are missing are sent."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from threading import Event
from typing import Any

import httpx
import pytest
from botocore.awsrequest import AWSRequest, AWSResponse

from obms.backup import object_store, s3_parts, s3_requests
from obms.backup.copies import copy_to_stores
from obms.backup.manifest import Manifest
from obms.backup.object_store import size_of_parts
from obms.backup.pace import Pace
from obms.backup.stores import MB, Store, Stores, open_store
from obms.errors import BackupDamaged, StorageFailed, StoreRefused
from tests.backup.conftest import manifest_of
from tests.backup.test_copies import run, states, upload_images
from tests.deployment import Deployment
from tests.proxy import Proxy
from tests.real_faults import bound_by_modes, wait_until
from tests.s3_faults import Raw, intercept, parts_sent, refuse, requests_of
from tests.s3_server import S3Server

PART = 5 * MB
GB = 1000**3


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
    limit = {"BACKUP_TIMEOUT": "20s"} if how == "timeout" else {}
    url = s3.url(place, "timeout=60", endpoint=proxy.endpoint)
    process = server.start("backup", "run", BACKUP_STORES=url, **limit)
    wait_until(proxy.stalled.is_set, "the end of what is sent")
    (file,) = s3.uploads(place)
    wait_until(lambda: unfinished(s3, place, file), "a part")
    if how == "signal":
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == (128 + signal.SIGTERM if how == "signal" else 4)
    last = manifest_of(server, file.partition(".")[0]).bytes % PART
    assert set(unfinished(s3, place, file).values()) <= {PART, last}
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


def test_where_the_last_part_fails_no_object_is_made(s3: S3Server, store: Store, place: str) -> None:
    refuse(requests_of(store), "UploadPart", 400, "BadDigest", of="partNumber=2")
    with pytest.raises(StorageFailed, match="BadDigest"):
        store.storage.put("x", iter((bytes(2 * PART),)))
    assert unfinished(s3, place, "x") == {1: PART}
    assert list(store.storage.names()) == []


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
            passed.extend([count] if self._rate == GB else [])
            return super().passing(count)

    manifest, data = large_image(server)
    begin(store, data, manifest.file, parts=range(1, 3))
    monkeypatch.setattr(object_store, "Pace", Counting)
    slow = replace(store, options=replace(store.options, rate_limit=GB))
    copy_to(server, slow)
    assert [count for count in passed if count > MB] == [PART, len(data) - 3 * PART]


def test_an_answer_that_is_lost_leaves_a_whole_copy_and_no_failure(server: Deployment, store: Store) -> None:
    """The server has made the object, says 503, and asked again that there is one."""
    manifest, data = large_image(server)
    asked: list[int] = []

    def lose(request: AWSRequest) -> AWSResponse | None:
        asked.append(1)
        if len(asked) > 1:
            return None
        headers = [(name, value) for name, value in request.headers.items()]
        httpx.post(request.url, content=request.body, headers=headers).raise_for_status()
        return AWSResponse(request.url, 503, {}, Raw(b"<Error><Code>ServiceUnavailable</Code></Error>"))

    intercept(requests_of(store), "CompleteMultipartUpload", lose)
    copy_to(server, store)
    assert len(asked) == 2
    assert b"".join(store.storage.get(manifest.file)) == data


def test_what_another_put_there_in_between_is_never_written_over(
    server: Deployment, s3: S3Server, store: Store, place: str
) -> None:
    manifest, _ = large_image(server)
    other = open_store(s3.url(place), s3.credentials).storage

    def come_first(_request: AWSRequest) -> None:
        other.put(manifest.file, iter((b"theirs",)))

    intercept(requests_of(store), "CompleteMultipartUpload", come_first)
    for _ in range(2):
        (copy,) = copy_to_stores(replace(server.backups, stores=Stores(configured=(store,))))
        assert "not overwritten" in str(copy.error)
        assert b"".join(other.get(manifest.file)) == b"theirs"


def test_an_older_image_that_is_begun_and_cannot_be_read_does_not_keep_the_newest_back(
    server: Deployment, store: Store
) -> None:
    older, data = large_image(server)
    newest = server.made_backup()
    begin(store, data, older.file, parts=range(1, 2))
    image = server.backup_dir / older.file
    image.chmod(0)
    with bound_by_modes():
        (copy,) = copy_to_stores(replace(server.backups, stores=Stores(configured=(store,))))
    image.chmod(0o600)
    assert copy.copied == (newest["id"],)
    assert "Permission denied" in str(copy.error)
