"""A forked program is what a started one is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psutil
import pytest

from tests.forked_python import real_programs

FORKED = [sys.executable, "-X", "forked", "-c"]
IS_FORKED = "'torch' in sys.modules"  # which the code itself does not import

WHAT_IT_IS = """
import json, os, signal, sys, threading, time
fact = {
    "is forked": 'torch' in sys.modules,
    "arguments": sys.argv,
    "name": __name__,
    "path": sys.path,
    "command line": open("/proc/self/cmdline").read().rstrip(chr(0)).split(chr(0)),
    "original": sys.orig_argv,
    "environment": dict(os.environ),
    "time zone": time.tzname,
    "folder": os.getcwd(),
    "parent": os.getppid(),
    "leads": [os.getpid() == os.getsid(0), os.getpid() == os.getpgid(0)],
    "group": None if os.getpid() == os.getpgid(0) else os.getpgid(0),
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "files": [number for number in range(500) if os.path.exists(f"/proc/self/fd/{number}")],
    "threads": [thread.name for thread in threading.enumerate()],
    "read": sys.stdin.read(),
}
print("said aside", file=sys.stderr)
print(json.dumps(fact))
"""


def facts(is_real: bool, **options: Any) -> dict[str, Any]:
    # Without `env`, also what libraries have set behind Python's back comes along: readline sets COLUMNS.
    usual = {"env": dict(os.environ), "input": "given", "capture_output": True, "text": True, "check": True}
    with real_programs() if is_real else nullcontext():
        done = subprocess.run(
            [*FORKED, WHAT_IT_IS, "one", "two words"],
            **(usual | options),
        )
    assert done.stderr == "said aside\n"
    found = dict(json.loads(done.stdout))
    assert found.pop("is forked") is not is_real
    return found


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"env": {**os.environ, "TZ": "Asia/Tokyo", "DOVETAIL_MODELS": "[]"}},
        {"cwd": "/", "env": {**os.environ, "PYTHONPATH": "/nowhere:/elsewhere"}},
        {"start_new_session": True},
        {"process_group": 0},
    ],
    ids=["plain", "environment", "folder", "session", "group"],
)
def test_a_forked_program_finds_what_a_started_one_does(options: dict[str, Any]) -> None:
    assert facts(False, **options) == facts(True, **options)


def test_blocked_signals_stay_blocked() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        assert facts(False) == facts(True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_descriptors_are_handed_on_under_their_numbers() -> None:
    reading, writing = os.pipe()
    code = "import os, sys; os.write(int(sys.argv[1]), b'handed on')"
    subprocess.run([*FORKED, code, str(writing)], pass_fds=[writing], check=True)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"handed on"  # and nobody else holds the other end


@pytest.mark.parametrize(
    ("code", "result", "words"),
    [
        ("pass", 0, ""),
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("import atexit, sys; atexit.register(print, 'at last', file=sys.stderr)", 0, "at last\n"),
    ],
)
def test_its_end_is_seen(code: str, result: int, words: str) -> None:
    done = subprocess.run([*FORKED, code], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (result, words)


def test_an_error_is_told() -> None:
    done = subprocess.run([*FORKED, "1 / 0"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_ctrl_c_interrupts_it() -> None:
    # Whoever starts the tests in the background has it ignored, here as in programs that are started.
    code = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "print(flush=True); time.sleep(60)"
    with subprocess.Popen([*FORKED, code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == -signal.SIGINT


def is_forked(command: list[str], **options: Any) -> bool:
    code = f"import sys; print({IS_FORKED})"
    done = subprocess.run([*command, code], stdout=subprocess.PIPE, text=True, check=True, **options)
    return done.stdout == "True\n"


def test_only_what_is_wanted_is_forked() -> None:
    assert is_forked(FORKED)
    assert is_forked(FORKED, env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": "/tmp"})  # as torch sets it here
    assert not is_forked([sys.executable, "-c"])
    assert not is_forked([sys.executable, "-W", "ignore", "-X", "forked", "-c"])
    assert not is_forked(FORKED, env={**os.environ, "PYTHONUTF8": "0"})
    assert not is_forked(FORKED, preexec_fn=os.getpid)
    with real_programs():
        assert not is_forked(FORKED)


def test_what_a_forked_program_starts_is_forked_too() -> None:
    inner = f"import os, sys; print({IS_FORKED}, os.getppid() == int(sys.argv[1]))"
    outer = f"""
import os, subprocess, sys
subprocess.run([sys.executable, "-X", "forked", "-c", {inner!r}, str(os.getpid())], check=True)
"""
    done = subprocess.run([*FORKED, outer], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "True True\n"


def test_two_programs_do_not_throw_the_same_dice() -> None:
    code = "import random; print(random.random())"
    said = {subprocess.run([*FORKED, code], stdout=subprocess.PIPE).stdout for _ in range(2)}
    assert len(said) == 2


def test_servers_end_with_those_they_serve() -> None:
    code = "import time; print(flush=True); time.sleep(60)"
    with subprocess.Popen([*FORKED, code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (server,) = psutil.Process(process.pid).children()
        process.kill()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
