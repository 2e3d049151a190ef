"""Tests in forked processes come out as they do in one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Every way in which a test can end; an expected failure is one of them, not work that is left.
TESTS = """
import os
import signal
import time
from pathlib import Path

import pytest

LOG = Path(__file__).with_name("log")


def note(what):
    with LOG.open("a") as log:
        log.write(f"{what} {os.getpid()}\\n")


@pytest.fixture(scope="session", autouse=True)
def shared():
    note("begun")
    yield
    note("ended")


@pytest.fixture(scope="module")
def own():
    note("module begun")
    yield
    note("module ended")


def test_passes(own, capfd):
    os.system("echo written")
    assert capfd.readouterr().out == "written\\n"


def test_fails(own):
    print("said before")
    assert {"a": 1} == {"a": 2}


@pytest.mark.skip(reason="of a reason")
def test_is_skipped():
    pass


@pytest.mark.xfail
def test_is_expected_to_fail():
    raise ValueError


def test_dies():
    os.kill(os.getpid(), signal.SIGKILL)


def test_comes_after(own):
    pass
"""


def run(folder: Path, *options: str) -> tuple[str, list[str]]:
    """What pytest says of two such files, and lines of their log without process numbers."""
    for name in ("test_one.py", "test_two.py"):
        (folder / name).write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.processes", "-p", "no:cacheprovider", "-ra"]
    finished = subprocess.run(
        [*command, "--rootdir", str(folder), "-c", "/dev/null", *options, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # which would be imported first
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    return finished.stdout, (folder / "log").read_text().splitlines()


def test_every_test_is_told_of_and_one_that_kills_its_process_fails(tmp_path: Path) -> None:
    said, log = run(tmp_path, "--processes", "2")
    assert "4 failed, 4 passed, 2 skipped, 2 xfailed" in said, said
    # Where CI is set, the summary at the end says it too.
    assert said.count("E       AssertionError: assert {'a': 1} == {'a': 2}") == 2
    assert said.count("Captured stdout call") == 2
    assert said.count("its process was ended by SIGKILL") >= 2
    begun, ended = (
        {line.split()[-1] for line in log if line.startswith(word)} for word in ("begun", "ended")
    )
    assert len(begun) in (3, 4)  # two that died, and one or both of those that took their place
    assert len(ended) == len(begun) - 2
    assert sum(line.startswith("module ended") for line in log) == 2


def test_no_more_are_run_than_failures_are_allowed(tmp_path: Path) -> None:
    said, log = run(tmp_path, "--processes", "1", "--maxfail", "1")
    assert "1 failed, 1 passed" in said, said
    assert "stopping after 1 failures" in said
    assert [line.split()[0] for line in log] == ["begun", "module", "module", "ended"]
