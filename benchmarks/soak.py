"""Whether an installation that has worked for hours is what it was at the beginning.

    python -m benchmarks.soak                      # an hour
    python -m benchmarks.soak --minutes 3          # a look

Customers do all they can do, over and over: films uploaded in chunks, heard, played while they grow and
downloaded; stills; batches; damaged files; jobs cancelled while they run, and deleted. Everything expires
after a minute or two. Meanwhile memory, files and threads of the API, the workers and Redis are written down,
and what the store holds. The report has the means of a window after the beginning and of the last one, and
what grew in between for each thousand errands.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
import psutil
from PIL import Image

from benchmarks.damaged_uploads import UNWORDED, damaged
from benchmarks.followed_jobs import follow
from benchmarks.installation import Installation, Part
from benchmarks.made_clips import make_clip
from benchmarks.orphans import orphans_at_rest
from benchmarks.results_file import RESULTS, write_results
from dovetail_client import APIError, ConflictError, Dovetail, DovetailError, JobFailedError

_KEPT = "60s"
_SAMPLE_SECONDS, _SAMPLES_PER_MINUTE = 5.0, 12
# Shares of the time: the beginning, in which everything is loaded and every cache filled, and the windows.
_BEGINNING, _WINDOW = 0.25, 0.15
_SIZES = ((64, 48), (96, 64), (128, 96), (160, 90))


@dataclass(frozen=True)
class Sample:
    """What an installation holds at one time.

    Attributes:
        seconds: Since the beginning.
        errands: Done so far.
        memory_mib: That no other process shares, of each part with all that it has started.
        files: Open ones, of each part.
        threads: Of each part.
        redis_mib: Used by the store's data.
        keys: In the store.
        stored_files: In the data folder.
    """

    seconds: float
    errands: int
    memory_mib: dict[str, float]
    files: dict[str, int]
    threads: dict[str, int]
    redis_mib: float
    keys: int
    stored_files: int


@dataclass
class SoakReport:
    """What happened.

    Attributes:
        minutes: Of errands.
        errands: That customers did, by kind.
        faults: What may not happen, by text.
        num_replaced: Processes that are not those of the beginning.
        num_orphans: Files, keys and messages that nobody owns at the end.
        early: Means of a window after the beginning.
        late: Means of the last window.
        growth: From the one to the other, for each thousand errands.
        samples: One a minute.
    """

    minutes: float
    errands: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    num_replaced: int = 0
    num_orphans: int = 0
    early: dict[str, float] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)
    growth: dict[str, float] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


class Customers:
    """What they do, each time with another of a few inputs.

    Args:
        url: Of the API.
        folder: For inputs and results.
        model: Of the films; everything else is interpolated.
    """

    def __init__(self, url: str, folder: Path, model: str) -> None:
        self._url, self._folder, self._model = url, folder, model
        self._clips = [
            make_clip(folder / f"clip{n}.mp4", seconds=1 + n % 3, seed=n, width=width, height=height)
            for n, (width, height) in enumerate(_SIZES)
        ]
        self._contents = [clip.read_bytes() for clip in self._clips]
        self._still = folder / "still.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)).save(self._still)
        self.errands: dict[str, Callable[[random.Random], None]] = {
            "film": self._film,
            "still": self._make_still,
            "batch": self._batch,
            "damaged": self._damaged,
            "cancelled": self._cancelled,
            "listed": self._listed,
        }

    def _film(self, dice: random.Random) -> None:
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            followed = follow(self._url, dice.choice(self._clips), self._model, Path(name))
        assert followed.played.is_steady, "a growing video changed"

    def _make_still(self, dice: random.Random) -> None:
        with Dovetail(self._url) as client, tempfile.TemporaryDirectory(dir=self._folder) as name:
            job = client.wait(
                client.submit(self._still, model="bicubic", scale=dice.choice((2, 3))), timeout=600
            )
            client.download(job, Path(name) / "still.png")
            client.delete(job)

    def _batch(self, dice: random.Random) -> None:
        with Dovetail(self._url) as client:
            batch = client.create_batch(dice.sample(self._clips, 3), model="bicubic", scale=1)
            ended = client.wait_batch(batch, timeout=600)
            assert ended.counts.completed == ended.counts.total == 3, f"a batch ended as {ended.counts}"

    def _damaged(self, dice: random.Random) -> None:
        path = self._folder / f"damaged{dice.randrange(10**9)}.mp4"
        path.write_bytes(damaged(self._contents, 0, dice.randrange(10**9)))
        with Dovetail(self._url) as client:
            try:
                client.wait(client.submit(path, model="bicubic", scale=1), timeout=600)
            except (APIError, JobFailedError) as error:
                if error.code in UNWORDED:
                    raise
            finally:
                path.unlink()

    def _cancelled(self, dice: random.Random) -> None:
        with Dovetail(self._url) as client:
            job = client.submit(dice.choice(self._clips), model=self._model)
            time.sleep(dice.uniform(0, 1))
            with suppress(ConflictError):  # it has ended already
                client.cancel(job)
            while not (job := client.get(job)).status.is_final:
                time.sleep(0.1)
            client.delete(job)

    def _listed(self, dice: random.Random) -> None:
        with Dovetail(self._url) as client:
            for _ in client.list(status=dice.sample(("completed", "failed", "queued", "cancelled"), 2)):
                pass
            client.models()
            client.me()


def soak(installation: Installation, customers: Customers, *, minutes: float, num_at_once: int) -> SoakReport:
    """Lets so many customers run errands for so many minutes."""
    report, lock, start = SoakReport(minutes), threading.Lock(), time.monotonic()
    errands, faults = Counter[str](), Counter[str]()
    before = _pids(installation)

    def run(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() - start < minutes * 60:
            kind = dice.choice(list(customers.errands))
            try:
                customers.errands[kind](dice)
            except (AssertionError, DovetailError) as error:
                with lock:
                    faults[f"{kind}: {type(error).__name__}: {error}"] += 1
            with lock:
                errands[kind] += 1

    with ThreadPoolExecutor(num_at_once) as threads:
        running = [threads.submit(run, number) for number in range(num_at_once)]
        while not all(future.done() for future in running):
            report.samples.append(_sample(installation, time.monotonic() - start, errands.total()))
            time.sleep(_SAMPLE_SECONDS)
        for future in running:
            future.result()
    report.errands, report.faults = dict(errands), dict(faults)
    report.num_replaced = len(before - _pids(installation))
    report.early = _means(report.samples, _BEGINNING)
    report.late = _means(report.samples, 1 - _WINDOW)
    thousands = (report.late["errands"] - report.early["errands"]) / 1000
    report.samples = report.samples[::_SAMPLES_PER_MINUTE]
    report.growth = {
        name: round((value - report.early[name]) / thousands, 2)
        for name, value in report.late.items()
        if name != "errands" and thousands
    }
    return report


def _pids(installation: Installation) -> set[int]:
    return {process.pid for part in get_args(Part) for process in installation.processes(part)}


def _sample(installation: Installation, seconds: float, errands: int) -> Sample:
    memory, files, threads = Counter[str](), Counter[str](), Counter[str]()
    for part in get_args(Part):
        for process in installation.processes(part):
            files[part] += process.num_fds()
            threads[part] += process.num_threads()
            for member in (process, *process.children(recursive=True)):
                try:
                    memory[part] += member.memory_full_info().uss
                except psutil.NoSuchProcess:
                    continue
    with installation.redis_client() as client:
        used, keys = int(client.info("memory")["used_memory"]), int(client.dbsize())
    # Folders may go while one looks.
    stored = sum(len(files) for _, _, files in os.walk(installation.settings.data_dir))
    return Sample(
        seconds=round(seconds, 1),
        errands=errands,
        memory_mib={part: round(size / 2**20, 1) for part, size in memory.items()},
        files=dict(files),
        threads=dict(threads),
        redis_mib=round(used / 2**20, 2),
        keys=keys,
        stored_files=stored,
    )


def _means(samples: list[Sample], start: float) -> dict[str, float]:
    """Of every number in a window that begins at a share of the time."""
    end = samples[-1].seconds
    window = [sample for sample in samples if start * end <= sample.seconds <= (start + _WINDOW) * end]
    rows = [_flat(asdict(sample)) for sample in window]
    return {
        name: round(statistics.fmean(row[name] for row in rows), 2) for name in rows[0] if name != "seconds"
    }


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in values.items():
        found |= (
            _flat(value, f"{name} ") if isinstance(value, dict) else {f"{prefix}{name}": float(str(value))}
        )
    return found


def main() -> int:
    """Runs it and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--customers", type=int, default=6)
    parser.add_argument("--model", default="dovetail-nano-2", help="of the films")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    environment = {
        "DOVETAIL_SEGMENT_SECONDS": "1",
        "DOVETAIL_MODELS": json.dumps(sorted({"bicubic", arguments.model})),
        "DOVETAIL_RESULT_TTL": _KEPT,
        "DOVETAIL_FAILED_TTL": _KEPT,
        "DOVETAIL_UPLOAD_TTL": _KEPT,
    }
    with tempfile.TemporaryDirectory(prefix="dovetail-soak-") as name:
        folder = Path(name)
        with Installation(
            folder / "installation", num_workers=arguments.workers, environment=environment
        ) as installation:
            customers = Customers(installation.url, folder, arguments.model)
            report = soak(installation, customers, minutes=arguments.minutes, num_at_once=arguments.customers)
            report.num_orphans = orphans_at_rest(installation.settings).count
        if report.faults or report.num_replaced:
            shutil.copy(folder / "installation" / "serve.log", "soak.log")
    write_results("soak", asdict(report), folder=arguments.results)
    return 1 if report.faults or report.num_replaced or report.num_orphans else 0


if __name__ == "__main__":
    sys.exit(main())
