"""What the API bears on one machine: uploads, and how soon work begins (`benchmarks.polls` has the polls).

    apt-get install curl
    python -m benchmarks.load

* Upload throughput of `POST /v1/jobs` beside a bare Starlette route that writes the same body to the same
  disk.
* Seconds from an accepted upload to the begin of its first segment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.results_file import RESULTS, write_results
from dovetail_client import Dovetail

MIB = 1 << 20
_DAY = timedelta(days=1)

_BARE_APP = """
import itertools, os, sys
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
import uvicorn

BODY = open(sys.argv[2], "rb").read()
NUMBERS = itertools.count()

async def poll(request):
    return Response(BODY, media_type="application/json")

async def upload(request):
    # Each into a file of its own: one that is written again has its pages already.
    with open(f"{sys.argv[3]}-{next(NUMBERS)}", "wb") as file:
        async for piece in request.stream():
            file.write(piece)
    return Response(status_code=202)

app = Starlette(routes=[Route("/poll", poll), Route("/upload", upload, methods=["POST"])])
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
"""


def make_large_clip(path: Path, size_mib: int) -> Path:
    """A video that plays, with a box behind it that players skip, as large as wanted."""
    make_clip(path, seconds=2)
    with path.open("ab") as file:
        size = size_mib * MIB
        file.write(struct.pack(">I4sQ", 1, b"free", size))
        for _ in range(size_mib):
            file.write(bytes(MIB))
        file.truncate(file.tell() - 16)
    return path


def time_upload(url: str, clip: Path, *arguments: str) -> float:
    """Seconds that curl takes to send a file as a form, to a disk that has nothing else to write."""
    os.sync()
    command = ["curl", "-sS", "-f", "-o", "/dev/null", "-w", "%{time_total}", "-F", f"file=@{clip}"]
    finished = subprocess.run([*command, *arguments, url], capture_output=True, text=True, check=True)
    return float(finished.stdout)


def time_to_first_segment(client: Dovetail, clip: Path, model: str) -> float:
    """Seconds from the accepted submission to the event that its first segment is being made."""
    job = client.submit(clip, model=model)
    accepted = time.monotonic()
    for event in client.events(job.id):
        if event.job is not None and (event.job.stage == "upscaling" or event.job.status == "completed"):
            break
    waited = time.monotonic() - accepted
    client.wait(job.id, timeout=300)
    return waited


@contextmanager
def bare_server(folder: Path, body: bytes) -> Iterator[str]:
    """A Starlette server with nothing behind its routes."""
    script, answer, port = folder / "bare.py", folder / "answer.json", 18_999
    script.write_text(_BARE_APP)
    answer.write_bytes(body)
    command = [sys.executable, str(script), str(port), str(answer), str(folder / "bare-upload")]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/poll")
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """Runs all of it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--upload-mib", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if shutil.which("curl") is None:
        sys.exit("curl is missing: apt-get install curl")
    with tempfile.TemporaryDirectory(prefix="dovetail-load-") as name:
        folder = Path(name)
        with Installation(folder, num_workers=1) as installation:
            values = _measure(folder, installation, arguments)
    write_results("load", values, folder=arguments.results)
    return 0


def _measure(folder: Path, installation: Installation, arguments: argparse.Namespace) -> dict[str, Any]:
    client = Dovetail(installation.url)
    small = make_clip(folder / "small.mp4", seconds=2)
    client.wait(client.submit(small, model="bicubic").id, timeout=300)
    begins = [time_to_first_segment(client, small, "bicubic") for _ in range(5 * arguments.repeats)]
    large = make_large_clip(folder / "large.mp4", arguments.upload_mib)
    uploads, bare_uploads = [], []
    with bare_server(folder, b"") as bare:
        # Turn by turn, so that a slow minute of the machine hits both.
        for _ in range(arguments.repeats):
            uploads.append(
                time_upload(f"{installation.url}/v1/jobs", large, "-F", "model=bicubic", "-F", "priority=low")
            )
            bare_uploads.append(time_upload(f"{bare}/upload", large))
    return {
        "upload_mib": arguments.upload_mib,
        "upload_mib_per_second": round(arguments.upload_mib / statistics.median(uploads), 1),
        "bare_upload_mib_per_second": round(arguments.upload_mib / statistics.median(bare_uploads), 1),
        "upload_ratio": round(statistics.median(bare_uploads) / statistics.median(uploads), 3),
        "seconds_to_first_segment": {
            "median": round(statistics.median(begins), 3),
            "max": round(max(begins), 3),
            "count": len(begins),
        },
    }


if __name__ == "__main__":
    sys.exit(main())
