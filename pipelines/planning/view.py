"""The view of the whole frame that tiles get: its settings and its size; without torch, for the planner."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt

Size = tuple[int, int]


class ViewSettings(BaseModel):
    """A view of the whole frame for tiles, as `dovetail.json` has it.

    Attributes:
        tokens: Of a frame of the view at most. 1,024 is 512 x 512 pixels of CogVideoX, PatchVSR's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: PositiveInt = 1024


def view_size(frame: Size, *, tokens: int, alignment: int) -> Size:
    """Pixels of the view of a frame: about its shape, so many whole tokens at most, no side larger than its.

    Args:
        frame: Height and width of the padded frame, pixels.
        tokens: Of the view at most, 1 or more.
        alignment: Pixels of a token's side.
    """
    rows, cols = (max(side // alignment, 1) for side in frame)
    shrink = min(1.0, (tokens / (rows * cols)) ** 0.5)
    # The shorter side loses most by rounding down; the longer one follows it.
    short, long = min(rows, cols), max(rows, cols)
    height = max(int(short * shrink), 1)
    width = min(round(long * height / short), tokens // height)
    if rows > cols:
        height, width = width, height
    return height * alignment, width * alignment
