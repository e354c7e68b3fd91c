"""The server itself, in the test's own event loop: connections, limits, TLS, and that nothing is left behind."""

from __future__ import annotations

import gc
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import openai
import pytest
import trustme
from anyio.abc import SocketStream
from anyio.streams.tls import TLSStream

from llmbench.simulator import Simulator, SimulatorError
from llmbench.simulator.connection import MAX_BODY_BYTES, MAX_HEAD_BYTES
from llmbench.simulator.server import server_context
from tests.simulator.support import LIMIT, Response, chat, parse, request_bytes

QUICK = "ttft2-gap1"
CHAT = "/any-other/v1/chat/completions"
AUTH = {"authorization": "Bearer k"}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    """A simulator in this loop."""
    async with Simulator() as simulator:
        yield simulator


@asynccontextmanager
async def _connected(simulator: Simulator) -> AsyncIterator[SocketStream]:
    with anyio.fail_after(LIMIT):
        async with await anyio.connect_tcp("127.0.0.1", simulator.port) as stream:
            yield stream


async def _until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until a condition holds."""
    with anyio.fail_after(LIMIT):
        while not condition():
            await anyio.lowlevel.checkpoint()


async def _read(stream: SocketStream | TLSStream, ending: bytes = b"0\r\n\r\n") -> bytes:
    received = b""
    while not received.endswith(ending):
        received += await stream.receive()
    return received


async def _read_all(stream: SocketStream) -> bytes:
    received = b""
    try:
        while True:
            received += await stream.receive()
    except anyio.EndOfStream:
        return received


async def test_a_client_that_leaves_ends_its_stream_at_once(sim: Simulator) -> None:
    """The answer stops, the record says so, the connection is gone, and no token is written to nobody."""
    async with _connected(sim) as stream:
        await stream.send(request_bytes(CHAT, chat("sim-ttft2-gap20-tok1000", max_tokens=1000)))
        while b" river" not in await stream.receive():
            pass
    await _until(lambda: sim.open_connections == 0)
    (record,) = sim.requests
    written = len(record.writes_ns)
    assert record.ended == "client_closed"
    assert record.client_closed_ns is not None
    assert record.client_closed_ns >= record.writes_ns[-1]
    await anyio.sleep(0.06)  # three more tokens would have been due
    assert len(record.writes_ns) == written < 100
    assert (sim.counts.client_closed, sim.counts.running) == (1, 0)


async def test_a_client_that_leaves_a_stalled_stream_is_noticed(sim: Simulator) -> None:
    """The fault stays a fault, and the time at which the client gave up is kept."""
    async with _connected(sim) as stream:
        await stream.send(request_bytes(CHAT, chat(f"sim-stall0-{QUICK}")))
        await _until(lambda: sim.counts.fault == 1)
    await _until(lambda: sim.open_connections == 0)
    assert sim.requests[0].ended == "fault"
    assert sim.requests[0].client_closed_ns is not None


async def test_a_connection_serves_one_request_after_the_other(sim: Simulator) -> None:
    """Keep-alive: the second request comes in on the same connection, in any pieces."""
    async with _connected(sim) as stream:
        for model in (f"sim-tok1-{QUICK}", f"sim-tok2-{QUICK}"):
            request = request_bytes(CHAT, chat(model))
            for at in range(0, len(request), 50):
                await stream.send(request[at : at + 50])
            assert parse(await _read(stream)).complete
    assert [record.connection for record in sim.requests] == [1, 1]
    assert sim.counts.complete == 2


async def test_requests_sent_together_are_answered_in_order(sim: Simulator) -> None:
    """A second request that comes before the first is answered waits for its turn."""
    async with _connected(sim) as stream:
        first, second = (request_bytes(CHAT, chat(f"sim-tok{number}-{QUICK}")) for number in (3, 1))
        await stream.send(first + second)
        received = b""
        while received.count(b"[DONE]") < 2:
            received += await stream.receive()
    assert received.count(b"HTTP/1.1 200") == 2
    assert [record.model for record in sim.requests] == [f"sim-tok3-{QUICK}", f"sim-tok1-{QUICK}"]


async def test_httpx_keeps_its_connection(sim: Simulator) -> None:
    """A plain client with a pool makes several requests over one connection."""
    async with httpx.AsyncClient(base_url=sim.url, headers=AUTH, timeout=LIMIT) as client:
        for _ in range(3):
            response = await client.post(CHAT, json=chat(f"sim-tok1-{QUICK}"))
            assert response.text.endswith("data: [DONE]\n\n")
            assert (await client.get("/groq/v1/models")).status_code == 200
    assert {record.connection for record in sim.requests} == {1}


async def test_connection_close_is_honoured(sim: Simulator) -> None:
    """Who asks for the end of the connection gets it behind the answer."""
    async with _connected(sim) as stream:
        await stream.send(request_bytes(CHAT, chat(f"sim-tok1-{QUICK}"), {"connection": "close"}))
        response = parse(await _read_all(stream))
    assert response.complete
    assert response.headers["connection"] == "close"


async def test_expect_continue_is_answered(sim: Simulator) -> None:
    """A client that asks before it sends its body is told to go on."""
    head, _, body = request_bytes(CHAT, chat(f"sim-tok1-{QUICK}"), {"expect": "100-continue"}).partition(b"\r\n\r\n")
    async with _connected(sim) as stream:
        await stream.send(head + b"\r\n\r\n")
        assert await stream.receive() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await stream.send(body)
        assert parse(await _read(stream)).status == 200


@pytest.mark.parametrize(
    ("request_start", "rest", "status"),
    [
        (b"NONSENSE\r\n\r\n", b"", 400),
        (b"GET / HTTP/1.0\r\n\r\n", b"", 505),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * (MAX_HEAD_BYTES + 1000), b"", 431),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * MAX_HEAD_BYTES, b"", 431),
        (b"POST / HTTP/1.1\r\ncontent-length: 9000000\r\n\r\n", b"b" * (MAX_BODY_BYTES + 10), 413),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"100000\r\n" + b"b" * (1 << 20) + b"\r\n", 413),
    ],
    ids=["not HTTP", "HTTP/1.0", "endless header", "many headers", "large body", "large chunked body"],
)
async def test_what_is_no_proper_request_is_refused(
    sim: Simulator, request_start: bytes, rest: bytes, status: int
) -> None:
    """Limits hold while reading, the answer arrives even while the client still sends, and then it is over."""
    async with _connected(sim) as stream, anyio.create_task_group() as group:

        async def send() -> None:
            try:
                await stream.send(request_start)
                for _ in range(8):
                    await stream.send(rest)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # the server need not read it all

        group.start_soon(send)
        answer = b""
        while b"refuses this request" not in answer:
            answer += await stream.receive()
        group.cancel_scope.cancel()
    response: Response = parse(answer)
    assert response.status == status
    assert response.headers["connection"] == "close"
    await _until(lambda: sim.open_connections == 0)


async def test_hundreds_of_connections_at_once(sim: Simulator) -> None:
    """Streams side by side all get all of their tokens."""
    done = 0

    async def ask() -> None:
        nonlocal done
        async with _connected(sim) as stream:
            await stream.send(request_bytes(CHAT, chat("sim-ttft100-gap5-tok10")))
            assert len(parse(await _read(stream)).texts()) == 10
            done += 1

    async with anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(ask)
    assert done == sim.counts.complete == 200
    await _until(lambda: sim.open_connections == 0)


async def test_connections_leave_nothing_for_the_garbage_collector(sim: Simulator) -> None:
    """A closed connection is freed by counting references alone, for the collector is off while serving."""
    gc.collect()
    gc.disable()
    try:
        for word in ("tok2", "429", "stall0", "truncate1", "reset1", "noanswer", "hangup"):
            async with _connected(sim) as stream:
                await stream.send(request_bytes(CHAT, chat(f"sim-{word}-{QUICK}")))
                await _until(lambda: sim.counts.running == 0)
                references = [weakref.ref(connection) for connection in sim._connections]
            await _until(lambda: sim.open_connections == 0)
            await anyio.lowlevel.checkpoint()
            assert [reference() for reference in references] == [None] * len(references), word
    finally:
        gc.enable()


async def test_leaving_the_simulator_closes_everything() -> None:
    """Connections end, the port is free again."""
    async with AsyncExitStack() as stack:
        async with Simulator() as simulator:
            stream = await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", simulator.port))
            await stream.send(request_bytes(CHAT, chat("sim-noanswer")))
            await _until(lambda: simulator.counts.fault == 1)
            port = simulator.port
        with anyio.fail_after(LIMIT), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
    async with Simulator(port=port) as again:
        assert again.port == port


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.org", "::", ""])
async def test_it_listens_on_loopback_only(host: str) -> None:
    """Any other address is refused before a socket is opened."""
    with pytest.raises(SimulatorError, match="is not a loopback address"):
        async with Simulator(host=host):
            raise AssertionError("it must not start")


@pytest.mark.parametrize(("host", "url"), [("localhost", "http://127.0.0.1:"), ("127.0.0.2", "http://127.0.0.2:")])
async def test_any_loopback_address_will_do(host: str, url: str) -> None:
    """Its URL says where it really is."""
    async with Simulator(host=host) as simulator, httpx.AsyncClient(base_url=simulator.url) as client:
        assert simulator.url.startswith(url)
        assert (await client.get("/_sim/count")).status_code == 200


async def test_a_taken_port_is_named(sim: Simulator) -> None:
    """The message says which port, and what to do."""
    with pytest.raises(SimulatorError, match=f"port {sim.port} on 127.0.0.1 is taken; choose another one"):
        async with Simulator(port=sim.port):
            raise AssertionError("it must not start")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority made for this run."""
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """The paths of a server's certificate and key, and of the authority's certificate."""
    folder: Path = tmp_path_factory.mktemp("tls")
    server = authority.issue_cert("127.0.0.1", "localhost")
    chain, key, ca = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
    server.private_key_pem.write_to_path(key)
    chain.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    authority.cert_pem.write_to_path(ca)
    return str(chain), str(key), str(ca)


async def test_tls_with_a_real_sdk(certificate: tuple[str, str, str]) -> None:
    """The stream comes through TLS, one write a token, to a client that verifies."""
    chain, key, ca = certificate
    async with Simulator(tls=server_context(chain, key)) as simulator:
        trusting = ssl.create_default_context(cafile=ca)
        async with openai.AsyncOpenAI(
            base_url=f"{simulator.url}/openai/v1",
            api_key="k",
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(verify=trusting),
        ) as client:
            stream = await client.chat.completions.create(
                model=f"sim-tok3-{QUICK}", messages=[{"role": "user", "content": "x"}], stream=True
            )
            texts = [chunk.choices[0].delta.content async for chunk in stream]
        assert simulator.url.startswith("https://")
        assert texts[1:4] == [" the", " river", " turns"]
        assert len(simulator.requests[0].writes_ns) == 3
        await _until(lambda: simulator.open_connections == 0)


async def test_failed_handshakes_leave_nothing(certificate: tuple[str, str, str]) -> None:
    """A client that does not trust us, one that talks plain text, and one that goes away: all are forgotten."""
    chain, key, _ca = certificate
    async with Simulator(tls=server_context(chain, key)) as simulator:
        with pytest.raises(ssl.SSLCertVerificationError):
            await anyio.connect_tcp("127.0.0.1", simulator.port, tls=True, tls_hostname="127.0.0.1")
        async with _connected(simulator) as stream:
            await stream.send(b"GET / HTTP/1.1\r\n\r\n")
            await _read_all(stream)
        async with _connected(simulator):
            await _until(lambda: simulator.open_connections > 0)
        await _until(lambda: simulator.open_connections == 0)
        assert simulator.counts.requests == 0


def test_unusable_certificates_are_named(certificate: tuple[str, str, str], tmp_path: Path) -> None:
    """The message has the file's name."""
    chain, _key, _ca = certificate
    with pytest.raises(SimulatorError, match=r"missing\.pem.* can't be used"):
        server_context(chain, str(tmp_path / "missing.pem"))
