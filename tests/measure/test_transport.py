"""The transport under an httpx2 client, and the gate before it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter_ns

import anyio
import anyio.lowlevel
import httpx2
import pytest
import trustme
from anyio.abc import ByteStream

from llmbench.measure.exchange import Exchange, Limits
from llmbench.measure.transport import StampedTransport, StartGate, verifying_context
from tests.measure.support import Script, answering, open_sockets, read_request, serving, until

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-test: yes\r\n\r\nhello"


@asynccontextmanager
async def client(patience: float = 5.0) -> AsyncIterator[httpx2.AsyncClient]:
    """Return a client on the transport; no socket may stay open behind it."""
    async with httpx2.AsyncClient(transport=StampedTransport(), timeout=patience) as http:
        yield http


def listening(heard: list[bytes], *answers: bytes) -> Script:
    """Return a script that keeps what it was asked, and answers."""

    async def script(stream: ByteStream) -> None:
        heard.append(await read_request(stream))
        for answer in answers:
            await stream.send(answer)

    return script


# plain calls, without an exchange of the caller's


async def test_a_plain_call_works() -> None:
    """Status, headers, body and version come as from any transport."""
    async with serving(answering(HELLO)) as url, client() as http:
        response = await http.get(f"{url}/models")
    assert (response.status_code, response.text, response.headers["x-test"]) == (200, "hello", "yes")
    assert response.http_version == "HTTP/1.1"


async def test_the_request_goes_out_as_it_was_built() -> None:
    """Path with query, headers, body; but `identity` is asked for, whatever the client would like."""
    heard: list[bytes] = []
    async with serving(listening(heard, HELLO)) as url, client() as http:
        await http.post(f"{url}/v1/x?a=%20b", json={"k": "v"}, headers={"x-own": "1", "accept-encoding": "gzip"})
    (request,) = heard
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"post /v1/x?a=%20b http/1.1"
    assert {b"x-own: 1", b"host: " + url[7:].encode(), b"content-length: 9"} <= set(lines)
    assert [line for line in lines if line.startswith(b"accept-encoding")] == [b"accept-encoding: identity"]
    assert body == b'{"k":"v"}'


async def test_each_call_has_a_connection_of_its_own() -> None:
    """Nothing is reused, and nothing stays open."""
    connections = 0

    async def count(stream: ByteStream) -> None:
        nonlocal connections
        connections += 1
        await answering(HELLO)(stream)
        with pytest.raises(anyio.EndOfStream):  # the client closes, though the server would keep it
            await stream.receive()

    before = open_sockets()
    async with serving(count) as url, client() as http:
        for _ in range(3):
            await http.get(url)
    assert connections == 3
    assert open_sockets() <= before


async def test_a_redirect_is_not_followed() -> None:
    """Nor is the other host ever asked."""
    elsewhere: list[bytes] = []
    async with serving(listening(elsewhere, HELLO)) as other:
        moved = f"HTTP/1.1 302 Found\r\nlocation: {other}/\r\ncontent-length: 0\r\n\r\n".encode()
        async with serving(answering(moved)) as url, client() as http:
            response = await http.get(url, headers={"authorization": "Bearer secret"})
    assert (response.status_code, elsewhere) == (302, [])


async def test_the_proxy_variables_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport of one's own is mounted for every address."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    async with (
        serving(answering(HELLO)) as url,
        httpx2.AsyncClient(transport=StampedTransport(), trust_env=False) as http,
    ):
        assert (await http.get(url)).status_code == 200


async def test_a_plain_calls_failures_are_httpx2s_and_leave_nothing_open() -> None:
    """Silence, a reset of the connection, a server that is gone."""
    before = open_sockets()
    async with client(patience=0.15) as http:
        async with serving(mute) as url:
            with pytest.raises(httpx2.ReadTimeout):
                await http.get(url)
        async with serving(answering()) as url:
            with pytest.raises(httpx2.RemoteProtocolError):
                await http.get(url)
        with pytest.raises(httpx2.ConnectError):
            await http.get(url)
    assert open_sockets() <= before


async def mute(stream: ByteStream) -> None:
    await anyio.sleep_forever()


async def test_a_response_that_is_abandoned_is_closed() -> None:
    """Leaving a streamed response early gives the connection up."""
    before = open_sockets()

    async def endless(stream: ByteStream) -> None:
        await answering(b"HTTP/1.1 200 OK\r\n\r\nsome")(stream)
        await stream.receive()

    async with client() as http, serving(endless) as url, http.stream("GET", url) as response:
        assert response.status_code == 200
    assert open_sockets() <= before


# calls on the caller's exchange


async def test_the_current_exchange_serves_the_call_and_stays_open() -> None:
    """The client builds and sends; the body is the exchange's, also when the client closes the response."""
    transport = StampedTransport()
    http = httpx2.AsyncClient(transport=transport)
    async with serving(answering(HELLO)) as url, transport.exchange(Limits()) as exchange:
        await transport.connect(exchange, httpx2.URL(url))
        with exchange.current():
            async with http.stream("GET", url) as response:
                assert response.status_code == 200
        assert b"".join([piece async for piece in exchange.pieces()]) == b"hello"
        assert exchange.timeline.request_written_ns is not None
    await http.aclose()


# TLS contexts


def test_certificates_are_always_verified(tmp_path: Path) -> None:
    """Names too, from TLS 1.2 on; with a ca_file by that authority alone."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    for context in (verifying_context(), verifying_context(tmp_path / "ca.pem")):
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1
    assert len(verifying_context().get_ca_certs()) > 50


# the gate


async def test_requests_are_built_and_written_one_at_a_time() -> None:
    """The next one enters once the one before has written; then the first may stream on for as long as it likes."""
    gate = StartGate()
    log: list[str] = []
    finish = anyio.Event()

    async def run(name: str) -> None:
        async with Exchange(Limits()) as exchange, gate.turn(exchange):
            log.append(f"{name} builds")
            await anyio.lowlevel.checkpoint()
            log.append(f"{name} writes")
            assert exchange.on_request_written is not None
            exchange.on_request_written()
            await finish.wait()

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(run, name)
        await until(lambda: len(log) == 6)
        finish.set()
    assert log == ["a builds", "a writes", "b builds", "b writes", "c builds", "c writes"]


async def test_a_turn_that_never_wrote_is_passed_on_with_its_end() -> None:
    """A request that could not be built keeps nobody waiting."""
    gate = StartGate()
    async with Exchange(Limits()) as exchange:
        with pytest.raises(ZeroDivisionError):
            async with gate.turn(exchange):
                raise ZeroDivisionError
        with anyio.fail_after(5):
            async with gate.turn(exchange):
                pass


async def test_whoever_stops_waiting_for_a_turn_takes_none_away() -> None:
    """A cancelled run leaves the queue, and the gate works on."""
    gate = StartGate()
    async with Exchange(Limits()) as exchange, Exchange(Limits()) as other:
        async with gate.turn(exchange):
            with anyio.move_on_after(0.02) as scope:
                async with gate.turn(other):
                    raise AssertionError("two turns at once")
            assert scope.cancelled_caught
        with anyio.fail_after(5):
            async with gate.turn(other):
                pass


async def test_the_gate_keeps_a_distance_between_requests() -> None:
    """Streams get the loop for at least as long as the request before took to build and write."""
    gate = StartGate()
    async with Exchange(Limits()) as exchange:
        async with gate.turn(exchange):
            start = perf_counter_ns()
            await anyio.sleep(0.02)
            took = perf_counter_ns() - start
        ended = perf_counter_ns()
        async with gate.turn(exchange):
            assert perf_counter_ns() - ended >= took


async def test_the_gate_waits_for_the_loop_to_catch_up() -> None:
    """While streams need all of the loop's time nothing is started, for a twentieth of a second; else at once."""
    gate, loop = StartGate(), asyncio.get_running_loop()
    busy = True

    def never_idle() -> None:
        if busy:
            loop.call_soon(never_idle)

    async def waited() -> float:
        async with Exchange(Limits()) as exchange:
            async with gate.turn(exchange):
                pass
            ended = loop.time()
            async with gate.turn(exchange):
                return loop.time() - ended

    never_idle()
    crowded = await waited()
    busy = False
    await anyio.sleep(0.06)  # the turn that is still being passed on
    assert crowded >= 0.05
    assert min([await waited() for _ in range(5)]) < 0.05


async def test_handshakes_are_made_a_few_at_a_time() -> None:
    """Many handshakes at once would keep the loop from its streams; eight may be under way."""
    gate = StartGate()
    at_once = most = 0

    async def connect() -> None:
        nonlocal at_once, most
        async with gate.handshaking():
            at_once += 1
            most = max(most, at_once)
            await anyio.sleep(0.01)
            at_once -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(connect)
    assert (most, at_once) == (8, 0)
