"""Opening files whose sound begins minutes into the film: FFmpeg looks at the first seconds only."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from av.container import InputContainer

from media._decoder import has_decoder
from media._open import open_input
from media.limits import InputLimits

# An hour of a broadcast in standard definition, or some minutes in 4K; takes half a second.
_MAX_BYTES = 256 << 20


@contextmanager
def open_with_all_sound(
    path: str | Path, *, limits: InputLimits
) -> Iterator[tuple[InputContainer, int | None]]:
    """Open a file, and once more with a longer look where it announces sound that has not come yet.

    Yields:
        The file, and how far it had to be read: the `analysed_bytes` for `open_input`.
    """
    with open_input(path, limits=limits) as container:
        if not _has_unseen_sound(container):
            yield container, None
            return
    analysed_bytes = min(_MAX_BYTES, max(Path(path).stat().st_size, 1 << 20))
    with open_input(path, limits=limits, analysed_bytes=analysed_bytes) as container:
        yield container, analysed_bytes


def _has_unseen_sound(container: InputContainer) -> bool:
    return any(has_decoder(s) and s.codec_context.sample_rate == 0 for s in container.streams.audio)
