"""`llmbench tui` on a real terminal, start to quit: what it shows, every way out, and what becomes of the engine."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmbench.simulator import SpawnedSimulator
from tests.actors.engine import unique
from tests.e2e.program import COMMAND, KEYS, Place, ended, output, turns
from tests.e2e.tmux import Pane, needs_tmux, pane

pytestmark = [needs_tmux, pytest.mark.timeout(120)]

SPOOL = Path(".local/share/llmbench/spool")
QUESTION = "stop the engine that this window started?"

BROKEN = """
import sys
from llmbench.tui import app
from llmbench.cli.main import main

def reduce(state, items, now):
    if any(type(item).__name__ == "EngineFigures" for item in items):
        raise RuntimeError("the dashboard is broken on purpose")
    return state

app.reduce = reduce
sys.exit(main(sys.argv[1:]))
"""
"""The program, with a dashboard that breaks once it hears of the engine."""


@contextmanager
def watching(place: Place, *arguments: str, command: tuple[str, ...] = COMMAND, **variables: str) -> Iterator[Pane]:
    """Run a command of the program on a terminal; an engine that it leaves behind is killed."""
    env = place.environment(KEYS) | variables
    with pane([*command, *arguments], place.folder, env) as shown:
        try:
            yield shown
        finally:
            for number in engines(place):
                os.kill(number, signal.SIGKILL)


def engines(place: Place) -> list[int]:
    """Return the ids of the engines that run in this place."""
    return [number for number, command in processes(place).items() if b"--headless" in command]


def processes(place: Place) -> dict[int, list[bytes]]:
    """Return the ids of the program's processes that run in this place, with their commands, as the system has them."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
                here = (folder / "cwd").readlink() == place.folder and command[0] == sys.executable.encode()
                alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if here and alive:
                found[int(folder.name)] = command
    return found


def until_no_engine(place: Place) -> None:
    for _ in turns(20):
        if not engines(place):
            return


def until_gone(number: int) -> None:
    next(None for _ in turns(20) if not Path(f"/proc/{number}").exists())


def leave_and_stop(shown: Pane) -> None:
    """Leave a window, and have the engine stopped that it started."""
    shown.press("q")
    shown.until(QUESTION)
    shown.press("y")


def engine_log(place: Place) -> str:
    return (place.folder / SPOOL / "engine.log").read_text()


class TestAttached:
    """An engine that was there before: it goes on, whatever becomes of the window."""

    @pytest.mark.parametrize("way_out", ["q", "C-c", "mistake"])
    def test_the_engine_goes_on(self, place: Place, way_out: str) -> None:
        """Its lane is on the screen; leaving it asks nothing, gives the terminal back, and says what was seen."""
        place.configure(groq=[unique()])
        with place.started("--headless") as process:
            until_listening(place)
            with watching(place, "tui") as shown:
                shown.until("groq", "Quit")
                assert shown.alternate
                if way_out == "mistake":
                    shown.signal(signal.SIGTERM)
                else:
                    shown.press(way_out)
                assert shown.exit_code() == (143 if way_out == "mistake" else 0)
                shown.assert_restored()
                assert re.search(r"watched for [\d.]+ min; runs seen: \d+ ok, \d+ failed", shown.text())
                assert process.poll() is None
                done = ended(process, signal.SIGTERM)
        assert (done.code, done.err) == (0, "")

    def test_an_engine_that_goes_away(self, place: Place) -> None:
        """The window stays, and says so; when an engine is there again, it is shown again."""
        place.configure(groq=[unique()])
        with watching(place, "tui", "--attach", str(SPOOL)) as shown:
            shown.until("no engine runs")
            for _ in range(2):
                with place.started("--headless") as process:
                    shown.until("groq", "live")
                    process.kill()
                    output(process).read()
                shown.until("groq", "not reachable")
            shown.press("q")
            assert shown.exit_code() == 0
            shown.assert_restored()

    def test_over_http(self, place: Place) -> None:
        """With a key that may read it is shown; what needs the engine's machine is not to be had."""
        place.configure(groq=[unique()])
        config = place.folder / "config.toml"
        config.write_text(config.read_text() + '\n[server]\nlisten = "127.0.0.1:0"\n')
        key = place.run("keys", "new", "viewer", "--scope", "read").out.split()[-1]
        with place.started("--headless") as process:
            found = next(found for line in output(process) if (found := re.search(r"127\.0\.0\.1:\d+", line)))
            url = f"http://{found[0]}"
            with watching(place, "tui", "--attach", url, LLMBENCH_ATTACH_KEY=key) as shown:
                shown.until("groq", "live")
                shown.press("q")
                assert shown.exit_code() == 0
                shown.assert_restored()
                assert key not in shown.text()
            process.kill()


class TestStarted:
    """An engine that the window started."""

    def test_left_and_found_again_and_stopped(self, place: Place) -> None:
        """``q`` asks. ``esc`` stays, ``n`` leaves the engine running and says how to find it; the next window finds it.

        A third window is asked nothing, as it started nothing, and the engine ends well when it is told to.
        """
        place.configure(groq=[unique()])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            shown.press("q")
            shown.until(QUESTION)
            shown.press("Escape")
            for _ in turns(10):
                if QUESTION not in shown.text():
                    break
            shown.press("q")
            shown.until(QUESTION)
            shown.press("n")
            assert shown.exit_code() == 0
            shown.assert_restored()
            (number,) = engines(place)
            shown.until(f"the engine goes on as process {number}", f"kill {number}")
            with pane([*COMMAND, "tui"], place.folder, place.environment(KEYS)) as again:
                again.until("groq", "live")
                again.press("q")
                assert again.exit_code() == 0
                again.assert_restored()
            os.kill(number, signal.SIGTERM)
            until_no_engine(place)
        assert '"message":"ended: 1 outcomes recorded, 1 stored, 0 wait in the spool, 0 lost"' in engine_log(place)

    def test_stopped_while_something_streams(self, place: Place, simulator: SpawnedSimulator) -> None:
        """``y`` lets the stream finish, says that it does, and what is measured is stored."""
        model = unique("ttft100-gap200")
        place.configure(groq=[model])
        with watching(place, "tui") as shown:
            for _ in turns(30):
                if simulator.requests(model=model):
                    break
            shown.until("groq", "live")
            leave_and_stop(shown)
            assert shown.exit_code() == 0
            shown.assert_restored()
            assert "the engine ended with exit code 0" in shown.text()
            assert engines(place) == []
        (sample,) = place.samples()
        assert (sample.outcome, sample.output_tokens) == ("ok", 16)

    @pytest.mark.parametrize("way", ["closed", "continued"])
    def test_the_terminal_while_the_engine_ends(self, place: Place, way: str) -> None:
        """A window that was left draws nothing any more, whatever becomes of its terminal, and ends with its engine."""
        place.configure(groq=[unique("ttft100-gap200")])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            leave_and_stop(shown)
            shown.until("finishing what streams now, 1 left")
            number = shown.pid
            if way == "closed":
                shown.close()
            else:
                shown.signal(signal.SIGCONT)
                assert shown.exit_code() == 0
                shown.assert_restored()
            until_gone(number)
            until_no_engine(place)
        assert '"message":"ended: ' in engine_log(place)

    def test_stopped_at_once(self, place: Place, simulator: SpawnedSimulator) -> None:
        """While the window waits for what streams, Ctrl-C cuts it off; that is recorded, and the exit code tells it."""
        model = unique("ttft100-gap3000")
        place.configure(groq=[model])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            leave_and_stop(shown)
            shown.until("finishing what streams now, 1 left")
            shown.press("C-c")
            assert shown.exit_code() == 130
            shown.assert_restored()
            assert engines(place) == []
        (failure,) = place.failures()
        assert (failure.model_name, failure.error_kind) == (model, "local")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_signals(self, place: Place, number: signal.Signals) -> None:
        """The terminal is given back, the engine ends in good order with the window, and the exit code tells why."""
        place.configure(groq=[unique()])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            shown.signal(number)
            assert shown.exit_code() == 128 + number
            shown.assert_restored()
            assert engines(place) == []
        assert '"message":"ended: ' in engine_log(place)

    def test_the_terminal_goes_away(self, place: Place) -> None:
        """Nothing is left of the window, and its engine ends in good order."""
        place.configure(groq=[unique()])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            number = shown.pid
            shown.close()
            until_gone(number)
            until_no_engine(place)
        assert '"message":"ended: ' in engine_log(place)

    def test_a_window_that_is_killed(self, place: Place) -> None:
        """It can see to nothing any more: the engine goes on, and the next window finds it."""
        place.configure(groq=[unique()])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            (number,) = engines(place)
            niceness = [os.getpriority(os.PRIO_PROCESS, process) for process in (shown.pid, number)]
            assert niceness[0] == min(niceness[1] + 10, 19), "the window makes way for the engine"
            shown.signal(signal.SIGKILL)
            assert shown.exit_code() == 137
            with pane([*COMMAND, "tui"], place.folder, place.environment(KEYS)) as again:
                again.until("groq", "live")
                assert engines(place) == [number]
                again.press("q")
                assert again.exit_code() == 0, "it asks nothing, as it started nothing"

    def test_a_dashboard_that_breaks(self, place: Place) -> None:
        """The terminal is given back, the fault is told, and the engine measures on."""
        place.configure(groq=[unique()])
        with watching(place, "tui", command=(sys.executable, "-c", BROKEN)) as shown:
            assert shown.exit_code() == 70
            shown.assert_restored()
            (number,) = engines(place)
            text = shown.text()
        assert "RuntimeError: the dashboard is broken on purpose" in text
        assert "this is a fault of llmbench itself" in text
        assert f"the engine goes on as process {number}" in text

    def test_an_engine_that_can_not_start(self, place: Place) -> None:
        """There is nothing to look at: its words and its exit code are the window's."""
        place.configure(groq=[])
        with watching(place, "tui") as shown:
            assert shown.exit_code() == 2
            shown.assert_restored()
            text = shown.until("the engine did not start (exit code 2", "there is nothing to measure")
            assert "0 ok" not in text

    def test_an_engine_that_dies(self, place: Place) -> None:
        """The window stays and says why; it asks nothing when it is left, and its exit code is the engine's."""
        place.configure(groq=[unique()])
        with watching(place, "tui") as shown:
            shown.until("groq", "live")
            (number,) = engines(place)
            os.kill(number, signal.SIGKILL)
            shown.until("ended with exit code 137")
            shown.press("q")
            assert shown.exit_code() == 137
            shown.assert_restored()


class TestRefused:
    """Where nothing can be drawn, or nothing is to be watched: a sentence, and exit code 2."""

    def test_no_terminal(self, place: Place) -> None:
        place.configure(groq=["sim"])
        for command in (["tui"], ["demo", "--tui"]):
            done = place.run(*command)
            assert (done.code, done.out) == (2, "")
            assert done.err.startswith("llmbench: the dashboard needs a terminal: standard input is no terminal")

    def test_a_terminal_that_can_not_place_text(self, place: Place) -> None:
        place.configure(groq=["sim"])
        with watching(place, "tui", command=("env", "TERM=dumb", *COMMAND)) as shown:
            assert shown.exit_code() == 2
            shown.assert_restored()
            shown.until("TERM is 'dumb'")

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--attach", "http://bench.example"], "would be sent the key in the clear: use https://"),
            (["--attach", "https://bench.example"], "environment variable 'LLMBENCH_ATTACH_KEY' is not set"),
            (["--attach", "127.0.0.1:8787"], "is no socket: write a URL as http://127.0.0.1:8787"),
            (["--key-env", "KEY"], "--key-env names the key for --attach URL"),
            (["--config", "none.toml"], "none.toml"),
        ],
    )
    def test_what_can_not_be_watched(self, place: Place, arguments: list[str], sentence: str) -> None:
        with watching(place, "tui", *arguments) as shown:
            assert shown.exit_code() == 2
            shown.until(sentence)


def test_demo(place: Place) -> None:
    """Within ten seconds of the first row it says which provider fails and which is slow; nothing of it stays."""
    with watching(place, "demo", "--tui") as shown:
        shown.until("cerebras", seconds=60)
        text = shown.until("groq", "together", "slow", seconds=10)
        assert re.search(r"groq .*(401|refused|key)", text)
        shown.press("q")
        assert shown.exit_code() == 0
        shown.assert_restored()
        text = shown.until("the engine ended with exit code 0")
        assert "its log" not in text, "it is gone with the rest"
        assert re.search(r"runs seen: [1-9]\d* ok, [1-9]\d* failed", text)
    until_no_engine(place)
    assert not list(Path(place.folder).glob("llmbench*"))


def test_demo_that_is_killed(place: Place) -> None:
    """Neither its engine nor its simulator goes on without it."""
    with watching(place, "demo", "--tui") as shown:
        shown.until("cerebras", seconds=60)
        began = processes(place)
        assert len(began) == 3
        shown.signal(signal.SIGKILL)
        assert shown.exit_code() == 137
        for _ in turns(20):
            if not processes(place):
                break


def until_listening(place: Place) -> None:
    """Wait until the engine's socket is there."""
    for _ in turns(30):
        if (place.folder / SPOOL / "engine.sock").exists():
            return
