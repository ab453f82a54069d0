"""Google's and Azure's stores as an operator uses them: from the copy to the restore on an empty machine."""

import base64
import json
from collections.abc import Iterator
from uuid import uuid4

import pytest
from obstore.exceptions import GenericError

from obms.backup.catalog import read_catalog
from obms.backup.object_store import ObjectStore, _reason
from obms.backup.retain import Policy
from obms.backup.run import run as run_once
from obms.backup.stores import join_name, open_store, open_stores
from obms.errors import ConfigurationError, StorageFailed, StoreRefused
from tests.backup.conftest import issuer_names
from tests.backup.test_copies import MB, kill_while_it_uploads, run, upload_images
from tests.backup.test_pruning import at, stand_by
from tests.backup.test_restoring_from_stores import lose_the_machine
from tests.clouds import Cloud, lease
from tests.deployment import Deployment
from tests.proxy import Proxy, proxy_to

AZURE = {"az": {"account_name": "account", "account_key": base64.b64encode(b"key").decode()}}


@pytest.fixture(params=["google", "azure"])
def cloud(request: pytest.FixtureRequest) -> Cloud:
    found: Cloud = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def server(stocked_sqlite: Deployment, cloud: Cloud) -> Deployment:
    """A server with badges and the key of the cloud."""
    stocked_sqlite.environment |= cloud.environment
    return stocked_sqlite


@pytest.fixture
def proxy(cloud: Cloud) -> Iterator[Proxy]:
    with proxy_to(cloud.port) as running:
        yield running


def through(proxy: Proxy, cloud: Cloud) -> str:
    """The endpoint of the proxy: the same path, on another port."""
    return str(cloud.endpoint).replace(f":{cloud.port}", f":{proxy.port}")


def states(server: Deployment, cloud: Cloud, place: str) -> dict[str, str]:
    storage = open_store(cloud.url(place), cloud.credentials).storage
    return {backup.id: backup.state for backup in read_catalog(storage, server.backups.trusted)}


def test_r13_a_backup_goes_there_and_an_empty_machine_is_restored_from_it(
    server: Deployment, cloud: Cloud
) -> None:
    """R13: copied, listed, verified, drilled; then the machine is lost."""
    url = cloud.url(uuid4().hex)
    made = run(server, url)
    assert made.code == 0, made.err
    assert [copy["copied"] for copy in made.json["copies"]] == [[made.json["id"]]]
    (listed,) = server.obms("backup", "list", "--store", url, "--json").json
    assert (listed["id"], listed["proven"]) == (made.json["id"], True)
    judged = server.obms("backup", "verify", "latest", "--store", url, "--json")
    assert (judged.code, judged.json["level"]) == (0, "proven")
    assert server.obms("drill", "--store", url, "--json").json["ok"]
    wanted = issuer_names(server)
    lose_the_machine(server)
    restored = server.obms("restore", join_name(url, "latest"), "--yes", "--json")
    assert restored.code == 0, restored.err
    server.database = server.backups.database
    assert issuer_names(server) == wanted


def test_it_forgets_by_its_own_policy(server: Deployment, cloud: Cloud) -> None:
    url = cloud.url(uuid4().hex, "retention_days=10")
    stores = open_stores((url,), cloud.credentials)
    old, young, now = (
        run_once(at(server, day, policy=Policy(days=None), stores=stores, probe=stand_by))
        for day in (-20, -3, 0)
    )
    assert [done.copies[0].removed for done in (old, young, now)] == [(), (old.manifest.id,), ()]
    held = states(server, cloud, url.partition("?")[0].removeprefix(f"{cloud.bucket}/"))
    assert held == {young.manifest.id: "proven", now.manifest.id: "proven"}


def test_b11_a_wrong_key_is_refused_in_one_line(server: Deployment, cloud: Cloud) -> None:
    url = cloud.url(uuid4().hex, "attempts=6")
    answer = server.obms("backup", "run", "--json", BACKUP_STORES=url, **cloud.wrong)
    assert answer.code == 9
    assert answer.json["proven"]
    assert f"{url.partition('?')[0]} refused: Auth" in answer.err
    assert "\n" not in answer.json["copies"][0]["error"]
    assert answer.json["copies"][0]["seconds"] < 5  # a refusal is not tried again
    assert not any(value in answer.err for value in cloud.wrong.values())


def test_b11_a_bucket_that_is_not_there_is_refused_in_one_line(cloud: Cloud) -> None:
    storage = open_store(cloud.nowhere(), cloud.credentials).storage
    with pytest.raises(StoreRefused, match=r"(NoSuchBucket|ContainerNotFound): [^\n]*does not exist\.$"):
        list(storage.names())
    with pytest.raises(StoreRefused, match=r"(NoSuchBucket|ContainerNotFound): [^\n]*does not exist\.$"):
        storage.put("name", iter((b"x",)))


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)  # the stand-in has the parts of S3
def test_b4_a_run_that_is_killed_in_mid_upload_is_completed_by_the_next(
    server: Deployment, cloud: Cloud, proxy: Proxy
) -> None:
    """B4, B11: SIGKILL while the parts are sent; they are no object."""
    upload_images(server, 2)
    place = uuid4().hex
    url = cloud.url(place, endpoint=through(proxy, cloud))
    kill_while_it_uploads(server, proxy, url)
    assert states(server, cloud, place) == {}
    proxy.cut_after, proxy.cuts = 2 * MB, 1
    answer = run(server, url)
    assert answer.code == 0, answer.err
    assert proxy.cuts == 0
    assert list(states(server, cloud, place).values()) == ["proven", "proven"]
    record = json.loads((server.backup_dir / "last_run.json").read_text())
    assert len(record["copies"][0]["copied"]) == 2


def test_an_endpoint_may_hold_the_account_where_azure_has_it_there() -> None:
    for endpoint in ("http://127.0.0.1:10000/account", "https://account.blob.core.chinacloudapi.cn/"):
        store = open_store(f"az://container/x?endpoint={endpoint}", AZURE)
        assert store.options.endpoint == endpoint
    with pytest.raises(ConfigurationError, match="endpoint must be"):
        open_store("gs://bucket/x?endpoint=http://127.0.0.1:10000/account", {})


def test_what_azure_says_is_told_in_one_line() -> None:
    """It puts an id and a time into its message, in lines of their own."""
    answer = "<Code>AuthenticationFailed</Code><Message>Make sure.\nRequestId:1\nTime:2026</Message>"
    assert _reason(ValueError(answer)) == "AuthenticationFailed: Make sure"


@pytest.mark.parametrize("code", [401, 403, 409, 412])
def test_azure_refuses_a_removal_within_an_answer_that_is_a_success(code: int) -> None:
    """It removes in batches, each part of which has a status of its own."""
    store = open_store("az://container/x", AZURE).storage
    assert isinstance(store, ObjectStore)
    answer = (
        f"Generic MicrosoftAzure error: Bulk delete request failed for key x/n: Immutable. (code: {code})"
    )
    with pytest.raises(StoreRefused, match=r"refused: Bulk delete .*: Immutable\."), store._errors("n"):
        raise GenericError(answer)
    with pytest.raises(StorageFailed) as failed, store._errors("n"):
        raise GenericError(answer.replace(str(code), "500"))
    assert not isinstance(failed.value, StoreRefused)


@pytest.mark.parametrize("cloud", ["azure"], indirect=True)
def test_what_azure_holds_is_told_and_the_run_succeeds(server: Deployment, cloud: Cloud) -> None:
    place = uuid4().hex
    stores = open_stores((cloud.url(place),), cloud.credentials)
    old = run_once(at(server, -20, policy=Policy(days=None), stores=stores, probe=stand_by)).manifest
    for end in ("", ".json", ".proof.json"):
        lease(cloud, f"{place}/{old.file}{end}")
    answer = run(server, cloud.url(place, "retention_days=10"))
    assert answer.code == 0, answer.err
    assert "There is currently a lease" in answer.json["copies"][0]["held"]
    assert states(server, cloud, place)[old.id] == "proven"
