"""What a job takes in Redis, while it is made and once it is completed.

    python -m benchmarks.job_memory

Has a real installation make a clip of two seconds and a film of three hours (one small frame a second, with
sound, so that it has as many segments and as much sound as any), and adds up the keys that bear the job's id,
and its share of the sets that hold many jobs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.results_file import write_results
from dovetail_client import Dovetail

_EVENTS_SECONDS = 61  # they go a minute after the end
_MEMBERS = {b"zset": ("zscore", "zcard"), b"hash": ("hget", "hlen")}


def record_bytes(client: redis.Redis, job_id: str) -> int:
    """Bytes that a job takes in a database."""
    reader: Any = client
    total = 0.0
    for key in reader.scan_iter(count=1000):
        size = reader.memory_usage(key, samples=0) or 0  # gone since
        if job_id.encode() in key:
            total += size
            continue
        names = _MEMBERS.get(reader.type(key))
        if names is not None and getattr(reader, names[0])(key, job_id) is not None:
            total += size / getattr(reader, names[1])(key)
    return round(total)


def measure(installation: Installation, clip: Path) -> dict[str, Any]:
    """Has a clip made, and looks at its record now and then."""
    client, store = Dovetail(installation.url), installation.redis_client()
    job, most = client.submit(clip, model="bicubic", scale=1), 0
    while (now := client.get(job.id)).status not in ("completed", "failed", "cancelled"):
        most = max(most, record_bytes(store, job.id))
        time.sleep(1)
    assert now.status == "completed", now.error
    time.sleep(_EVENTS_SECONDS)
    return {"most_bytes_while_made": most, "bytes_once_completed": record_bytes(store, job.id)}


def main() -> None:
    """Runs all of it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dovetail-memory-") as name:
        folder = Path(name)
        short = make_clip(folder / "short.mp4", seconds=2)
        film = make_clip(folder / "film.mp4", seconds=3600 * arguments.hours, rate=1)
        with Installation(folder / "installation", num_workers=1) as installation:
            values = {
                "short": measure(installation, short),
                "film_hours": arguments.hours,
                "film": measure(installation, film),
            }
    write_results("job_memory", values)


if __name__ == "__main__":
    main()
