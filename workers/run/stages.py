"""Reader, model and writer at the same time: the model in the caller's thread, the others beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext

import torch

from pipelines.freed_memory import return_freed_memory
from pipelines.model import Model
from pipelines.planning.host import usable_cpus
from workers.run.reading import SourceFrame
from workers.run.restoring import Restorer
from workers.run.threads import Channel, StageThreads
from workers.run.timing import StageClock
from workers.run.writing import FinishedFrame, SegmentEnd

# What torch found at the start of the process; it does not know of a container's limits.
_MODEL_THREADS = min(torch.get_num_threads(), usable_cpus())
# Reading and writing run beside the model, whose cores they should leave to it.
_SIDE_THREADS = max(1, _MODEL_THREADS // 4)


def run_stages(
    restorer: Restorer,
    finished: Channel[FinishedFrame | SegmentEnd],
    *,
    read: Callable[[], Iterable[SourceFrame]],
    write: Callable[[Iterable[FinishedFrame | SegmentEnd]], None],
    model: Model,
    clock: StageClock,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Restores all frames that are read, and writes them. An error of one stage ends all and is raised.

    Args:
        restorer: Puts into `finished`.
        finished: What waits to be written; as many source frames may wait for the model.
        read: Begins to read; called in a thread of its own, like `write`.
        write: Takes what is finished.
        model: The restorer's, to be timed.
        clock: Counts the time of its parts where it can.
        check: Called in this thread before each frame is taken and after the last; what it raises ends the
            run.
    """
    _use_threads(_MODEL_THREADS)
    source: Channel[SourceFrame] = Channel(finished.max_items)

    def read_all() -> None:
        _use_threads(_SIDE_THREADS)
        for frame in read():
            source.put(frame)
        source.finish()

    def write_all() -> None:
        _use_threads(_SIDE_THREADS)
        write(finished)

    def checked_source() -> Iterator[SourceFrame]:
        for frame in source:
            check()
            yield frame
        check()

    timed = model.timed(clock) if clock.can_time_parts_on(model.device) else nullcontext()
    try:
        with StageThreads(source, finished) as threads, timed:
            threads.start("reader", read_all)
            threads.start("writer", write_all)
            restorer.run(checked_source())
            finished.finish()
    finally:
        _use_threads(_MODEL_THREADS)
        return_freed_memory()


def _use_threads(count: int) -> None:
    """How many cores torch takes in this thread.

    The setting of one thread also becomes the default of threads that have not computed anything yet,
    whatever they set themselves; asking for it makes it final here.
    """
    torch.set_num_threads(count)
    torch.get_num_threads()
