"""Closed captions inside the video (CEA-608 and CEA-708): those of each frame.

FFmpeg gives a frame's captions as the `cc_data_pkt` triplets of ATSC A/53 part 4, section 6.2.3
(https://www.atsc.org/atsc-documents/a53-atsc-digital-television-standard/), whatever the codec wraps them in.
"""

from collections import deque
from collections.abc import Iterable
from typing import cast

from av.sidedata.sidedata import SideData, Type
from av.video.frame import VideoFrame

TRIPLET_BYTES = 3

MAX_TRIPLETS = 31
"""In one message: `cc_count` has five bits."""

MAX_CAPTION_BYTES = 16 * MAX_TRIPLETS * TRIPLET_BYTES
"""Of one frame. Two fields with a full message each have an eighth of it."""

CAPTION_IDENTIFIER = b"GA94\x03"
"""`user_identifier` and `user_data_type_code` in front of captions, in every codec that carries them."""


UNREADABLE_WARNING = (
    "closed captions of some frames are lost: other data that come with them cannot be read by this version"
)


def captions_of(frame: VideoFrame) -> bytes | None:
    """The captions that come with a decoded frame.

    Returns:
        Triplets of A/53 in their order, at most `MAX_CAPTION_BYTES`; empty where there are none, and None
        where it cannot be told.
    """
    try:
        kinds = cast(Iterable[SideData], frame.side_data)  # the stubs know motion vectors only
        found = [bytes(data) for data in kinds if data.type is Type.A53_CC]
    except ValueError:
        # PyAV stops at a kind it has no name for, so what comes with it cannot be had one by one.
        return None
    if not found:
        return b""
    captions = b"".join(found)[:MAX_CAPTION_BYTES]
    return captions[: len(captions) // TRIPLET_BYTES * TRIPLET_BYTES]


class CaptionQueue:
    """Captions on their way past what makes two frames of one: they go on with the first of the two."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, bytes]] = deque()

    def put(self, pts: int, captions: bytes) -> None:
        """Keep a frame's captions.

        Args:
            pts: That the frame, or the first of those it becomes, will have; larger than those before.
            captions: From `captions_of`.
        """
        if captions:
            self._waiting.append((pts, captions))

    def take(self, pts: int) -> bytes:
        """The captions of the frame with this pts; what waited for earlier ones that never came is gone."""
        while self._waiting and self._waiting[0][0] <= pts:
            at, captions = self._waiting.popleft()
            if at == pts:
                return captions
        return b""
