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

from pipelines.dove.geometry import check_clip
from pipelines.dove.options import DoveOptions
from pipelines.errors import InvalidOptionError, UnsupportedSizeError
from pipelines.planning.diffusion import UpscalePlan

STANDIN_PREFIX = "standin:"
DEFAULT_SCALE = 4
# More would be a mistyped number; a slow model takes a few seconds a frame.
MAX_SLEEP_SECONDS = 60.0


class SleepPipeline:
    """Enlarges by repeating pixels, and sleeps for each frame. Frames do not depend on one another.

    Args:
        sleep_seconds: For each frame, 0-60.

    Raises:
        InvalidOptionError: If it is outside.
    """

    def __init__(self, sleep_seconds: float = 0.0) -> None:
        if not 0 <= sleep_seconds <= MAX_SLEEP_SECONDS:
            raise InvalidOptionError(f"sleep must lie in 0-{MAX_SLEEP_SECONDS:g} s, got {sleep_seconds:g}")
        self.sleep_seconds = sleep_seconds

    def stream(
        self,
        clip: torch.Tensor,
        *,
        height: int,
        width: int,
        options: DoveOptions | None = None,
        plan: UpscalePlan | None = None,
        generator: torch.Generator | None = None,
    ) -> Iterator[torch.Tensor]:
        """Hands out (1, 3, height, width), float32, [0, 1], frame by frame."""
        check_clip(clip)
        if min(height, width) < 1:
            raise UnsupportedSizeError(f"the target size must be positive, got {width}x{height}")
        return self._frames(clip, height, width)

    def _frames(self, clip: torch.Tensor, height: int, width: int) -> Iterator[torch.Tensor]:
        for frame in clip:
            time.sleep(self.sleep_seconds)
            image = frame.float() / 255 if frame.dtype == torch.uint8 else frame.float()
            yield F.interpolate(image[None], size=(height, width), mode="nearest-exact")


def parse_standin(name: str) -> tuple[SleepPipeline, int]:
    """The pipeline and the scale that a name asks for.

    Args:
        name: `standin:` and, separated by commas, `sleep=SECONDS` (default 0) and `scale=FACTOR` (default 4).

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
    return SleepPipeline(values["sleep"]), int(values["scale"])


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
