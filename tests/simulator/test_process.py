"""The simulator as a process: how it starts, and every way in which it ends."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trustme

from llmbench.simulator import SimulatorError, SpawnedSimulator, spawn_simulator
from llmbench.simulator.main import serve
from tests.simulator.support import ask_chat

COMMAND = [sys.executable, "-m", "llmbench.simulator"]


def _start(*options: str) -> tuple[subprocess.Popen[bytes], dict[str, object]]:
    process = subprocess.Popen([*COMMAND, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    announced: dict[str, object] = json.loads(process.stdout.readline())
    return process, announced


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].strip().startswith("Z")


def test_it_says_where_it_is_and_who() -> None:
    """One JSON line with port, process and URL; the process is a child that stops with the block."""
    with spawn_simulator() as simulator:
        assert simulator.url == f"http://127.0.0.1:{simulator.port}"
        assert simulator.pid != os.getpid()
        assert ask_chat(simulator, "sim-tok1-ttft1-gap1").status == 200
        assert simulator.counts().complete == 1
        simulator.reset()
        assert simulator.counts().requests == 0
        assert _alive(simulator.pid)
    assert not _alive(simulator.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    """With streams running or not, it ends at once with exit code 0 and nothing on standard error."""
    process, announced = _start()
    with process:
        assert announced["pid"] == process.pid
        process.send_signal(number)
        assert process.wait(5) == 0


def test_it_ends_with_the_process_that_started_it() -> None:
    """Its parent is killed, so that nothing can be tidied up; the simulator goes all the same."""
    program = (
        "import sys, time; from llmbench.simulator import spawn_simulator\n"
        "with spawn_simulator() as simulator:\n"
        "    print(simulator.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert _alive(pid)
        parent.kill()
    deadline = time.monotonic() + 5
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _alive(pid)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host=0.0.0.0"], "the host '0.0.0.0' is not a loopback address"),
        (["--tls-cert=cert.pem"], "TLS needs a certificate and its key"),
        (["--tls-cert=no.pem", "--tls-key=no.pem"], "the certificate 'no.pem' with the key 'no.pem' can't be used"),
        (["--until-stdin-closes"], "standard input is no pipe"),
        (["--record=/nowhere/at/all"], "the record file '/nowhere/at/all' can't be opened"),
    ],
)
def test_what_can_not_be_is_refused_in_a_sentence(options: list[str], message: str) -> None:
    """Exit code 2, one line on standard error, no traceback."""
    done = subprocess.run(
        [*COMMAND, *options], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_refused_in_a_sentence() -> None:
    """The second one ends with exit code 2; through spawn_simulator that is an exception with the same words."""
    with (
        spawn_simulator() as first,
        pytest.raises(SimulatorError, match=f"port {first.port} on 127.0.0.1 is taken"),
        spawn_simulator(port=first.port),
    ):
        raise AssertionError("it must not start")


def test_the_record_file_has_a_line_for_each_request(tmp_path: Path) -> None:
    """Complete when the process has ended, secrets left out."""
    path = tmp_path / "requests.jsonl"
    with spawn_simulator(record=str(path)) as simulator:
        for model in ("sim-tok2-ttft1-gap1", "sim-429"):
            ask_chat(simulator, model)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["model"], line["ended"], len(line["writes_ns"])) for line in lines] == [
        ("sim-tok2-ttft1-gap1", "complete", 2),
        ("sim-429", "fault", 0),
    ]
    assert "sk-test" not in path.read_text()


def test_help_prints_the_menu() -> None:
    """Every word with its meaning."""
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=10, check=True)
    assert "  reset<N>        RST after N tokens\n" in done.stdout
    assert "  529  " in done.stdout


def test_it_can_be_kept_on_one_cpu() -> None:
    """The process runs where it is told to."""
    cpu = min(os.sched_getaffinity(0))
    with spawn_simulator(cpu=cpu) as simulator:
        assert os.sched_getaffinity(simulator.pid) == {cpu}


def test_it_allows_many_connections() -> None:
    """The soft limit of open files is raised as far as the hard one lets it, to 65,536 at most."""
    with spawn_simulator() as simulator:
        limits = Path(f"/proc/{simulator.pid}/limits").read_text()
    (line,) = (line for line in limits.splitlines() if line.startswith("Max open files"))
    soft, hard = line.split()[3:5]
    assert int(soft) == min(int(hard), 65_536)


def test_no_sdk_is_imported() -> None:
    """Starting up is quick because only what it needs is loaded."""
    program = "import sys, llmbench.simulator.main; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=10, check=True)
    assert not {"openai", "anthropic", "httpx", "httpx2", "pydantic", "aiohttp"} & set(done.stdout.split())


def test_tls_from_files(tmp_path: Path) -> None:
    """The process serves https, and our own calls to it verify."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    cert, key, ca = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    server.private_key_pem.write_to_path(key)
    cert.write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
    authority.cert_pem.write_to_path(ca)
    with spawn_simulator(tls_cert=str(cert), tls_key=str(key), ca_file=str(ca)) as simulator:
        assert simulator.url.startswith("https://")
        assert simulator.counts().requests == 0
    with spawn_simulator(tls_cert=str(cert), tls_key=str(key)) as stranger, pytest.raises(ssl.SSLCertVerificationError):
        stranger.counts()


def test_serving_needs_both_tls_files() -> None:
    """The function says so too, before anything is opened."""
    with pytest.raises(SimulatorError, match="give both or neither"):
        serve(tls_key="key.pem")


def test_a_terminals_interrupt_is_not_for_it(simulator: SpawnedSimulator) -> None:
    """Ctrl-C goes to the foreground's process group; whoever measures finishes its streams, so they must go on."""
    assert os.getpgid(simulator.pid) == simulator.pid != os.getpgid(0)
