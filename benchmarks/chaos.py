"""Kills workers, API and Redis at random moments under load, has Redis fail over to its replica and loses its
answers, and checks that nothing is lost, done twice or left behind.

    python -m benchmarks.chaos                                    # 30 jobs, 60 faults
    python -m benchmarks.chaos --jobs 6 --faults 8 --workers 2    # the short form that the tests run

Every clip is first upscaled undisturbed; each job's file must have the same bytes. Jobs are submitted with
idempotency keys through the Python client, which repeats what a killed API did not answer.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import httpx

from benchmarks.installation import Installation
from benchmarks.made_clips import make_clip
from benchmarks.orphans import Orphans, orphans_at_rest
from benchmarks.results_file import RESULTS, write_results
from benchmarks.watched_pair import WatchedPair, watched_pair
from dovetail_client import Dovetail, DovetailError

Fault = Literal["worker", "api", "redis", "failover", "answer"]
# Workers die more often than servers, and an answer is soon lost; so it is here.
WEIGHTS: dict[Fault, int] = {"worker": 6, "api": 2, "redis": 1, "failover": 1, "answer": 3}
# So that a Redis that is started again at once is not taken for gone.
_DOWN_MS = 3000


@dataclass
class ChaosReport:
    """What happened.

    Attributes:
        num_jobs: Submitted.
        states: Final states of the jobs.
        faults: By kind: kills of workers, APIs and Redis, fail-overs, lost answers.
        num_different: Jobs whose file differs from the undisturbed one.
        num_published_twice: Segments with more than one publication in their job's events.
        num_unasked: Jobs in the list that nobody has submitted, or twice.
        num_orphans: Files without a job, jobs without a file, keys and messages that nobody owns.
        orphans: Their names.
        num_attempts: Most attempts that a task of each job took, by number.
        seconds: From the first submission to the last final state.
    """

    num_jobs: int
    states: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    num_different: int = 0
    num_published_twice: int = 0
    num_unasked: int = 0
    num_orphans: int = 0
    orphans: Orphans = field(default_factory=Orphans)
    num_attempts: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether all jobs completed, each with the right bytes, no segment twice, and nothing is left."""
        is_complete = self.states == {"completed": self.num_jobs}
        return is_complete and not (
            self.num_different or self.num_published_twice or self.num_unasked or self.num_orphans
        )


def run_chaos(
    folder: Path,
    *,
    num_jobs: int,
    num_faults: int,
    num_workers: int,
    pause: float,
    model: str,
    seed: int,
    num_clips: int = 5,
    clip_seconds: float = 8.0,
) -> ChaosReport:
    """Runs an installation, submits jobs, disturbs it meanwhile, and waits for the end.

    Args:
        folder: For everything.
        num_jobs: To submit.
        num_faults: To make, unless all jobs end before.
        num_workers: Of the installation.
        pause: Mean seconds between faults.
        model: Of the jobs.
        seed: Of what happens when.
        num_clips: Different inputs.
        clip_seconds: Length of each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = [make_clip(folder / f"clip{n}.mp4", seconds=clip_seconds, seed=n) for n in range(num_clips)]
    # A segment may die more often here than in years of ordinary life.
    environment = {
        "DOVETAIL_SEGMENT_SECONDS": "1",
        "DOVETAIL_MAX_ATTEMPTS": "25",
        "DOVETAIL_ALLOW_STANDINS": "true",
        "DOVETAIL_MODELS": json.dumps([model]),
    }
    report = ChaosReport(num_jobs)
    with (
        watched_pair(down_ms=_DOWN_MS) as pair,
        Installation(
            folder, num_workers=num_workers, environment=environment, redis_url=pair.url
        ) as installation,
        Dovetail(installation.url, max_retries=60) as client,
    ):
        undisturbed = [client.wait(client.submit(clip, model=model).id, timeout=300) for clip in clips]
        wanted = [job.output for job in undisturbed]
        start = time.monotonic()
        is_over = threading.Event()
        killer = threading.Thread(
            target=_disturb,
            args=(installation, pair, num_faults, pause, random.Random(seed), report, is_over),
        )
        killer.start()
        try:
            ids = [client.submit(clips[n % num_clips], model=model).id for n in range(num_jobs)]
            jobs = [client.wait(job_id, timeout=1800) for job_id in ids]
        finally:
            is_over.set()
            killer.join()
        report.seconds = round(time.monotonic() - start, 1)
        report.faults |= {"answer": pair.num_lost}  # some were to be lost by a server that was killed before
        installation.wait_until_ready()
        for number, job in enumerate(jobs):
            expected = wanted[number % num_clips]
            assert expected is not None
            if job.output is None or job.output.sha256 != expected.sha256:
                report.num_different += 1
            report.num_published_twice += _count_twice(installation.url, job.id)
        listed = Counter(job.id for job in client.list())
        report.num_unasked = (listed - Counter(job.id for job in [*undisturbed, *jobs])).total()
        report.orphans = orphans_at_rest(installation.settings)
        report.num_orphans = report.orphans.count
        report.states = dict(Counter(str(job.status) for job in jobs))
        report.num_attempts = dict(sorted(Counter(job.attempts for job in jobs).items()))
    return report


def _disturb(
    installation: Installation,
    pair: WatchedPair,
    num_faults: int,
    pause: float,
    dice: random.Random,
    report: ChaosReport,
    is_over: threading.Event,
) -> None:
    faults: Counter[str] = Counter()
    kinds = list(get_args(Fault))
    while faults.total() < num_faults and not is_over.wait(dice.uniform(0.5, 1.5) * pause):
        fault = dice.choices(kinds, [WEIGHTS[name] for name in kinds])[0]
        if _make(fault, installation, pair, dice):
            faults[fault] += 1
            report.faults = dict(faults)


def _make(fault: Fault, installation: Installation, pair: WatchedPair, dice: random.Random) -> bool:
    """Makes one; whether there was anything to disturb."""
    if fault == "redis":
        pair.crash()
        pair.wait_until_watched()
    elif fault == "failover":
        pair.fail_over()
        pair.rejoin()
    elif fault == "answer":
        pair.lose_answers(1)
    elif running := installation.processes(fault):
        installation.kill(dice.choice(running))
    else:
        return False
    return True


def _count_twice(url: str, job_id: str) -> int:
    """Segments of a job that were published more than once, by its events."""
    published: Counter[int] = Counter()
    text = httpx.get(f"{url}/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "1-0"}, timeout=30).text
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if lines.get("event") == "segment":
            published[json.loads(lines["data"])["detail"]["index"]] += 1
    return sum(count > 1 for count in published.values())


def main() -> int:
    """Runs it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=30)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=3.0, help="mean seconds between faults")
    parser.add_argument("--clip-seconds", type=float, default=30.0, help="length of each input")
    parser.add_argument("--model", default="standin:sleep=0.02,scale=2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dovetail-chaos-") as name:
        report = run_chaos(
            arguments.folder or Path(name),
            num_jobs=arguments.jobs,
            num_faults=arguments.faults,
            num_workers=arguments.workers,
            pause=arguments.pause,
            model=arguments.model,
            seed=arguments.seed,
            clip_seconds=arguments.clip_seconds,
        )
    write_results("chaos", {"is_good": report.is_good, **asdict(report)}, folder=arguments.results)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DovetailError as error:
        sys.exit(f"error: {error}")
