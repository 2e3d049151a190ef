"""What readers give."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture and when it is shown."""

    image: Tensor
    """(3, H, W), float32, R'G'B' code values in [0, 1], on the CPU, own memory."""
    pts: int
    """In ticks of the reader's time base, at least 0, larger than the frame's before."""
    duration: int
    """In ticks, at least 1."""
    captions: bytes = b""
    """Closed captions inside the video, as triplets of ATSC A/53 part 4; empty where there are none."""
    alpha: Tensor | None = None
    """(1, H, W), float32, [0, 1], how opaque the straight colours of `image` are; None where nobody asked."""
