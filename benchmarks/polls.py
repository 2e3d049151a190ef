"""What it costs to ask for a job's status, with keys on.

    apt-get install wrk
    python -m benchmarks.polls

Starts a Valkey server and `dovetail api`, stores 10,000 jobs, and polls them with wrk on the same machine:
all of them in turn, and one whose newest state the client has (`If-None-Match`); then an API of two
processes. A bare Starlette route that answers the same bytes is polled beside them. Besides requests per
second, which depend on who else uses the machine, the processor time of the API and of the store per poll.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.load import bare_server
from benchmarks.lone_api import LoneApi, lone_api
from benchmarks.made_jobs import made_spec
from benchmarks.results_file import RESULTS, write_results
from jobs.api_keys import ApiKeyStore, KeyLimits
from jobs.connections import impatient_client
from jobs.store import JobStore

_DAY = timedelta(days=1)
_UNLIMITED = 10**9


def make_jobs(store: JobStore, owner: str, count: int) -> list[str]:
    """Jobs that nobody works on, and that have ended."""
    ids = []
    for _ in range(count):
        spec = made_spec(owner)
        store.create(spec, max_waiting=count + 1)
        store.cancel(spec.id, ttl=_DAY)
        ids.append(spec.id)
    return ids


def poll(
    url: str, paths: Sequence[str], headers: dict[str, str], *, seconds: int, connections: int
) -> dict[str, float]:
    """Polls paths in turn.

    Returns:
        Requests, requests per second, and latencies in milliseconds.
    """
    with tempfile.TemporaryDirectory(prefix="dovetail-polls-") as name:
        script = Path(name) / "polls.lua"
        script.write_text(_script(paths, headers))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in output:
        raise RuntimeError(f"the server answered errors:\n{output}")
    return {
        "requests": float(_find(r"(\d+) requests in", output)),
        "requests_per_second": float(_find(r"Requests/sec:\s+([\d.]+)", output)),
        "p50_ms": _milliseconds(_find(r"\s50%\s+([\d.]+\w+)", output)),
        "p99_ms": _milliseconds(_find(r"\s99%\s+([\d.]+\w+)", output)),
    }


def poll_api(api: LoneApi, paths: Sequence[str], headers: dict[str, str], **run: int) -> dict[str, float]:
    """The same of the API, with microseconds of processor time per request."""
    before = _used(api)
    found = poll(api.url, paths, headers, **run)
    used = {part: after - before[part] for part, after in _used(api).items()}
    return found | {
        f"{part}_us_per_poll": round(1e6 * seconds / found["requests"], 1) for part, seconds in used.items()
    }


def _script(paths: Sequence[str], headers: dict[str, str]) -> str:
    listed = ",\n".join(json.dumps(path) for path in paths)
    set_headers = "\n".join(f"wrk.headers[{json.dumps(n)}] = {json.dumps(v)}" for n, v in headers.items())
    return (
        f"local paths = {{{listed}}}\nlocal n = 0\n{set_headers}\n"
        "request = function() n = n + 1; return wrk.format('GET', paths[n % #paths + 1]) end\n"
    )


def _used(api: LoneApi) -> dict[str, float]:
    """Seconds of processor time so far: of the API with what it has started, and of the store."""
    process = psutil.Process(api.pid)
    serving = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in serving]
    with impatient_client(api.redis_url) as client:
        store: Any = client.info("cpu")
    return {
        "api": sum(one.user + one.system for one in times),
        "store": store["used_cpu_user"] + store["used_cpu_sys"],
    }


def _medians(runs: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk's output has no {pattern!r}:\n{text}")
    return match.group(1)


def _milliseconds(text: str) -> float:
    match = re.fullmatch(r"([\d.]+)(us|ms|s)", text)
    if match is None:
        raise RuntimeError(f"wrk's latency {text!r} is no time in us, ms or s")
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


def measure(num_processes: int, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Medians of what an API of so many processes bears, and a bare route beside it."""
    with lone_api(num_processes=num_processes) as api, impatient_client(api.redis_url) as client:
        limits = KeyLimits(requests_per_minute=_UNLIMITED, max_requests_at_once=_UNLIMITED)
        key, secret = ApiKeyStore(client).create("polls", limits=limits)
        headers = {"Authorization": f"Bearer {secret}"}
        paths = [f"/v1/jobs/{job_id}" for job_id in make_jobs(JobStore(client), key.id, arguments.jobs)]
        first = httpx.get(api.url + paths[0], headers=headers, trust_env=False)
        seen = {**headers, "If-None-Match": first.headers["ETag"]}
        run = {"seconds": arguments.seconds, "connections": arguments.connections}
        different, unchanged, bare = [], [], []
        with tempfile.TemporaryDirectory() as name, bare_server(Path(name), first.content) as bare_url:
            # Turn by turn, so that a slow minute of the machine hits all.
            for _ in range(arguments.repeats):
                different.append(poll_api(api, paths, headers, **run))
                unchanged.append(poll_api(api, paths[:1], seen, **run))
                bare.append(poll(bare_url, ["/poll"], {}, **run))
    return {
        "all_different": _medians(different),
        "unchanged": _medians(unchanged),
        "bare": _medians(bare),
    }


def main() -> None:
    """Runs all of it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=10, help="of each run")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    values: dict[str, Any] = {
        "jobs": arguments.jobs,
        "connections": arguments.connections,
        **{name: measure(number, arguments) for name, number in (("one_process", 1), ("two_processes", 2))},
    }
    write_results("polls", values, folder=arguments.results)


if __name__ == "__main__":
    main()
