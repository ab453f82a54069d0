"""The URLs of the stores: what they say, what they may not, and how a backup in one is named."""

from pathlib import Path

import pytest

from obms.backup.storage import Folder
from obms.backup.stores import Keep, join_name, open_store, open_stores, split_name
from obms.errors import ConfigurationError

NOTHING: dict[str, dict[str, str]] = {}
KEY = {"s3": {"access_key_id": "the-key", "secret_access_key": "the-secret"}}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("file:///mnt/copies/", "file:///mnt/copies"),
        ("/mnt/copies?rate_limit=5M", "file:///mnt/copies"),
        ("s3://bucket/a/b/?region=eu-central-1", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("gs://bucket/a", "gs://bucket/a"),
        ("az://container/a", "az://container/a"),
    ],
)
def test_a_store_is_named_by_its_url_without_options(url: str, name: str) -> None:
    credentials = KEY | {"az": {"account_name": "a", "account_key": "a2V5"}}
    assert open_store(url, credentials).name == name


def test_a_folder_may_have_a_blank_in_its_name(tmp_path: Path) -> None:
    store = open_store((tmp_path / "my copies").as_uri(), NOTHING)
    assert isinstance(store.storage, Folder)
    assert store.storage.path == tmp_path / "my copies"


@pytest.mark.parametrize("url", ["file:///a/off#site", "file:///a/off%23site", "/a/off#site"])
def test_all_spellings_of_a_folder_are_one_store(url: str) -> None:
    store = open_store(url, NOTHING)
    assert isinstance(store.storage, Folder)
    assert (store.storage.path, store.name) == (Path("/a/off#site"), "file:///a/off%23site")


def test_a_folder_may_lie_in_the_home_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/offsite", NOTHING).name == (tmp_path / "offsite").as_uri()


def test_the_folder_of_the_backups_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for url in (str(tmp_path), f"{tmp_path.as_uri()}?keep_daily=3", str(tmp_path / "link")):
        with pytest.raises(ConfigurationError, match="is BACKUP_DIR itself"):
            open_stores((url,), NOTHING, tmp_path)


def test_what_a_url_asks_for_is_read() -> None:
    url = "s3://b/p?endpoint=http://127.0.0.1:1&region=x&rate_limit=10M&lock_days=30&timeout=5&keep_daily=7"
    options = open_store(f"{url}&retention_days=90", KEY).options
    assert (options.endpoint, options.region) == ("http://127.0.0.1:1", "x")
    assert (options.rate_limit, options.lock_days, options.timeout) == (10_000_000, 30, 5)
    assert options.keep == Keep(retention_days=90, keep_daily=7)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "'ftp://host/x' is no store"),
        ("s3:///x", "'s3:///x' is no store"),
        ("file://host/x", "'file://host/x' is no store"),
        ("s3://b/p?colour=red", "there is no option 'colour'"),
        ("s3://b/p?rate_limit=fast", "rate_limit must be a number"),
        ("s3://b/p?endpoint=somewhere", "endpoint must be https"),
        ("gs://b/p?lock_days=3", "lock_days needs an s3:// store"),
        ("/mnt/copies?region=x", "a folder has no region"),
        ("/mnt/copies?lock_days=3", "a folder has no lock_days"),
        ("~nobody-of-that-name/copies", "there is no such home folder"),
        ("s3://b/p?part_size=0", "part_size must be from 5242880 to 1073741824"),
        ("s3://b/p?part_size=2G", "part_size must be from"),
        ("s3://b/p?lock_days=0", "lock_days must be from 1 to 100000"),
        ("s3://b/p?lock_days=1G", "lock_days must be from"),
        ("/mnt/copies?retention_days=1G", "retention_days must be from 0 to 100000"),
        ("/mnt/copies?keep_yearly=1G", "keep_yearly must be from"),
        ("/mnt/copies?rate_limit=0", "rate_limit must be from 1000"),
        ("/mnt/copies?attempts=0", "attempts must be from 1 to 100"),
        ("/mnt/copies?timeout=0", "timeout must be from 1 to 3600"),
        (f"/mnt/copies?attempts={'1' * 5000}", "attempts must be a number"),
    ],
)
def test_a_url_that_is_wrong_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        open_store(url, KEY)


@pytest.mark.parametrize(
    "url",
    ["s3://key:hidden@bucket/p", "https://key:hidden@host/p", "s3://b/p?endpoint=https://k:hidden@host"],
)
def test_a_password_in_a_url_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_store(url, KEY)
    assert "hidden" not in f"{refused.value} {refused.value.hint}"


def test_a_store_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="file:///mnt/copies twice"):
        open_stores(("/mnt/copies", "file:///mnt/copies/"), NOTHING)


def test_a_url_without_options_is_that_of_the_configured_store() -> None:
    stores = open_stores(("s3://b/p?region=eu-central-1",), KEY)
    assert stores.at("s3://b/p").options.region == "eu-central-1"
    assert stores.at("s3://b/p?region=other").options.region == "other"
    assert stores.at("s3://b/q").options.region is None


def test_credentials_are_in_no_representation() -> None:
    stores = open_stores(("s3://b/p",), KEY)
    assert "the-secret" not in repr(stores)
    assert "the-key" not in repr(stores)


@pytest.mark.parametrize("store", ["s3://b/p", "s3://b/p?region=x&timeout=3", "file:///mnt/copies"])
def test_a_backup_in_a_store_is_named_by_one_url(store: str) -> None:
    url = join_name(store, "latest")
    assert url.partition("?")[0] == f"{store.partition('?')[0]}/latest"
    assert split_name(url) == (store, "latest")
    assert join_name("/mnt/copies", "latest") == "file:///mnt/copies/latest"
