"""Room for the output, judged before the work begins. Encoded sizes are guesses, so only the hopeless is
refused."""

from __future__ import annotations

import shutil
from pathlib import Path

from workers.errors import DiskFullError, OutputFolderError

# Bits per pixel of upscaled, sharp video: 0.14 measured for H.264 at crf 18 and 1080p, far less for still
# pictures.
USUAL_BITS_PER_PIXEL = 0.3
LEAST_BITS_PER_PIXEL = 0.01
# Segments and the joined file lie side by side until the join is done.
NUM_COPIES = 2
SPARE_BYTES = 16 << 20


def check_room(folder: Path, *, num_pixels: int) -> str | None:
    """Looks whether an output of so many pixels (over all frames) fits.

    Returns:
        A warning when it may become tight, or None.

    Raises:
        DiskFullError: If it cannot fit.
        OutputFolderError: If the folder cannot be asked.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputFolderError(f"cannot use the folder {folder}: {error.strerror or error}") from error
    least = num_pixels * LEAST_BITS_PER_PIXEL / 8 * NUM_COPIES + SPARE_BYTES
    usual = num_pixels * USUAL_BITS_PER_PIXEL / 8 * NUM_COPIES + SPARE_BYTES
    if free < least:
        raise DiskFullError(
            f"{free / 1e6:.0f} MB are free in {folder} and the output needs at least {least / 1e6:.0f} MB "
            "(finished segments and the final file lie side by side for a while); free some space or choose "
            "another folder"
        )
    if free < usual:
        return (
            f"{free / 1e6:.0f} MB are free in {folder}; the output and its segments may need "
            f"{usual / 1e6:.0f} MB. If the disk fills up, finished segments stay and --resume continues"
        )
    return None
