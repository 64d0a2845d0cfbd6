"""How a command ends: by itself, by a signal, with something that hangs."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from .conftest import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BEGIN = """
import asyncio, sys, time
from batchscore.cli import runner
runner.leave_on_signals()
def ready():
    print("ready", flush=True)
def end(work):
    try:
        runner.run(work)
    except runner.Interrupted as interrupted:
        runner.leave(interrupted.exit_code)
    except Exception as error:
        print(error, file=sys.stderr)
        runner.leave(1)
    runner.leave(0)
"""

WAITS = """
async def work():
    ready()
    await asyncio.sleep(60)
end(work())
"""
TIDIES = """
async def work():
    try:
        ready()
        await asyncio.sleep(60)
    except asyncio.CancelledError as error:
        print("tidied after", *error.args, flush=True)
        raise
end(work())
"""
HANGS_IN_A_THREAD = """
async def work():
    asyncio.get_running_loop().call_later(0.2, ready)
    await asyncio.to_thread(time.sleep, 60)
end(work())
"""
DOES_NOT_LISTEN = """
async def work():
    ready()
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled", flush=True)
end(work())
"""
BLOCKS_THE_LOOP = """
async def work():
    ready()
    time.sleep(60)
end(work())
"""
IMPORTS = """
ready()
time.sleep(60)
"""


@contextlib.contextmanager
def started(*words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A Python process, which never outlives the test."""
    process = subprocess.Popen(
        [sys.executable, *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str, float]:
    """Exit code, standard output, standard error, and how long it took."""
    begin = time.monotonic()
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err, time.monotonic() - begin


@pytest.mark.parametrize(
    ("script", "number", "code", "word"),
    [
        pytest.param(WAITS, signal.SIGTERM, 143, "terminated", id="waits"),
        pytest.param(TIDIES, signal.SIGINT, 130, "interrupted", id="tidies"),
        pytest.param(TIDIES, signal.SIGTERM, 143, "terminated", id="tidies, terminated"),
        pytest.param(HANGS_IN_A_THREAD, signal.SIGINT, 130, "interrupted", id="thread hangs"),
        pytest.param(DOES_NOT_LISTEN, signal.SIGTERM, 143, "terminated", id="does not listen"),
        pytest.param(BLOCKS_THE_LOOP, signal.SIGINT, 130, "interrupted", id="loop blocked"),
        pytest.param(IMPORTS, signal.SIGINT, 130, "interrupted", id="imports"),
        pytest.param(IMPORTS, signal.SIGTERM, 143, "terminated", id="imports, terminated"),
    ],
)
def test_a_signal_ends_the_process_whatever_it_does(
    script: str, number: signal.Signals, code: int, word: str
) -> None:
    """One signal, one line and the right exit code, also where something hangs for a minute."""
    with started("-c", BEGIN + script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        exit_code, out, err, seconds = ended(process)
    assert exit_code == code
    assert err.startswith(word)
    assert err.count("\n") == 1
    assert seconds < 10
    if script == TIDIES:
        assert out == f"tidied after {number.name}\n"


def test_a_second_signal_does_not_wait() -> None:
    """The second signal ends the process at once, with the first one's exit code."""
    with started("-c", BEGIN + DOES_NOT_LISTEN) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cancelled\n"
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143


def test_an_error_ends_the_process_though_a_thread_hangs() -> None:
    """A thread that reads from something silent does not keep a failed command alive."""
    script = """
async def work():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
    await asyncio.sleep(0.1)
    raise ValueError("told")
end(work())
"""
    with started("-c", BEGIN + script) as process:
        code, _, err, seconds = ended(process)
    assert (code, err) == (1, "told\n")
    assert seconds < 10


def test_a_command_that_ends_by_itself_takes_its_tasks_along() -> None:
    """Tasks and async generators that are left over are closed before the process ends."""
    script = """
async def other():
    try:
        await asyncio.sleep(60)
    finally:
        print("closed", flush=True)
async def work():
    work.other = asyncio.ensure_future(other())
    await asyncio.sleep(0)
end(work())
"""
    with started("-c", BEGIN + script) as process:
        code, out, err, _ = ended(process)
    assert (code, out, err) == (0, "closed\n", "")


@pytest.fixture
def silent_server() -> Iterator[tuple[str, threading.Event]]:
    """A host that accepts connections and never answers; the event tells of a request."""
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    while connection.recv(65536):
                        asked.set()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/deployment/x/forward", asked
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("inspect", signal.SIGTERM, 143), ("score", signal.SIGINT, 130)],
)
def test_a_signal_ends_a_command_whose_server_hangs(
    silent_server: tuple[str, threading.Event],
    tmp_path: Path,
    command: str,
    number: signal.Signals,
    code: int,
) -> None:
    """A deployment that never answers does not keep the command from ending."""
    url, asked = silent_server
    words = ["-m", "batchscore", command, "--url", url]
    if command == "score":
        (tmp_path / "a.csv").write_text("a\n1\n", encoding="utf-8")
        words += [str(tmp_path / "a.csv"), "-o", str(tmp_path / "o.arrow")]
    with started(*words) as process:
        assert asked.wait(30)
        process.send_signal(number)
        exit_code, out, err, seconds = ended(process)
    assert exit_code == code
    assert out == ""
    assert err.splitlines()[0] in {"interrupted; stopping", "terminated; stopping"}
    assert "Traceback" not in err
    assert seconds < 10
    assert not (tmp_path / "o.arrow").exists()


def test_a_signal_ends_a_job_that_waits_for_standard_input(tmp_path: Path) -> None:
    """A read that blocks for ever does not keep the command from ending."""
    words = ("score", "-", "--input-format", "csv", "--url", "http://127.0.0.1:9/x", "-o")
    with started(
        "-m", "batchscore", *words, str(tmp_path / "o.csv"), stdin=subprocess.PIPE
    ) as process:
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        # Standard input stays open until the process has gone.
        assert process.wait(timeout=30) == 130
