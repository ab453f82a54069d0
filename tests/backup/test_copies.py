"""Copies in the stores: whole ones, read back, or none, whatever the store does (B11)."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError
from PIL import Image

from obms.backup.catalog import read_catalog
from obms.backup.copies import copy_to_stores
from obms.backup.run import run as run_once
from obms.backup.stores import open_store, open_stores
from obms.databases import writing
from obms.observe import utc_now
from obms.schema import images as uploads
from tests.backup.conftest import Noted, found, images
from tests.backup.test_damage import flip
from tests.deployment import Answer, Deployment
from tests.proxy import HOST, Proxy
from tests.real_faults import wait_until
from tests.s3_server import S3Server

MB = 1_000_000
SIDE = 1200  # of a picture of more than 4 MB


def run(server: Deployment, *urls: str | Path) -> Answer:
    return server.obms("backup", "run", "--json", BACKUP_STORES=" ".join(map(str, urls)))


def states(server: Deployment, s3: S3Server, place: str) -> dict[str, str]:
    """What the store holds, as its own catalogue tells."""
    store = open_store(s3.url(place), s3.credentials)
    return {backup.id: backup.state for backup in read_catalog(store.storage, server.backups.trusted)}


def names(s3: S3Server, place: str) -> list[str]:
    """What is there of backups; the journal's objects are not of that."""
    found = open_store(s3.url(place), s3.credentials).storage.names()
    return [name for name in found if not name.startswith("revocations_")]


def noise() -> bytes:
    """A picture that does not get smaller by compression."""
    content = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), os.urandom(3 * SIDE * SIDE)).save(content, "PNG", compress_level=0)
    return content.getvalue()


def upload_images(server: Deployment, count: int) -> None:
    """Make the image large: random bytes do not get smaller by compression."""
    common = {"media_type": "image/png", "created_at": utc_now()}
    with writing(server.database.engine) as connection:
        for id in (uuid4().hex for _ in range(count)):
            row = {"id": id, "name": id, "content": noise()}
            connection.execute(sa.insert(uploads), row | common)


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def test_a_proven_backup_goes_to_each_store_and_is_proven_there(
    server: Deployment, s3: S3Server, place: str, tmp_path: Path
) -> None:
    answer = run(server, s3.url(place), tmp_path / "copies")
    assert answer.code == 0, answer.err
    made = answer.json
    assert [copy["store"] for copy in made["copies"]] == [f"s3://{place}", (tmp_path / "copies").as_uri()]
    for copy in made["copies"]:
        assert copy["ok"]
        assert copy["copied"] == [made["id"]]
        assert copy["bytes"] == made["bytes"]
        assert copy["error"] is None
    assert names(s3, place) == [made["file"], f"{made['file']}.json", f"{made['file']}.proof.json"]
    assert states(server, s3, place) == {made["id"]: "proven"}
    for url in (s3.url(place), str(tmp_path / "copies")):
        judged = server.obms("backup", "verify", "latest", "--store", url, "--json")
        assert judged.code == 0, judged.err
        assert judged.json["level"] == "proven"


def test_what_a_store_holds_is_not_sent_again(
    server: Deployment, proxy: Proxy, s3: S3Server, place: str
) -> None:
    upload_images(server, 1)
    url = s3.url(place, endpoint=proxy.endpoint)
    assert run(server, url).code == 0
    proxy.sent = 0
    second = run(server, url).json
    assert second["copies"][0]["copied"] == [second["id"]]
    assert proxy.sent < 1.5 * second["bytes"]


def test_an_unproven_backup_is_not_copied(server: Deployment, tmp_path: Path) -> None:
    answer = server.obms("backup", "run", "--no-prove", "--json", BACKUP_STORES=str(tmp_path / "copies"))
    assert answer.code == 0
    assert answer.json["copies"] == []
    assert list((tmp_path / "copies").glob("*backup*")) == []


def test_b11_a_store_that_is_down_is_told_and_the_others_are_served(
    server: Deployment, s3: S3Server, place: str, tmp_path: Path
) -> None:
    """B11: exit 9, after the local backup is proven and all other stores hold it."""
    down = s3.url(place, endpoint=f"http://{HOST}:{closed_port()}")
    answer = run(server, down, tmp_path / "copies")
    assert answer.code == 9
    assert f"s3://{place}" in answer.err
    assert answer.json["proven"]
    assert [copy["ok"] for copy in answer.json["copies"]] == [False, True]
    assert answer.json["copies"][0]["seconds"] > 0.5  # it was tried again, after a pause
    assert server.obms("backup", "verify", "latest").code == 0
    assert server.obms("backup", "verify", "latest", "--store", str(tmp_path / "copies")).code == 0
    record = json.loads((server.backup_dir / "last_run.json").read_text())
    assert (record["ok"], record["exit_code"]) == (False, 9)
    assert f"s3://{place}" in record["error"]


def test_b11_the_event_names_the_store(server: Deployment, place: str, s3: S3Server, noted: Noted) -> None:
    server.environment["BACKUP_STORES"] = s3.url(place, endpoint=f"http://{HOST}:{closed_port()}")
    made = run_once(replace(server.backups, notify=noted))
    assert made.proven
    (event,) = noted.named("backup.copied")
    assert not event.ok
    assert event.facts["store"] == f"s3://{place}"
    assert not noted.named("backup.run")[0].ok


def test_b11_a_store_that_was_down_for_days_gets_the_days_it_missed(
    server: Deployment, s3: S3Server, place: str
) -> None:
    down = s3.url(place, endpoint=f"http://{HOST}:{closed_port()}")
    missed = [run(server, down).json["id"] for _ in range(3)]
    answer = run(server, s3.url(place))
    assert answer.code == 0, answer.err
    assert answer.json["copies"][0]["copied"] == [answer.json["id"], *reversed(missed)]
    assert states(server, s3, place) == dict.fromkeys([answer.json["id"], *missed], "proven")


def test_b11_a_connection_that_is_cut_once_is_made_up_for(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    upload_images(server, 3)
    proxy.cut_after, proxy.cuts = 2 * MB, 2
    answer = run(server, s3.url(place, endpoint=proxy.endpoint))
    assert answer.code == 0, answer.err
    assert proxy.cuts == 0
    assert states(server, s3, place) == {answer.json["id"]: "proven"}


def test_b11_a_copy_that_is_always_cut_never_counts_and_the_next_run_makes_it(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    upload_images(server, 3)
    proxy.cut_after = 2 * MB
    answer = run(server, s3.url(place, endpoint=proxy.endpoint))
    assert answer.code == 9
    assert server.obms("backup", "verify", "latest").code == 0
    assert states(server, s3, place) == {}
    lost = server.obms("restore", f"{s3.url(place)}".replace("?", "/latest?"), "--yes")
    assert (lost.code, "no backup 'latest'" in lost.err) == (2, True)
    proxy.cut_after = None
    assert run(server, s3.url(place, endpoint=proxy.endpoint)).code == 0
    assert set(states(server, s3, place).values()) == {"proven"}
    assert len(states(server, s3, place)) == 2


def test_b11_a_store_that_stalls_is_given_up(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    proxy.stall_after = 0
    answer = run(server, s3.url(place, "timeout=1", "attempts=1", endpoint=proxy.endpoint))
    assert answer.code == 9
    assert answer.json["proven"]
    assert answer.json["copies"][0]["seconds"] < 30


def test_b11_a_store_that_refuses_is_told_without_the_key(
    server: Deployment, s3: S3Server, place: str
) -> None:
    url = s3.url(place, "attempts=6")
    answer = server.obms(
        "backup", "run", "--json", BACKUP_STORES=url, AWS_SECRET_ACCESS_KEY="a-wrong-and-secret-one"
    )
    assert answer.code == 9
    assert "refused" in answer.err
    assert answer.json["copies"][0]["seconds"] < 5  # a refusal is not tried again
    assert "a-wrong-and-secret-one" not in answer.out + answer.err


def test_b11_a_copy_that_reads_back_otherwise_does_not_count(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    """The server took it, and its answers differ by a bit: no checksum of the server's own is asked."""
    proxy.flip = True
    answer = run(server, s3.url(place, endpoint=proxy.endpoint))
    assert answer.code == 9
    assert "read back other than it was sent" in answer.err
    assert "proven" not in states(server, s3, place).values()


def test_a_damaged_image_is_not_spread(server: Deployment, tmp_path: Path) -> None:
    first = server.made_backup()
    image = server.backup_dir / first["file"]
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    image.write_bytes(data)
    answer = run(server, tmp_path / "copies")
    assert answer.code == 9
    assert f"The backup {first['file']} is damaged: it is not what its manifest says" in answer.err
    assert answer.json["copies"][0]["copied"] == [answer.json["id"]]
    assert first["file"] not in {path.name for path in (tmp_path / "copies").iterdir()}
    assert "Choose another one" in answer.err


def test_a_damaged_image_is_judged_and_does_not_stop_the_runs_to_come(
    server: Deployment, tmp_path: Path
) -> None:
    first = server.made_backup()
    flip(server.backup_dir / first["file"], 5000)
    assert run(server, tmp_path / "copies", tmp_path / "others").code == 9
    assert found(server, first["id"]).state == "bad"
    answer = run(server, tmp_path / "copies")
    assert answer.code == 0, answer.err
    assert answer.json["held"] is None


@pytest.mark.parametrize("foreign", ["", ".json"])
def test_a_file_of_somebody_else_is_not_overwritten(
    server: Deployment, s3: S3Server, place: str, foreign: str
) -> None:
    first = server.made_backup()
    store = open_store(s3.url(place), s3.credentials).storage
    store.put(first["file"] + foreign, iter((b"theirs",)))
    answer = run(server, s3.url(place))
    assert answer.code == 9
    assert "another object" in answer.err
    assert b"".join(store.get(first["file"] + foreign)) == b"theirs"
    assert answer.json["copies"][0]["copied"] == [answer.json["id"]]


def test_two_servers_that_share_a_prefix_do_not_write_over_each_other(
    server: Deployment, s3: S3Server, place: str
) -> None:
    first = server.made_backup()
    store = open_store(s3.url(place), s3.credentials).storage
    store.put(f".{first['file']}.begun", iter((b"the fingerprint of another manifest",)))
    answer = run(server, s3.url(place))
    assert answer.code == 9
    assert first["file"] not in list(store.names())


def test_an_image_whose_manifest_was_not_sent_is_not_sent_again(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    upload_images(server, 2)
    first = server.made_backup()
    store = open_store(s3.url(place), s3.credentials).storage
    store.put(first["file"], server.backups.storage.get(first["file"]))
    assert states(server, s3, place) == {first["id"]: "orphan"}
    second = run(server, s3.url(place, endpoint=proxy.endpoint))
    assert second.code == 0, second.err
    assert set(second.json["copies"][0]["copied"]) == {first["id"], second.json["id"]}
    assert states(server, s3, place)[first["id"]] == "proven"
    assert proxy.sent < 1.5 * second.json["bytes"]


def test_a_rate_limit_is_kept(server: Deployment, s3: S3Server, place: str) -> None:
    made = run(server, s3.url(place, "rate_limit=50k")).json
    assert made["copies"][0]["ok"]
    assert made["copies"][0]["seconds"] > made["bytes"] / 50_000


def test_no_secret_is_told(server: Deployment, s3: S3Server, place: str) -> None:
    answer = run(server, s3.url(place))
    shown = repr(server.settings) + repr(server.backups) + answer.out + answer.err
    shown += (server.backup_dir / "last_run.json").read_text()
    assert s3.secret not in shown
    assert s3.key not in shown


def test_a_secret_may_stand_in_a_file(server: Deployment, s3: S3Server, place: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{s3.secret}\n")
    del server.environment["AWS_SECRET_ACCESS_KEY"]
    server.environment["AWS_SECRET_ACCESS_KEY_FILE"] = str(tmp_path / "secret")
    assert run(server, s3.url(place)).code == 0


def test_the_folder_of_the_backups_holds_nothing_of_the_copies(
    server: Deployment, s3: S3Server, place: str
) -> None:
    made: Any = run(server, s3.url(place)).json
    assert images(server) == [made["file"], f"{made['file']}.json", f"{made['file']}.proof.json"]


def kill_while_it_uploads(server: Deployment, proxy: Proxy, url: str) -> None:
    """A run of its own process, killed when the store has got some of the image."""
    proxy.stall_after = 2 * MB
    process = server.start("backup", "run", BACKUP_STORES=url)
    wait_until(proxy.stalled.is_set, "the upload")
    process.kill()
    process.communicate()
    proxy.stall_after = None


def test_b4_a_run_that_is_killed_in_mid_upload_is_completed_by_the_next_and_leaves_no_parts(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str
) -> None:
    """B4, B11: SIGKILL while the parts are sent."""
    upload_images(server, 4)
    url = s3.url(place, endpoint=proxy.endpoint)
    kill_while_it_uploads(server, proxy, url)
    assert [name.endswith(".db.gz") for name in s3.uploads(place)] == [True]
    assert states(server, s3, place) == {}
    answer = run(server, url)
    assert answer.code == 0, answer.err
    assert s3.uploads(place) == []
    assert list(states(server, s3, place).values()) == ["proven", "proven"]
    assert len(names(s3, place)) == 6


def test_the_uploads_of_others_below_the_prefix_go_on(server: Deployment, s3: S3Server, place: str) -> None:
    theirs = {"video.mp4", "sqlite_backup_2020-01-01_00-00-00.db.gz"}
    for name in theirs:
        s3.requests(place).begin(name)
    assert run(server, s3.url(place)).code == 0
    assert set(s3.uploads(place)) == theirs


def locking_bucket(s3: S3Server) -> str:
    """A new bucket with Object Lock."""
    bucket = f"locked-{uuid4().hex[:8]}"
    open_store(s3.url(bucket), s3.credentials).storage.put("a", iter(()))
    client = s3.requests(bucket).client
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    )
    return bucket


def assert_locked(s3: S3Server, bucket: str, days: int) -> set[str]:
    """Each object there can be removed by nobody; their names."""
    client = s3.requests(bucket).client
    listed = client.list_object_versions(Bucket=bucket)["Versions"]
    names = set(open_store(s3.url(bucket), s3.credentials).storage.names()) - {"a"}
    for name in names:
        until = client.get_object_retention(Bucket=bucket, Key=name)["Retention"]["RetainUntilDate"]
        assert timedelta(days=days - 1) < until - utc_now() < timedelta(days=days + 1)
        (version,) = (version["VersionId"] for version in listed if version["Key"] == name)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket=bucket, Key=name, VersionId=version)
    return names


def test_a_locked_copy_can_be_removed_by_nobody(server: Deployment, s3: S3Server) -> None:
    bucket = locking_bucket(s3)
    pinned = server.made_backup()["id"]
    assert server.obms("backup", "pin", pinned).code == 0
    answer = run(server, s3.url(bucket, "lock_days=30"))
    assert answer.code == 0, answer.err
    locked = assert_locked(s3, bucket, 30)
    assert f"{pinned}.pin.json" in locked
    assert {name.partition("_")[0] for name in locked} == {"sqlite", "revocations"}


def test_a_bucket_that_cannot_lock_is_told(server: Deployment, s3: S3Server, place: str) -> None:
    answer = run(server, s3.url(place, "lock_days=30"))
    assert answer.code == 9
    assert f"s3://{place} refused: lock_days" in answer.err
    assert "Object Lock" in answer.err
    assert list(open_store(s3.url(place), s3.credentials).storage.names()) == []


def test_a_copy_that_counted_stays_in_a_bucket_that_cannot_lock(
    server: Deployment, s3: S3Server, place: str
) -> None:
    first = run(server, s3.url(place)).json
    stores = open_stores((s3.url(place, "lock_days=30"),), s3.credentials)
    (store,) = stores
    store.storage.put(first["file"], iter((b"cut off",)))
    (copy,) = copy_to_stores(replace(server.backups, stores=stores))
    assert "lock_days" in str(copy.error)
    assert store.storage.size(first["file"]) == first["bytes"]


def test_b13_a_run_that_is_ended_while_it_copies_has_its_backup_and_owes_the_copies(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str, tmp_path: Path
) -> None:
    upload_images(server, 2)
    proxy.stall_after = 2 * MB
    urls = (s3.url(place, "timeout=60", endpoint=proxy.endpoint), str(tmp_path / "copies"))
    answer = server.obms("backup", "run", BACKUP_STORES=" ".join(urls), BACKUP_TIMEOUT="6s")
    assert answer.code == 4, answer.err
    assert "was at: copy" in answer.err
    assert_made_and_owed(server, (s3.url(place), urls[1]), code=4, said="BACKUP_TIMEOUT")


def test_s4_sigterm_while_it_copies_is_recorded_with_the_backup_that_stands(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str, tmp_path: Path
) -> None:
    upload_images(server, 2)
    proxy.stall_after = 2 * MB
    urls = (s3.url(place, "timeout=60", endpoint=proxy.endpoint), str(tmp_path / "copies"))
    process = server.start("backup", "run", BACKUP_STORES=" ".join(urls))
    wait_until(proxy.stalled.is_set, "the upload")
    process.terminate()
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert_made_and_owed(server, (s3.url(place), urls[1]), code=4, said="told to end, and was at: copy")


def assert_made_and_owed(server: Deployment, urls: tuple[str, str], *, code: int, said: str) -> None:
    """The record names the proven backup and the reason, and the next run brings it to every store."""
    record = json.loads((server.backup_dir / "last_run.json").read_text())
    (listed,) = server.obms("backup", "list", "--json").json
    assert (record["id"], record["proven"], listed["proven"]) == (listed["id"], True, True)
    assert (record["ok"], record["exit_code"]) == (False, code)
    assert said in record["error"]
    answer = run(server, *urls)
    assert answer.code == 0, answer.err
    for copy in answer.json["copies"]:
        assert set(copy["copied"]) == {listed["id"], answer.json["id"]}


UPLOAD = r"""
import re, sys
from pathlib import Path
from obms.backup.stores import open_store
url, key, secret = sys.argv[1:]
storage = open_store(url, {"s3": {"access_key_id": key, "secret_access_key": secret}}).storage
storage.put("large", (bytes([number]) * 1_000_000 for number in range(200)))
assert sum(len(chunk) for chunk in storage.get("large")) == 200_000_000
# Not ru_maxrss: that begins with what the process had that started this one.
print(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_image(s3: S3Server, place: str) -> None:
    url = s3.url(place, "part_size=8388608", "timeout=60")
    command = [sys.executable, "-c", UPLOAD, url, s3.key, s3.secret]
    peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(peak) * 1024 < 150 * MB
