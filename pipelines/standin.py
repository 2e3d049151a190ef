"""A stand-in model that takes time and no processor, as a GPU does from the host's view.

It is for load tests, and for measuring how a queue of workers scales on a machine with fewer cores than
workers. Its name says what it does: `standin:sleep=0.05` or `standin:sleep=0.05,scale=2`. It is loaded by
that name only, and listed nowhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.clip_checks import check_chunk, to_float
from pipelines.errors import InvalidOptionError
from pipelines.model import Model, ModelCard
from pipelines.planning.frame_plan import FrameShape
from pipelines.planning.plan import ChunkPlan

STANDIN_PREFIX = "standin:"
DEFAULT_SCALE = 4
# More would be a mistyped number; a slow model takes a few seconds a frame.
MAX_SLEEP_SECONDS = 60.0


class StandinModel(Model):
    """Enlarges by repeating pixels, and sleeps for each frame. Frames do not depend on one another.

    Args:
        name: `standin:` and, separated by commas, `sleep=SECONDS` (default 0) and `scale=FACTOR` (default 4).

    Raises:
        InvalidOptionError: If the name says anything else.
    """

    def __init__(self, name: str = STANDIN_PREFIX) -> None:
        self.sleep_seconds, scale = parse_standin(name)
        card = ModelCard(name=name, kind="standin", scale=scale, licence="none needed")
        super().__init__(card, FrameShape(), torch.device("cpu"), torch.float32)

    def restore(
        self,
        clip: Tensor,
        size: tuple[int, int],
        plan: ChunkPlan,
        *,
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """See `Model.restore`; one frame at a time."""
        check_chunk(clip, size)
        for frame in clip:
            time.sleep(self.sleep_seconds)
            yield F.interpolate(to_float(frame[None], self.device), size=size, mode="nearest-exact")


def parse_standin(name: str) -> tuple[float, int]:
    """The seconds of sleep and the scale that a name asks for, see `StandinModel`.

    Raises:
        InvalidOptionError: If the name says anything else.
    """
    values = {"sleep": 0.0, "scale": float(DEFAULT_SCALE)}
    for part in filter(None, name.removeprefix(STANDIN_PREFIX).split(",")):
        key, _, text = part.partition("=")
        value = _number(text)
        if key not in values or value is None:
            raise InvalidOptionError(f"{part!r} in {name!r} is neither sleep=SECONDS nor scale=FACTOR")
        values[key] = value
    if values["scale"] < 1 or values["scale"] != int(values["scale"]):
        raise InvalidOptionError(f"scale must be a whole number of at least 1, got {values['scale']:g}")
    if not 0 <= values["sleep"] <= MAX_SLEEP_SECONDS:
        raise InvalidOptionError(f"sleep must lie in 0-{MAX_SLEEP_SECONDS:g} s, got {values['sleep']:g}")
    return values["sleep"], int(values["scale"])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
