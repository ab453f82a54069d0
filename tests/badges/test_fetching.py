"""What a badge refers to is fetched from the open web only: each known trick to get elsewhere is refused."""

import socket
import time
from collections.abc import Iterator, Sequence
from threading import BoundedSemaphore

import pytest

from obms.badges.fetching import BODY_LIMIT, FETCH_LIMIT, Fetched, Fetcher, NotFetched, Visit, is_public
from tests.answering import Answer, Answering, answering


class Names:
    """A resolver of set names; numbers it leaves to the system. It knows how often it was asked."""

    def __init__(self, **names: str) -> None:
        self.names = {name.replace("_", "."): [each] for name, each in names.items()}
        self.asked = 0

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        if host in self.names:
            return [self.names[host].pop(0)] if len(self.names[host]) > 1 else self.names[host]
        flags = socket.AI_NUMERICHOST
        return [str(each[4][0]) for each in socket.getaddrinfo(host, port, proto=6, flags=flags)]


def fetch(fetcher: Fetcher, url: str, seconds: float = 5.0) -> Fetched:
    return fetcher.fetch(url, time.monotonic() + seconds)


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    with answering(
        good=Answer(body=b'{"a": 1}'),
        gone=Answer(status=410),
        broken=Answer(status=500),
        page=Answer(headers={"Content-Type": "text/html"}),
        film=Answer(headers={"Content-Type": "video/mp4"}),
        packed=Answer(headers={"Content-Encoding": "gzip"}),
        huge=Answer(body=b" " * (BODY_LIMIT + 1)),
        short=Answer(headers={"Content-Length": "100"}),
        slow=Answer(body=b" " * 1000, pause=0.1),
        loop=Answer(status=302, headers={"Location": "/loop"}),
        again=Answer(status=307, headers={"Location": "good"}),
        inside=Answer(status=302, headers={"Location": "https://169.254.169.254/latest/meta-data/"}),
        file=Answer(status=302, headers={"Location": "file:///etc/passwd"}),
        nowhere=Answer(status=302),
    ) as found:
        yield found


@pytest.fixture
def fetcher(server: Answering) -> Fetcher:
    """One to which the server is allowed; nothing else is."""
    return Fetcher(allowed=(server.address,), resolve=Names())


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://localhost/",
        "https://localhost./",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0177.0.0.1/",
        "https://0/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://[fc00::1]/",
        "https://[fe80::1%25lo]/",
        "https://[fec0::1]/",
        "https://[ff02::1]/",
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://192.168.0.1/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://inside.example/",
        "https://①②⑦.⓪.⓪.①/",
        "http://93.184.216.34/",
        "https://93.184.216.34:22/",
        "https://93.184.216.34:0/",
        "https://93.184.216.34:99999/",
        "https://user:password@93.184.216.34/",
        "https://user@93.184.216.34/",
        "https://93.184.216.34\\@127.0.0.1/",
        "https://93.184.216.34/\r\nHost: x",
        "https://93.184.216.34/" + "a" * 2000,
        "file:///etc/passwd",
        "gopher://93.184.216.34/",
        "ftp://93.184.216.34/",
        "data:,a",
        "//93.184.216.34/",
        "https://",
        "https://[/",
        "https://\ud800/",
        "",
    ],
)
def test_what_is_not_on_the_open_web_is_not_asked(url: str) -> None:
    names = Names(localhost="127.0.0.1", inside_example="10.1.2.3")
    names.names["localhost."] = ["127.0.0.1"]
    with pytest.raises(NotFetched) as refused:
        fetch(Fetcher(resolve=names), url, seconds=1.0)
    assert "does not answer" not in str(refused.value)


def test_an_address_of_the_open_web_is_taken_as_one() -> None:
    for public in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"):
        assert is_public(public)


def test_what_is_allowed_is_asked_and_its_neighbour_is_not(fetcher: Fetcher, server: Answering) -> None:
    assert fetch(fetcher, f"{server.address}/good?a=ü").content == b'{"a": 1}'
    assert fetch(fetcher, server.address.replace("http:", "https:") + "/again").content == b'{"a": 1}'
    assert fetch(fetcher, f"{server.address}/gone").status == 410
    before = len(server.asked)
    for url in ("http://127.0.0.1:1/", server.address.replace("127.0.0.1", "127.0.0.2") + "/good"):
        with pytest.raises(NotFetched):
            fetch(fetcher, url)
    assert len(server.asked) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "answers 500"),
        ("absent", "answers 404"),
        ("page", "text/html"),
        ("film", "video/mp4"),
        ("packed", "compressed"),
        ("huge", "larger"),
        ("short", "does not answer"),
        ("loop", "redirects"),
        ("nowhere", "redirects"),
        ("inside", "not on the open web"),
        ("file", "no web address"),
    ],
)
def test_an_answer_that_is_not_usable_is_refused(
    fetcher: Fetcher, server: Answering, name: str, reason: str
) -> None:
    with pytest.raises(NotFetched, match=reason):
        fetch(fetcher, f"{server.address}/{name}")


def test_a_server_that_drips_is_left_in_time(fetcher: Fetcher, server: Answering) -> None:
    started = time.monotonic()
    with pytest.raises(NotFetched, match="does not answer"):
        fetch(fetcher, f"{server.address}/slow", seconds=0.5)
    assert time.monotonic() - started < 3


def test_a_name_is_resolved_once_and_connected_to_as_it_was_looked_at(server: Answering) -> None:
    """DNS rebinding: what the name is by the second time is never asked for, by whomever."""
    names, port = Names(), server.address.rpartition(":")[2]
    names.names["rebinding.example"] = ["127.0.0.1", "127.0.0.2"]
    origin = f"http://rebinding.example:{port}"
    assert fetch(Fetcher(allowed=(origin,), resolve=names), f"{origin}/good").content == b'{"a": 1}'
    assert names.asked == 1


def test_a_name_of_which_one_address_is_private_is_refused() -> None:
    fetcher = Fetcher(resolve=lambda _host, _port: ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(NotFetched, match="not on the open web"):
        fetch(fetcher, "https://both.example/")


def test_a_visit_asks_each_address_once_and_only_so_many(fetcher: Fetcher, server: Answering) -> None:
    visit = Visit(fetcher, lambda _url: None)
    before = len(server.asked)
    for _ in range(3):
        assert visit(f"{server.address}/good") == b'{"a": 1}'
    assert len(server.asked) == before + 1
    for number in range(FETCH_LIMIT - 1):
        visit.fetch(f"{server.address}/good?{number}")
    with pytest.raises(NotFetched, match="more than"):
        visit.fetch(f"{server.address}/good?last")
    with pytest.raises(NotFetched, match="410"):
        Visit(fetcher, lambda _url: None)(f"{server.address}/gone")


def test_while_too_much_is_fetched_a_visit_says_so(server: Answering) -> None:
    slots = BoundedSemaphore(1)
    fetcher = Fetcher(allowed=(server.address,), resolve=Names(), slots=slots)
    visit = Visit(fetcher, lambda _url: None)
    with slots, pytest.raises(NotFetched):
        visit(f"{server.address}/good")
    assert visit.is_refused
    assert Visit(fetcher, lambda _url: None)(f"{server.address}/good") == b'{"a": 1}'


def test_what_this_server_answers_itself_is_not_asked_for() -> None:
    own = Fetched(status=200, content=b"own")
    visit = Visit(Fetcher(resolve=Names()), lambda url: own if url == "https://own.example/a" else None)
    assert visit("https://own.example/a") == b"own"
