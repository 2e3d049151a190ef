"""Video files for the reading tests: tiny, made on the spot, each odd in one way."""

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.format import VideoFormat
from numpy.typing import NDArray

from media._scheduling import ordinary_scheduling

WIDTH, HEIGHT = 64, 48
RATE = 25

Plane = NDArray[np.uint8] | NDArray[np.uint16]
Planes = Sequence[Plane]

X264_LOSSLESS = {"qp": "0", "preset": "ultrafast", "bf": "0"}


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Colour code points of H.273, and 1 for limited, 2 for full range."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    range: int = 0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """How a test clip is stored."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    width: int = WIDTH
    height: int = HEIGHT
    rate: Fraction = Fraction(RATE)
    time_base: Fraction | None = None
    """Of `pts`; one frame at `rate` if None."""
    options: dict[str, str] = field(default_factory=dict)
    gop: int = 12
    num_b_frames: int = 0
    tags: Tags = Tags()
    sample_aspect_ratio: Fraction | None = None
    display_matrix: Sequence[int] | None = None
    format: str | None = None
    container_options: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    field_order: Literal["tff", "bff"] | None = None
    """Interlaced, and which field comes first."""
    codec_tag: str | None = None


def write_clip(
    path: Path,
    frames: Iterable[Planes],
    clip: Clip | None = None,
    *,
    pts: Sequence[int] | None = None,
    last_duration: int | None = None,
) -> Path:
    """Encode frames given as planes (padding excluded), each at its pts."""
    clip = clip or Clip()
    with ordinary_scheduling():  # SVT-AV1 would leave this process with real-time priority
        _encode(path, list(frames), clip, pts, last_duration)
    return path


def _encode(
    path: Path, planes: list[Planes], clip: Clip, pts: Sequence[int] | None, last_duration: int | None
) -> None:
    time_base = clip.time_base or 1 / clip.rate
    times = list(pts) if pts is not None else list(range(len(planes)))
    with av.open(
        str(path),
        "w",
        format=clip.format,
        options={"movie_timescale": "90000"} | clip.container_options
        if _is_mp4(path, clip)
        else clip.container_options,
    ) as output:
        output.metadata.update(clip.metadata)
        stream = output.add_stream(clip.codec, rate=clip.rate, options=clip.options)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, clip.pix_fmt
        stream.time_base = time_base
        context = stream.codec_context
        context.time_base = time_base
        context.thread_count = 1
        context.gop_size = clip.gop
        context.max_b_frames = clip.num_b_frames
        context.flags |= 256  # keep frame durations
        tags = clip.tags
        context.colorspace, context.color_primaries = tags.matrix, tags.primaries
        context.color_trc, context.color_range = tags.transfer, tags.range
        if clip.codec_tag is not None:
            context.codec_tag = clip.codec_tag
        if clip.sample_aspect_ratio is not None:
            context.sample_aspect_ratio = clip.sample_aspect_ratio
        if clip.field_order is not None:
            context.flags |= 1 << 18 | 1 << 29  # interlaced DCT and motion estimation
        if clip.display_matrix is not None:
            stream.set_display_matrix(clip.display_matrix)
        for number, (picture, time) in enumerate(zip(planes, times, strict=True)):
            frame = frame_of(picture, clip.pix_fmt, clip.width, clip.height, tags)
            frame.pts, frame.time_base = time, time_base
            is_last = number + 1 == len(planes)
            after = time + (last_duration or 1) if is_last else times[number + 1]
            frame.duration = max(1, after - time)
            output.mux(
                stream.encode(frame if clip.field_order is None else flag_fields(frame, clip.field_order))
            )
        output.mux(stream.encode(None))


def flag_fields(frame: av.VideoFrame, order: Literal["tff", "bff"]) -> av.VideoFrame:
    """The frame marked as interlaced: PyAV reads the flags but cannot set them, a filter can."""
    graph = av.filter.Graph()
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base),
        pixel_aspect="1/1",
    )
    setter, sink = graph.add("setparams", f"field_mode={order}"), graph.add("buffersink")
    graph.link_nodes(source, setter, sink).configure()
    source.push(frame)
    flagged = sink.pull()
    assert isinstance(flagged, av.VideoFrame)
    return flagged


def _is_mp4(path: Path, clip: Clip) -> bool:
    return (clip.format or path.suffix.lstrip(".")) in ("mp4", "mov")


def frame_of(
    planes: Planes, pix_fmt: str, width: int, height: int, tags: Tags | None = None
) -> av.VideoFrame:
    """A frame filled with the given planes."""
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, samples in zip(frame.planes, planes, strict=True):
        stride = plane.line_size // samples.itemsize
        target = np.frombuffer(plane, samples.dtype).reshape(-1, stride)
        target[: samples.shape[0], : samples.shape[1]] = samples
    if tags is not None:
        frame.colorspace, frame.color_primaries = tags.matrix, tags.primaries
        frame.color_trc, frame.color_range = tags.transfer, tags.range
    return frame


def plane_shapes(pix_fmt: str, width: int, height: int) -> list[tuple[int, int]]:
    """Rows and samples per row of each plane."""
    layout = VideoFormat(pix_fmt, width, height)
    frame = av.VideoFrame(width, height, pix_fmt)
    if not layout.is_planar or len(frame.planes) == 1:
        return [(height, width * len(layout.components))]
    return [(plane.height, plane.width) for plane in frame.planes]


def moving_picture(
    number: int, *, pix_fmt: str = "yuv420p", width: int = WIDTH, height: int = HEIGHT
) -> Planes:
    """A planar picture with detail that differs from frame to frame, within the limited range."""
    layout = VideoFormat(pix_fmt, width, height)
    bits = layout.components[0].bits
    dtype = np.uint16 if bits > 8 else np.uint8
    planes: list[Plane] = []
    for index, (rows, columns) in enumerate(plane_shapes(pix_fmt, width, height)):
        y, x = np.mgrid[0:rows, 0:columns]
        wave = np.sin((x + 2.0 * number) / (3 + index)) + np.cos((y - number) / (4 + index))
        levels = 126 + 50 * wave / 2 + 10 * (number % 5)
        planes.append((levels * 2 ** (bits - 8)).astype(dtype))
    return planes


def moving_pictures(count: int, **kwargs: Any) -> list[Planes]:
    """`count` of them."""
    return [moving_picture(number, **kwargs) for number in range(count)]


def flat_picture(values: Sequence[int], *, pix_fmt: str, width: int = WIDTH, height: int = HEIGHT) -> Planes:
    """One value per plane."""
    dtype = np.uint16 if VideoFormat(pix_fmt, width, height).components[0].bits > 8 else np.uint8
    shapes = plane_shapes(pix_fmt, width, height)
    return [np.full(shape, value, dtype) for shape, value in zip(shapes, values, strict=True)]


def field_pictures(count: int, *, width: int = WIDTH, height: int = HEIGHT) -> list[Planes]:
    """Full frames at twice the frame rate, moving: the original of an interlaced clip."""
    pictures: list[Planes] = []
    for number in range(count):
        y, x = np.mgrid[0:height, 0:width]
        luma = 126 + 60 * np.sin((x - 2.0 * number) / 5) * np.cos(y / 6 + 0.3)
        chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
        pictures.append([luma.astype(np.uint8), chroma, chroma])
    return pictures


def interlace(fields: Sequence[Planes], *, is_top_first: bool) -> list[Planes]:
    """Weave pairs of full frames into one frame each."""
    woven: list[Planes] = []
    for first, second in zip(fields[0::2], fields[1::2], strict=True):
        top, bottom = (first, second) if is_top_first else (second, first)
        planes: list[Plane] = []
        for upper, lower in zip(top, bottom, strict=True):
            plane = upper.copy()
            plane[1::2] = lower[1::2]
            planes.append(plane)
        woven.append(planes)
    return woven


def remux(
    source: Path,
    target: Path,
    *,
    change: Callable[[Any, int], bool] | None = None,
    options: dict[str, str] | None = None,
    format: str | None = None,
) -> Path:
    """Copy the video packets; `change(packet, number)` may alter one and returns whether to keep it."""
    with (
        av.open(str(source)) as reading,
        av.open(str(target), "w", format=format, options=options or {}) as writing,
    ):
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in reading.demux(stream) if p.size):
            if change is None or change(packet, number):
                packet.stream = copy
                writing.mux(packet)
    return target


def add_origin(ticks: int) -> Callable[[Any, int], bool]:
    """For `remux`: shift every time stamp."""

    def change(packet: Any, number: int) -> bool:
        packet.pts += ticks
        packet.dts += ticks
        return True

    return change


def png(width: int, height: int, pix_fmt: str, planes: Planes) -> bytes:
    """A PNG picture."""
    target = io.BytesIO()
    with av.open(target, "w", format="image2pipe") as output:
        stream = output.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        output.mux(stream.encode(frame_of(planes, pix_fmt, width, height)))
        output.mux(stream.encode(None))
    return target.getvalue()
