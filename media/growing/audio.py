"""The sound of a growing stream: the source's main audio track as a fragmented MP4 of its own.

Needs PyAV, so workers run it; what serves the file needs only its index.
"""

import contextlib
import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal

import av
from av.container import OutputContainer

from media._copied_audio import CopiedAudio
from media._output_range import OutputRange
from media._syncing import sync_directory
from media._tracks import SourceStream, Track
from media._transcoded_audio import TranscodedAudio, sound_changes
from media.containers import MP4
from media.derived_names import beside
from media.errors import EncodeError
from media.growing.boxes import descend, only, scan_file, unpack
from media.growing.index import SegmentIndex, index_segment
from media.info import AudioStreamInfo, MediaInfo
from media.probing import probe
from media.writer import MOVIE_TIMESCALE

# What browsers play from MP4 in <video> and in Media Source Extensions alike. Chromium 156 refuses MP3, AC-3
# and ALAC there, so these are encoded although the final file has them as they are.
_COPIED_CODECS = frozenset({"aac", "flac", "opus"})

# Short, since the sound of a time is sent only when all of its fragment's picture exists: with 1 s a player
# waits at most that long for it. A header of about 300 bytes per second is the price.
_FRAGMENT_SECONDS = 1

# As for segments, but audio has no keyframes to cut at. See `media.writer` for what they do.
_MOVFLAGS = "empty_moov+default_base_moof+delay_moov+frag_discont"

# ftyp and moov of an audio file have about a kilobyte, more with large codec settings.
_MAX_INIT_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class AudioTrackInfo:
    """A finished audio file."""

    path: Path
    source_index: int
    """Of the stream in the source file."""
    source_codec: str
    action: Literal["copied", "transcoded"]
    detail: str
    """What was lost on the way, in words for the user."""
    index: SegmentIndex


def extract_audio(
    source: MediaInfo | Path | str,
    destination: Path,
    *,
    start_seconds: Fraction | None = None,
    duration_seconds: Fraction | None = None,
) -> AudioTrackInfo | None:
    """Write the default audio track, or the first that has sound, as one fragmented MP4 for players.

    AAC is copied, and so are FLAC and Opus if they are not cut at the front; the rest is encoded to AAC. Zero
    is the same instant as in the file of `join_segments` called with the same range, and the sound lies where
    it lies there. Needs little memory for any length, and no process or network. The file is written to
    `<destination>.part` and renamed when it is whole.

    Args:
        source: What `probe` said about the source file, or its path.
        destination: An existing file is replaced.
        start_seconds: Where in the source the video starts, after the container's own start; None is 0.
        duration_seconds: Length of the video; None is to the source's end.

    Returns:
        What was written, None (and no file) where there is no sound.

    Raises:
        UnreadableInputError: The source cannot be opened.
        EncodeError: The file cannot be written. Nothing is left of it.
    """
    info = source if isinstance(source, MediaInfo) else probe(source)
    output_range = OutputRange.of_source(info, start_seconds, duration_seconds)
    for stream in _candidates(info):
        track = _open_track(info, stream, output_range)
        if track is None:
            continue
        with contextlib.closing(track):
            if not track.is_empty:
                _write(track, Path(destination))
                outcome = track.outcome()
                return AudioTrackInfo(
                    path=Path(destination),
                    source_index=stream.index,
                    source_codec=stream.codec,
                    action="copied" if isinstance(track, CopiedAudio) else "transcoded",
                    detail=outcome.detail,
                    index=index_segment(Path(destination)),
                )
    return None


def _candidates(info: MediaInfo) -> list[AudioStreamInfo]:
    """The streams that can be decoded, default ones first."""
    playable = [
        stream
        for stream in info.audio
        if stream.codec != "unknown" and stream.index not in info.other_programmes
    ]
    return sorted(playable, key=lambda stream: "default" not in stream.disposition)


def _open_track(info: MediaInfo, stream: AudioStreamInfo, output_range: OutputRange) -> Track | None:
    opened = SourceStream(info, stream.index, output_range)
    # Copied packets begin up to 0.1 s before a cut. FFmpeg's demuxer hides the surplus of AAC, but of others
    # only in files that are not fragmented; so those are cut by encoding.
    copied = {"aac"} if output_range.is_cut else _COPIED_CODECS
    changes = sound_changes(opened)
    if changes.is_encrypted:
        opened.close()
        return None
    if changes.is_steady and opened.codec_name in copied and MP4.takes(opened.stream, opened.codec_name):
        return CopiedAudio(opened)
    return TranscodedAudio(opened, changes)


def _write(track: Track, destination: Path) -> None:
    part = beside(destination, ".part")
    try:
        with _open_output(part) as output:
            track.add_to(output)
            shift = _mux(track, output)
        with part.open("rb+") as file:
            _write_edit(file, shift)
            os.fsync(file.fileno())
        part.replace(destination)
        sync_directory(destination.parent)
    except (av.FFmpegError, OSError) as error:
        raise EncodeError(f"cannot write {destination}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _open_output(part: Path) -> OutputContainer:
    options = {
        "movflags": _MOVFLAGS,
        "movie_timescale": str(MOVIE_TIMESCALE),
        "frag_duration": str(_FRAGMENT_SECONDS * 1_000_000),
    }
    return av.open(str(part.absolute()), "w", format="mp4", options=options)


def _mux(track: Track, output: OutputContainer) -> int:
    """Write all packets, shifted so that the first is not before 0.

    A fragment's time (tfdt) is unsigned, so a decoder's priming, which comes before 0, cannot be written as
    it is; an edit that begins behind it takes the shift back.

    Returns:
        The shift in ticks of the packets' time base, one sample.
    """
    shift: int | None = None
    for _, packet in track.packets():
        assert packet.pts is not None
        if shift is None:
            shift = max(0, -packet.pts)
        packet.pts += shift
        packet.dts = packet.pts
        output.mux_one(packet)
    return shift or 0


def _write_edit(file: BinaryIO, media_time: int) -> None:
    """Make the only edit of the file's init begin at a media time."""
    moov = only(list(islice(scan_file(file), 2)), "moov")  # behind ftyp
    file.seek(0)
    init = file.read(min(moov.end, _MAX_INIT_BYTES))
    elst = descend(init, moov, "trak", "edts", "elst")
    version_and_flags, count = unpack("II", init, elst)
    if version_and_flags != 0 or count != 1:
        raise EncodeError(
            f"the muxer wrote {count} edits of version {version_and_flags >> 24}, expected 1 of 0"
        )
    file.seek(elst.body + 12)
    file.write(struct.pack(">i", media_time))
    file.flush()
