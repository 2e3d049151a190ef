"""Which of several video streams is the film, and how that is said. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VideoCandidate:
    """A video stream as the container describes it."""

    index: int
    """Position among all streams."""
    codec: str
    width: int
    height: int
    num_frames: int
    """As stated or counted; 0 where nothing tells."""
    is_picture: bool
    """An attached picture or a thumbnail, by its flags."""
    is_default: bool

    @property
    def words(self) -> str:
        """For messages: "1 (h264 128x96)"."""
        return f"{self.index} ({self.codec} {self.width}x{self.height})"


def rank_streams(candidates: Sequence[VideoCandidate]) -> list[VideoCandidate]:
    """The candidates, the most likely film first.

    A stream of one frame beside others with more is a thumbnail whatever its flags say: the first item of an
    AVIF sequence is one, and it is the default stream.
    """
    has_moving = any(candidate.num_frames > 1 for candidate in candidates)

    def key(candidate: VideoCandidate) -> tuple[bool, bool, bool, int, int]:
        is_still = has_moving and candidate.num_frames == 1
        amount = candidate.width * candidate.height * max(1, candidate.num_frames)
        return (candidate.is_picture, is_still, not candidate.is_default, -amount, candidate.index)

    return sorted(candidates, key=key)


def describe_choice(index: int, candidates: Sequence[VideoCandidate]) -> str | None:
    """What to tell of the choice; None where there was none. Cover pictures are no choice."""
    chosen = next(candidate for candidate in candidates if candidate.index == index)
    others = [c for c in candidates if c.index != index and not c.is_picture]
    if not others:
        return None
    listed = ", ".join(candidate.words for candidate in others)
    return (
        f"the file has {len(others) + 1} video streams; stream {chosen.words} is taken, not {listed}; "
        "--video-stream (video_stream in the API) takes another"
    )
