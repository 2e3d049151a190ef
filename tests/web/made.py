"""Small videos for the page: an upload, and what becomes of it, segment by segment."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from media import ColorTags, EncodeOptions, SegmentWriter, VideoFormat

FPS = 24
NUM_FRAMES = 96
SEGMENT_FRAMES = 12
WIDTH, HEIGHT, SCALE = 160, 90, 2

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Clip:
    """A job's files. `segments` begin with an init each, which ends at `init_sizes`; `codecs` as in HLS."""

    source: Path
    segments: tuple[bytes, ...]
    init_sizes: tuple[int, ...]
    codecs: str
    output: bytes
    previews: dict[str, bytes]


def make_clip(folder: Path) -> Clip:
    """Four seconds of a bar that crosses a gradient."""
    source = folder / "clip.mp4"
    _encode(source, pictures(1))
    segments = list(_write_segments(folder, pictures(SCALE)))
    data = [path.read_bytes() for path in segments]
    sizes = [part.index(b"moof") - 4 for part in data]
    box = data[0].index(b"avcC")
    profile = data[0][box + 5 : box + 8]
    whole = data[0] + b"".join(part[size:] for part, size in zip(data[1:], sizes[1:], strict=True))
    output = folder / "output.mp4"
    _remux(whole, output)
    return Clip(
        source=source,
        segments=tuple(data),
        init_sizes=tuple(sizes),
        codecs=f"avc1.{profile.hex()}",
        output=output.read_bytes(),
        previews={
            "before": _jpeg(next(pictures(1)), WIDTH * SCALE, HEIGHT * SCALE),
            "after": _jpeg(next(pictures(SCALE)), WIDTH * SCALE, HEIGHT * SCALE),
        },
    )


def pictures(scale: int) -> Iterator[Picture]:
    """Frames, (H, W, 3), R'G'B'."""
    width, height = WIDTH * scale, HEIGHT * scale
    for index in range(NUM_FRAMES):
        picture = np.empty((height, width, 3), np.uint8)
        picture[..., 0] = np.linspace(30, 90, width)[None]
        picture[..., 1] = np.linspace(60, 120, height)[:, None]
        picture[..., 2] = 110
        left = (width - width // 8) * index // NUM_FRAMES
        picture[:, left : left + width // 8] = 235
        yield picture


def encode_long(path: Path) -> None:
    """An upload of twelve seconds: a real server makes several segments of it."""
    _encode(path, (picture for _ in range(3) for picture in pictures(1)))


def _encode(path: Path, frames: Iterator[Picture]) -> None:
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _write_segments(folder: Path, frames: Iterator[Picture]) -> Iterator[Path]:
    video_format = VideoFormat(
        width=WIDTH * SCALE,
        height=HEIGHT * SCALE,
        time_base=Fraction(1, FPS),
        rate=Fraction(FPS),
        color=ColorTags(),
    )
    for first in range(0, NUM_FRAMES, SEGMENT_FRAMES):
        path = folder / f"{first:06d}.mp4"
        with SegmentWriter(path, video_format, EncodeOptions(preset="ultrafast")) as writer:
            for pts in range(first, first + SEGMENT_FRAMES):
                picture = torch.from_numpy(next(frames)).permute(2, 0, 1).float() / 255
                writer.write(picture.contiguous(), pts, 1)
        yield path


def _remux(data: bytes, path: Path) -> None:
    with (
        av.open(io.BytesIO(data), "r") as source,
        av.open(str(path), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)


def _jpeg(picture: Picture, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((width, height)).save(buffer, "JPEG")
    return buffer.getvalue()
