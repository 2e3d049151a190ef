"""How far a run is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

RunStage = Literal["planning", "upscaling", "joining"]


@dataclass(frozen=True)
class Progress:
    """A moment of a run.

    Attributes:
        stage: What is being done.
        num_done: Frames written, with those of an earlier run.
        num_total: Frames expected, an estimate; None where the source does not say.
        num_resumed: Frames of an earlier run.
    """

    stage: RunStage
    num_done: int = 0
    num_total: int | None = None
    num_resumed: int = 0


ProgressCallback = Callable[[Progress], None]
"""Called from several threads, one at a time; must be quick."""
