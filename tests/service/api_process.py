"""The API as a process of its own, which a test can kill.

Used as `python -m tests.service.api_process PORT SETTINGS`.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from jobs.settings import ServiceSettings
from service.app import create_app


@contextmanager
def api_process(settings: ServiceSettings, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Runs it while the block does, unless the test ends it before."""
    command = [sys.executable, "-m", "tests.service.api_process", str(port), settings.model_dump_json()]
    process = subprocess.Popen(command)
    try:
        with httpx.Client(trust_env=False, verify=False) as client:
            while True:
                assert process.poll() is None, "the API ended"
                try:
                    client.get(f"http://127.0.0.1:{port}/v1/jobs")
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)  # without, asking takes as much of the processor as its start
        yield process
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    uvicorn.run(
        create_app(ServiceSettings.model_validate_json(sys.argv[2]), uses_keys=False),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="error",
        ws="none",
    )
