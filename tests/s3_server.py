"""An S3-compatible server for tests, in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

BUCKET = "films"


@contextmanager
def running_s3_server() -> Iterator[str]:
    """Address of a server with an empty bucket."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", "from moto.server import main; main()", "-p", "0"],
        # Parts of any size, so that tests need no large files.
        env={**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "1"},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            for line in server.stderr:
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    break
            else:
                pytest.fail("the server did not start")
            # It says something of each request, and waits where nobody reads.
            threading.Thread(target=deque, args=(server.stderr, 0), daemon=True).start()
            with urlopen(Request(f"{found[0]}/{BUCKET}", method="PUT")) as answer:
                assert answer.status == 200
            yield found[0]
        finally:
            server.kill()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a server with an empty bucket."""
    with running_s3_server() as address:
        yield address


@pytest.fixture
def s3_url(s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a storage of the test's own; access to it is in the environment."""
    return make_s3_url(s3_server, tmp_path.name, monkeypatch)


def make_s3_url(s3_server: str, name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a storage; puts access to it into the environment."""
    for variable, value in s3_environment(s3_server).items():
        monkeypatch.setenv(variable, value)
    return f"s3://{BUCKET}/{name}"


def s3_environment(s3_server: str) -> dict[str, str]:
    """Variables by which programs find the server."""
    return {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
