"""Why a video stream gives not one picture, where the file tells."""

from pathlib import Path

from media._decoder import StreamDecoder, encryption_message
from media._matroska import read_tracks
from media._notes import Notes
from media.errors import MediaError, NoFramesError, UnsupportedCodecError
from media.picture_files import is_animated_webp


def explain_no_picture(path: Path, decoder: StreamDecoder, notes: Notes) -> MediaError:
    """The error for a stream that was read without a picture."""
    if is_animated_webp(path):
        return UnsupportedCodecError(
            f"'{path.name}' is an animated WebP, which cannot be decoded here; convert it to GIF, APNG or MP4"
        )
    if "matroska" in decoder.container.format.name:
        tracks = read_tracks(path)
        if decoder.stream.index < len(tracks) and tracks[decoder.stream.index].is_encrypted:
            return UnsupportedCodecError(encryption_message(path))
    damage = f" ({notes[0]})" if notes else ""
    return NoFramesError(
        f"the video stream of '{path.name}' gives no picture{damage}; it is empty or damaged beyond reading"
    )
