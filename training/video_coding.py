"""Frames through a video encoder and back, in memory, and those of a file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

FRAMES_PER_SECOND = 25
# The default conversions are biased by half a level in luma, which a network would learn to take back.
ACCURATE = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)
# Fast settings, as most services encode.
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "veryfast"},
    # With its tree, x265 4.2 writes past the end of its memory where a picture is 33 to 48 pixels wide.
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:pools=none:frame-threads=1:cutree=0"},
}


def encode_video(
    frames: np.ndarray,
    *,
    codec: str,
    bits_per_pixel: float = 0.1,
    crf: float | None = None,
    options: Mapping[str, str] | None = None,
) -> bytes:
    """Encodes frames as 4:2:0 at 25 fps.

    Args:
        frames: (F, H, W, 3), uint8, H and W even.
        codec: An encoder name of FFmpeg.
        bits_per_pixel: Rate control by bit rate, unless crf is given.
        crf: Constant rate factor (libx264, libx265).
        options: More options of the encoder, by FFmpeg's names.

    Returns:
        A Matroska file.
    """
    height, width = frames.shape[1:3]
    buffer = io.BytesIO()
    to_yuv = VideoReformatter()
    with av.open(buffer, "w", format="matroska") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=FRAMES_PER_SECOND))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        rate: dict[str, str] = {} if crf is None else {"crf": f"{crf:.1f}"}
        stream.options = {**_options(codec, len(frames)), **rate, **(options or {})}
        if crf is None:
            stream.bit_rate = max(4000, int(bits_per_pixel * width * height * FRAMES_PER_SECOND))
        stream.codec_context.time_base = Fraction(1, FRAMES_PER_SECOND)
        for index, array in enumerate(frames):
            # Converted here: the encoder's own conversion leaves padding unset, and x264's bits vary with it.
            rgb = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame = to_yuv.reformat(rgb, format="yuv420p", interpolation=ACCURATE, threads=1)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def _options(codec: str, num_frames: int) -> dict[str, str]:
    options = dict(_OPTIONS.get(codec, {}))
    if codec == "libx265" and num_frames == 1:
        # With B-frames, x265 leaves the decoding time of a clip's only frame unset; it cannot be muxed.
        options["x265-params"] += ":bframes=0"
    return options


def decode_video(coded: bytes, num_frames: int) -> np.ndarray:
    """Decodes what `encode_video` made.

    Args:
        coded: The file.
        num_frames: Frames that went in. A low-delay encoder may drop one at starvation rates: the last one
            then stands longer, as a player would show it.

    Returns:
        (num_frames, H, W, 3), uint8.
    """
    to_rgb = VideoReformatter()
    with av.open(io.BytesIO(coded), "r") as container:
        decoded = [
            to_rgb.reformat(frame, format="rgb24", interpolation=ACCURATE, threads=1).to_ndarray()
            for frame in container.decode(video=0)
        ]
    decoded += [decoded[-1]] * (num_frames - len(decoded))
    return np.stack(decoded[:num_frames])


def decode_frames(path: Path, max_frames: int) -> np.ndarray:
    """The first frames of a video, (F, H, W, 3) uint8 RGB."""
    reformatter = VideoReformatter()
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(
                reformatter.reformat(frame, format="rgb24", interpolation=ACCURATE, threads=1).to_ndarray()
            )
            if len(frames) == max_frames:
                break
    return np.stack(frames)
