"""What opens an S3 store, what is asked of it by botocore, and what its answers mean."""

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest, AWSResponse

from obms.backup import s3_access
from obms.backup.stores import MB, Store, open_store, open_stores
from obms.errors import AlreadyThere, StorageFailed, StoreRefused
from obms.observe import utc_now
from tests.backup.test_copies import assert_locked, locking_bucket, run, upload_images
from tests.deployment import Deployment
from tests.proxy import Proxy
from tests.s3_faults import Raw, intercept, refuse, requests_of
from tests.s3_server import S3Server

PART = 5 * MB


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


def test_what_the_machine_gave_is_asked_for_again_soon(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been given out long before, and end any minute."""
    profile(s3, tmp_path, monkeypatch)
    until = s3_access.S3Access(settings={}, timeout=1).credential()["expires_at"]
    assert until is not None
    assert timedelta() < until - utc_now() <= timedelta(minutes=2)


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
    monkeypatch.setattr(s3_access, "CONNECT_SECONDS", 0.2)
    proxy.delay = 0.01
    url = s3.url(place, "attempts=1", endpoint=proxy.endpoint).replace("part_size=5242880", "part_size=12M")
    store = open_store(url, s3.credentials)
    store.storage.put("x", iter([bytes(MB)] * 22))
    assert proxy.sent < 23 * MB


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
