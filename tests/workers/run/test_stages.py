"""Threads of a run: who takes how many cores, and whose time is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from media.sizes import SizeRequest
from pipelines.execution import HostCopier
from pipelines.planning.plan import ChunkPlan
from tests.workers.made import FAST, StandIn
from workers.run import stages
from workers.run.decisions import queued_frames
from workers.run.options import UpscaleOptions
from workers.run.threads import Channel
from workers.run.timing import StageClock
from workers.run.upscaler import upscale_file

OPTIONS = UpscaleOptions(size=SizeRequest(scale=Fraction(2)), encode=FAST)


class ThreadCounting(StandIn):
    """Remembers how many threads torch gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_threads: set[int] = set()

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        self.num_threads.add(torch.get_num_threads())
        return super().restore(clip, size, plan)


def test_a_model_in_a_later_thread_has_all_cores(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader's thread sets becomes the default of threads that begin after it."""
    monkeypatch.setattr(stages, "_MODEL_THREADS", 4)
    model, before = ThreadCounting(), torch.get_num_threads()

    def run(name: str) -> None:
        upscale_file(clip, tmp_path / name, model=model, options=OPTIONS)

    try:
        for number in range(2):
            thread = threading.Thread(target=run, args=(f"{number}.mp4",))
            thread.start()
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert model.num_threads == {4}


def test_a_clock_waits_for_the_device_that_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    second = torch.device("cuda:1")
    with StageClock(synchronize=second).measure("model"):
        pass
    assert waited == [second, second]
    with StageClock(synchronize=torch.device("cpu")).measure("model"):
        pass
    assert len(waited) == 2


@pytest.mark.parametrize(
    ("device", "synchronize", "is_timed"),
    [("cpu", None, True), ("cuda:1", None, False), ("cuda:1", "cuda:0", False), ("cuda:1", "cuda:1", True)],
)
def test_parts_of_a_model_are_timed_only_where_their_times_are_true(
    device: str, synchronize: str | None, is_timed: bool
) -> None:
    """Segment tasks do not wait for a GPU: what passes between its parts is the launching of their work."""
    timed: list[StageClock] = []

    def time_parts(clock: StageClock) -> AbstractContextManager[None]:
        timed.append(clock)
        return nullcontext()

    model: Any = SimpleNamespace(device=torch.device(device), timed=time_parts)
    restorer: Any = SimpleNamespace(run=list)
    write: Any = list
    clock = StageClock(synchronize=torch.device(synchronize) if synchronize else None)
    stages.run_stages(restorer, Channel(4), read=list, write=write, model=model, clock=clock)
    assert timed == ([clock] if is_timed else [])


def test_the_models_time_includes_the_copy_to_the_host(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's work is over when its frames are on the host, so no waiting is needed to count it."""
    clock, now = StageClock(), [0.0]
    monkeypatch.setattr(StageClock, "now", lambda self: now[0])

    def slow_copy(self: HostCopier, batches: Iterator[Tensor]) -> Iterator[Tensor]:
        for batch in batches:
            now[0] += 1.0
            yield batch

    monkeypatch.setattr(HostCopier, "copy", slow_copy)
    upscale_file(clip, tmp_path / "out.mp4", model=StandIn(), options=OPTIONS, clock=clock)
    assert clock.seconds["model"] >= 10


@pytest.mark.parametrize(
    ("device", "size", "chunk_len", "expected"),
    [
        ("cpu", (720, 1280), 33, 4),
        ("cuda", (720, 1280), 33, 33),  # all of a chunk
        ("cuda", (2160, 3840), 33, 21),  # two GiB of it
        ("cuda", (4320, 7680), 33, 5),
        ("cuda", (720, 1280), 1, 4),
    ],
)
def test_a_chunk_may_wait_beside_a_gpu(
    device: str, size: tuple[int, int], chunk_len: int, expected: int
) -> None:
    decided: Any = SimpleNamespace(
        target=SimpleNamespace(height=size[0], width=size[1]), plan=SimpleNamespace(chunk_len=chunk_len)
    )
    assert queued_frames(decided, torch.device(device)) == expected
