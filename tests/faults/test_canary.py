"""Canaries: secrets of a whole deployment, which are looked for wherever anything is kept, told or shown."""

from __future__ import annotations

import base64
import json
import signal
import socket
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from pymongo import MongoClient

from llmbench.ingestion import batch_of, wire_form
from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.bridge.sent import body, earlier_error, earlier_run
from tests.e2e.machines import RUNNER, Base, Machine
from tests.e2e.program import Place, turns
from tests.stores.documents import envelope, failure, sample
from tests.stores.mongod import Mongod, running

CANARIES = {
    "GROQ_API_KEY": "kanarie/groq+4711 =?",
    "TOGETHER_API_KEY": "kanarie/together+0815 =?",
    "INGEST_API_KEY": "kanarie/ingest+2342 =?",
    "RUNNER_CONFIG_TOKEN": "kanarie/worklist+9876 =?",
    "the password": "kanarie/mongo+5555 =?",
}
ECHO = "Incorrect API key provided"
ALL = tuple(CANARIES.values())


def forms(secret: str) -> list[str]:
    """Return a secret as it could be told: as it is, in a URL, in base64 alone and behind a name."""
    alone, named = (base64.b64encode(text.encode()).decode().rstrip("=") for text in (secret, f"user:{secret}"))
    return [secret, quote(secret), quote(secret, safe=""), alone, named]


@contextmanager
def echoing() -> Iterator[str]:
    """A provider that refuses every key, and tells it in every form; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            key = self.headers.get("authorization", "").removeprefix("Bearer ")
            document = {"error": {"message": f"{ECHO}: {' '.join(forms(key))}", "code": f"bad-{key}", "type": key}}
            content = json.dumps(document).encode()
            self.send_response(401)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.send_header("x-request-id", key)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def mongod(tmp_path: Path) -> Iterator[Mongod]:
    """A server that asks for the canary."""
    (folder := tmp_path / "mongod").mkdir()
    password = CANARIES["the password"]
    with running(folder, "--auth") as mongod:
        with MongoClient[dict[str, Any]](mongod.uri) as first:
            first.admin.command("createUser", "engine", pwd=password, roles=["root"])
        yield mongod


class Kept(dict[str, str]):
    """Whatever was told or is kept, by where it was found."""

    def files(self, folder: Path) -> None:
        """Take every file below a folder, and what a spool has packed; it is not in use."""
        for file in (one for one in folder.rglob("*") if one.is_file()):
            self[str(file)] = file.read_bytes().decode("latin-1")
            if file.name == "spool.db":
                with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=0", uri=True)) as connection:
                    for table in ("outcomes", "attempts"):
                        rows = connection.execute(f"SELECT body FROM {table}").fetchall()
                        self[f"{file}, {table}"] = "\n".join(zlib.decompress(one).decode() for (one,) in rows)

    def found(self) -> list[tuple[str, str]]:
        return [(place, form) for place, text in self.items() for one in ALL for form in forms(one) if form in text]


def test_no_secret_is_kept_told_or_shown(simulator: SpawnedSimulator, tmp_path: Path, mongod: Mongod) -> None:
    """An engine with a bridge and MongoDB, a runner that sends to it, good runs and providers that tell the key.

    Documents with secrets in them are posted, and wrong keys presented. Then every file, document, answer, line of the
    logs and command line is looked through.
    """
    uri = mongod.uri.replace("//", f"//engine:{quote(CANARIES['the password'], safe='')}@")
    shared = {name: value for name, value in CANARIES.items() if name != "the password"}
    kept = Kept()
    with ExitStack() as programs:
        echo = programs.enter_context(echoing())
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        refusing = f'[providers.together]\nbase_url = "{echo}"\nrequests_per_minute = 900'
        base, runner = (tmp_path / name for name in ("base", "runner"))
        base.mkdir()
        runner.mkdir()
        host = Base(Place(base, simulator), shared | {"MONGODB_URI": uri, "MONGODB_DB": "canary"}, programs)
        host.port = port
        host.configure("base", simulator, "groq", more=f'[server]\nlisten = "127.0.0.1:{port}"\n\n{refusing}')
        host.add_models(groq=[unique("ttft5-gap1") for _ in range(60)], together=[unique()])
        keys = host.make_keys()
        guest = Machine(
            Place(runner, simulator),
            shared | {"INGEST_API_URL": host.url, "RUNNER_CONFIG_URL": host.url},
            programs,
        )
        guest.configure(RUNNER, simulator, "groq", more=refusing)
        host.start("--headless", "--providers", "groq,together")
        host.until_recorded(3)
        guest.start("--headless")
        guest.until_recorded(3)
        for number, machine in enumerate((host, guest)):
            kept[f"command line {number}"] = machine.command_line()
        kept |= posted(host.url) | read(host.url, keys[1])
        with MongoClient[dict[str, Any]](uri) as client:
            next(None for _ in turns(10) if len(client.canary.errors_cloud.distinct("runner_id")) >= 3)
            wrong = mongod.uri.replace("//", f"//engine:{quote(CANARIES['INGEST_API_KEY'], safe='')}@")
            told = host.place.run("doctor", env=host.variables | {"MONGODB_URI": wrong})
            kept["doctor"] = told.out + told.err
            assert (guest.end(signal.SIGTERM), host.end(signal.SIGTERM)) == (0, 0)
            for name in client.canary.list_collection_names():
                kept[f"collection {name}"] = "\n".join(str(one) for one in client.canary[name].find())
    kept["export"] = guest.ok("spool", "export", "--state", "delivered")
    kept.files(base)
    kept.files(runner)

    echoed = [place for place, text in kept.items() if f"{ECHO}: ***" in text]
    assert {"export", "collection errors_cloud"} <= set(echoed), "what was looked through is what was told"
    assert sum(place.endswith("spool.db, outcomes") for place in echoed) == 2
    assert kept.found() == []
    presented = [(place, key) for place, text in kept.items() for key in keys if key in text]
    assert presented == []


def posted(url: str) -> dict[str, str]:
    """Post documents with the secrets in them, and present keys that are wrong; return the answers."""
    said = f"{ECHO}: {' '.join(form for one in ALL for form in forms(one))}"
    documents = {
        "/ingest": [
            body(earlier_run(misc={"a": [said]}, hint=said, finish_reason=said)),
            *(wire_form(envelope(sample(misc={"a": one}))) for one in ALL),
        ],
        "/ingest/error": [
            body(earlier_error(message=said, traceback=said, novel=said, partial={"a": said})),
            *(wire_form(envelope(failure(message=one))) for one in ALL),
        ],
        "/ingest/batch": [batch_of([wire_form(envelope(failure(message=one))) for one in ALL]), body({"a": said})],
    }
    answers: dict[str, str] = {}
    with httpx.Client(base_url=url, trust_env=False, headers={"Content-Type": "application/json"}) as client:
        for path, bodies in documents.items():
            for number, document in enumerate(bodies):
                answer = client.post(path, content=document, headers={"X-API-Key": CANARIES["INGEST_API_KEY"]})
                assert answer.status_code in ((200,) if number == 0 else (400, 422)), answer.text
                answers[f"{path} {number}"] = answer.text
        for one in ALL:
            for key in (f"{one}x", CANARIES["RUNNER_CONFIG_TOKEN"]):
                answer = client.post(f"/ingest?key={quote(one)}", content=b"{}", headers={"X-API-Key": key})
                assert answer.status_code in (401, 403)
                answers[f"{key} at /ingest"] = f"{answer.text} {answer.headers}"
    return answers


def read(url: str, key: str) -> dict[str, str]:
    """Return what the engine tells whoever may read it, live events among it."""
    told: dict[str, str] = {}
    with httpx.Client(base_url=url, trust_env=False, headers={"X-API-Key": key}) as client:
        for path in ("/metrics", "/health", "/openapi.json", "/readyz"):
            told[path] = client.get(path).text
        with client.stream("GET", "/live") as live:
            lines = live.iter_lines()
            told["/live"] = "\n".join(next(lines) for _ in range(12))
    return told
