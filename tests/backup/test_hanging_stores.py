"""A command that waits for a store which hangs ends at once when it is told to."""

import signal
import time

import pytest

from tests.backup.test_copies import run
from tests.deployment import Deployment
from tests.proxy import Proxy
from tests.real_faults import wait_until
from tests.s3_server import S3Server

TIMEOUT = 60  # seconds that the store is waited for


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hangs_at", [b"list-type=2", b".proof.json"], ids=["the list", "small objects"])
def test_s4_a_command_that_waits_for_a_store_ends_when_it_is_told_to(
    server: Deployment, s3: S3Server, proxy: Proxy, place: str, hangs_at: bytes, told: signal.Signals
) -> None:
    assert run(server, s3.url(place)).code == 0
    proxy.stall_at = hangs_at
    url = s3.url(place, f"timeout={TIMEOUT}", endpoint=proxy.endpoint)
    process = server.start("backup", "list", "--store", url)
    wait_until(proxy.stalled.is_set, "the request that is not answered")
    began = time.monotonic()
    process.send_signal(told)
    process.communicate()
    assert process.returncode == 128 + told
    assert time.monotonic() - began < TIMEOUT / 4
