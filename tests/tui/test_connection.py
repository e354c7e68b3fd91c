"""The ways to an engine: its socket, wherever it is, and its HTTP side, whatever that answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketStream

from llmbench.actors.engine_requests import ENGINE_SOCKET, Resume
from llmbench.secrets import Secret
from llmbench.tui.connection import HttpWay, SocketWay, url_problem
from llmbench.tui.feed import FeedError, LiveFeed
from tests.bridge.serving import GatedStore, Running, running
from tests.stores.documents import moment
from tests.tui.engines import following, listening, saying, started

VARIABLE = "LLMBENCH_ATTACH_KEY"
KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[GatedStore]:
    store = GatedStore(tmp_path / "llmbench.db")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def bridge(store: GatedStore, tmp_path: Path) -> AsyncIterator[Running]:
    async with running(store, tmp_path) as bridge:
        yield bridge


def over_http(bridge: Running, key: str = "read") -> LiveFeed:
    return LiveFeed(HttpWay(address(bridge), Secret(bridge.keys.get(key, key)), VARIABLE), now=moment)


def address(bridge: Running) -> str:
    return f"http://{bridge.host}:{bridge.port}"


class TestSocket:
    """An engine of this machine."""

    async def test_a_long_path(self, tmp_path: Path) -> None:
        """A socket whose path is longer than an address may be is reached, too."""
        folder = tmp_path / ("x" * 120)
        folder.mkdir()
        short = tmp_path / "short"
        short.symlink_to(folder)
        async with (
            listening(short, saying(started(1))),
            following(LiveFeed(SocketWay(folder / ENGINE_SOCKET), now=moment)) as it,
        ):
            await it.until_there(started(1))

    async def test_whether_an_engine_answers(self, tmp_path: Path) -> None:
        way = SocketWay(tmp_path / ENGINE_SOCKET)
        assert not await way.answers()
        async with listening(tmp_path, saying()):
            assert await way.answers()

    async def test_no_folder(self, tmp_path: Path) -> None:
        assert not await SocketWay(tmp_path / "nowhere" / ENGINE_SOCKET).answers()


class TestHttp:
    """The HTTP side of an engine, which is the real one."""

    async def test_events(self, bridge: Running) -> None:
        """They come as over the socket; commands can't be given."""
        async with following(over_http(bridge)) as it:
            await it.until_live()
            bridge.bus.publish(started(1))
            await it.until_there(started(1))
        assert not it.changes[-1].commands

    async def test_the_address_with_its_route(self, bridge: Running) -> None:
        assert (
            HttpWay("https://bench.example/llm/live", Secret(KEY), VARIABLE).address == "https://bench.example/llm/live"
        )
        assert HttpWay("https://bench.example/llm/", Secret(KEY), VARIABLE).address == "https://bench.example/llm/live"

    async def test_commands_are_for_the_engines_own_machine(self, bridge: Running) -> None:
        with pytest.raises(FeedError, match="over HTTP an engine can only be watched"):
            await over_http(bridge).command(Resume())

    async def test_a_key_that_is_not_known(self, bridge: Running) -> None:
        async with following(over_http(bridge, KEY)) as it:
            reason = await it.until_lost()
        assert reason.startswith(f"{address(bridge)}/live does not know the key in {VARIABLE}: set it to one that it")
        assert KEY not in reason

    async def test_a_key_that_may_not_read(self, bridge: Running) -> None:
        async with following(over_http(bridge, "ingest")) as it:
            reason = await it.until_lost()
        assert reason.startswith(f"the key in {VARIABLE} may not read: make one with llmbench keys new")
        assert "lacks the scope 'read'" in reason

    async def test_a_bridge_that_measures_nothing(self, store: GatedStore, tmp_path: Path) -> None:
        async with running(store, tmp_path, own_live=False) as bridge, following(over_http(bridge)) as it:
            assert "/live has no live events: give the address of an engine" in await it.until_lost()

    async def test_too_many_viewers_and_then_not(self, bridge: Running) -> None:
        """Who comes too late is told so, and comes in once there is room."""
        feed = over_http(bridge)
        async with AsyncExitStack() as others:
            for _ in range(16):
                other = await others.enter_async_context(following(over_http(bridge)))
                await other.until_live()
            it = await others.enter_async_context(following(feed))
            assert "can't be read now" in await it.until_lost()
        async with following(feed) as it:
            await it.until_live()

    async def test_an_engine_that_ends_in_good_order(self, bridge: Running) -> None:
        async with following(over_http(bridge)) as it:
            await it.until_live()
            bridge.bus.close()
            assert await it.until_lost() == "the engine ended the connection"

    async def test_nobody_listens(self) -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
        feed = LiveFeed(HttpWay(f"http://127.0.0.1:{port}", Secret(KEY), VARIABLE), now=moment)
        async with following(feed) as it:
            assert (await it.until_lost()).startswith(f"http://127.0.0.1:{port}/live can't be reached (ConnectError")

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (
                f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi{KEY}",
                "{} has no live events but text/html",
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
                "{} answers with status 302: is it the HTTP side of an engine?",
            ),
            (
                f'HTTP/1.1 500 No\r\nConnection: close\r\n\r\n{{"reason":"no \\u001b[2J {KEY} is known"}}',
                r"{} answers with status 500: is it the HTTP side of an engine? (no \x1b[2J *** is known)",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 99\r\n\r\n:",
                "{} broke the connection",
            ),
            ("SSH-2.0-OpenSSH_9.6\r\n", "{} broke the connection"),
        ],
    )
    async def test_what_is_no_engine(self, answer: str, reason: str) -> None:
        """A web server, a proxy's redirection, a server in trouble, one that breaks off, something else altogether."""

        async def serve(stream: SocketStream) -> None:
            async with stream:
                await stream.receive()
                await stream.send(answer.encode())

        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, serve)
            url = f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
            async with following(LiveFeed(HttpWay(url, Secret(KEY), VARIABLE), now=moment)) as it:
                said = await it.until_lost()
            group.cancel_scope.cancel()
        assert said.startswith(reason.format(f"{url}/live"))
        assert KEY not in said
        assert "\x1b" not in said


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://bench.example", None),
        ("http://127.0.0.1:8787/live", None),
        ("http://[::1]:8787", None),
        ("http://bench.example", "would be sent the key in the clear: use https://"),
        ("https://u:p@bench.example", "holds more than an address: a key belongs into an environment variable"),
        ("https://bench.example/?key=1", "holds more than an address: a key belongs into an environment variable"),
        ("https://", "is no URL: write it as https://bench.example"),
        ("ftp://bench.example", "is no URL: write it as https://bench.example"),
        ("http://127.0.0.1:99999", "is no URL: write it as https://bench.example"),
        ("http://[::1", "is no URL: write it as https://bench.example"),
    ],
)
def test_which_addresses_can_be_used(url: str, problem: str | None) -> None:
    assert url_problem(url) == problem
