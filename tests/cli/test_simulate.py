"""`llmbench simulate`: it says where it is, serves, and ends when it is told to."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from llmbench.simulator import MENU
from llmbench.simulator.behaviour import behaviour_of
from tests.cli.conftest import SECONDS, Program, Result
from tests.simulator.support import chat


def url_of(process: subprocess.Popen[str]) -> str:
    """Wait until it serves; return where."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"simulated providers at (https?://127\.0\.0\.1:\d+)\n", line)
    assert found, line
    return found[1]


def models_at(url: str, context: ssl.SSLContext | None = None) -> list[str]:
    """Ask the provider that needs no key for its models."""
    with urllib.request.urlopen(f"{url}/local/v1/models", timeout=SECONDS, context=context) as response:
        return [model["id"] for model in json.load(response)["data"]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_a_signal_ends_it(program: Program, number: signal.Signals) -> None:
    """One line says where it is; it ends with 0, and says nothing more."""
    with program.started("simulate", "--port", "0") as process:
        assert models_at(url_of(process))
        process.send_signal(number)
        out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, out) == (0, "")
    assert err.endswith("llmbench simulate --menu lists what a model's name can ask for; Ctrl-C ends it\n")


def test_its_credentials_are_what_the_clouds_sdks_need(program: Program, tmp_path: Path) -> None:
    """The script that it writes and the tables that it tells make a configuration that passes the check."""
    with program.started("simulate", "--port", "0", "--credentials", str(tmp_path / "clouds")) as process:
        url_of(process)
        process.terminate()
        _out, err = process.communicate(timeout=SECONDS)
    tables = re.findall(r"(?m)^\[providers\.(?:bedrock|vertex)\]\n(?:.+\n)+", err)
    program.configure("\n".join(tables))
    script = (tmp_path / "clouds" / "environment.sh").read_text()
    variables = dict(shlex.split(line)[1].split("=", 1) for line in script.splitlines())
    checked = program.run("config", "check", env=variables)

    assert checked.code == 0, checked.err
    assert "2 providers enabled (bedrock, vertex), 2 models listed" in checked.out


def test_its_hint_is_a_configuration_that_works(program: Program) -> None:
    """What it tells a person to put into config.toml passes the check, and names a model that it simulates."""
    with program.started("simulate", "--port", "0") as process:
        url = url_of(process)
        process.terminate()
        _out, err = process.communicate(timeout=SECONDS)
    _how, table, _menu = err.split("\n\n")
    program.configure(table)
    assert program.ok("config", "check").out.startswith(
        f"OK: {program.home}/config.toml: 1 provider enabled (simulated), 1 model listed, "
    )
    assert f'base_url = "{url}/local/v1"\n' in table


def test_a_port_that_is_taken_is_said_to_be(program: Program) -> None:
    """Exit code 3: the command is right, but what it needs can't be had."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert program.refused("simulate", "--port", str(port), code=3) == (
            f"port {port} on 127.0.0.1 is taken; choose another one, or 0 for any free port"
        )


def test_requests_are_recorded(program: Program) -> None:
    """A line of JSON for each, in the file that was named, without the key that came with it."""
    record = program.home / "requests.jsonl"
    with program.started("simulate", "--port", "0", "--record", record) as process:
        body = json.dumps(chat("sim-tok1-ttft1-gap1")).encode()
        request = urllib.request.Request(f"{url_of(process)}/groq/v1/chat/completions", body)
        request.add_header("authorization", "Bearer sk-0123456789abcdef")
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            assert response.status == 200
            response.read()
        process.terminate()
        process.communicate(timeout=SECONDS)
    (line,) = record.read_text().splitlines()
    assert (json.loads(line)["provider"], json.loads(line)["model"]) == ("groq", "sim-tok1-ttft1-gap1")
    assert "sk-0123456789abcdef" not in line


def test_it_speaks_tls(program: Program) -> None:
    """With a certificate and its key, the URL is https, and the hint says what a client needs to trust it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    chain, key = program.home / "chain.pem", program.home / "key.pem"
    issued.cert_chain_pems[0].write_to_path(chain)
    issued.private_key_pem.write_to_path(key)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with program.started("simulate", "--port", "0", "--tls-cert", chain, "--tls-key", key) as process:
        url = url_of(process)
        assert url.startswith("https://")
        assert models_at(url, trusting)
        process.terminate()
        _out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert "ca_file = " in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tls-cert", "a.pem"], "TLS needs a certificate and its key"),
        (["--tls-key", "a.pem"], "TLS needs a certificate and its key"),
        (["--tls-cert", "a.pem", "--tls-key", "b.pem"], "the certificate 'a.pem' with the key 'b.pem' can't be used"),
        (["--record", "nowhere/requests.jsonl"], "the record file 'nowhere/requests.jsonl' can't be opened"),
        (["--port", "70000"], "argument --port: '70000' is not a port"),
    ],
)
def test_what_can_not_be_done_is_refused(program: Program, options: list[str], sentence: str) -> None:
    """Wrong options end it with 2 before it serves anything."""
    assert program.refused("simulate", "--port", "0", *options).startswith(sentence)


def test_the_menu_has_every_word(program: Program, narrow: Callable[[Result], None]) -> None:
    """It is a table of what a model's name may hold; nothing is served."""
    result = program.ok("simulate", "--menu")
    narrow(result)
    example, _blank, header, _rule, *lines = result.lines()
    begin = header.index("meaning")
    words = [line[:begin].strip() for line in lines]
    assert [word for word in words if word] == [form for form, _meaning in MENU]
    names = re.findall(r"sim-\w\S+", example)
    assert len(names) == 2
    assert all(behaviour_of(name) for name in names)
    assert list(Path(program.home).iterdir()) == []
