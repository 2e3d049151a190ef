"""Sources that are no video file yet: pictures and animations, packed into one for the time of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from media.derived_names import beside
from media.picture_files import is_animated_webp, is_tiled_still
from workers.run.access import IN_THIS_PROCESS, MediaAccess


@contextmanager
def packed_source(
    source: Path,
    destination: Path,
    *,
    pictures: Sequence[Path] = (),
    rate: Fraction = Fraction(25),
    access: MediaAccess = IN_THIS_PROCESS,
) -> Iterator[Path]:
    """A video file for a `with` block: the source itself, or what its pictures are packed into.

    Args:
        source: As it was named: a file, or a pattern or folder for `pictures`.
        destination: The output, in a folder that can be written to. The packed file, as large as its
            pictures, lies beside it meanwhile.
        pictures: The frames, if the source is a row of pictures.
        rate: Of them, frames per second.
        access: How pictures are read.

    Raises:
        UnreadableInputError: If a picture cannot be read.
        EncodeError: If the file cannot be written.
    """
    if not pictures and is_tiled_still(source):
        pictures = (source,)
    if not pictures and not is_animated_webp(source):
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=".dovetail-pictures-", dir=destination.parent) as temporary:
        # Named after the source: messages about the file name it.
        packed = beside(Path(temporary) / source.name.replace("%", "#"), ".mov")
        if pictures:
            access.pack_pictures(pictures, rate, packed)
        else:
            access.pack_animation(source, packed)
        yield packed
