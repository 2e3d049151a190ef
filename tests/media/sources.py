"""Source files and segments for the writing tests, small and made on the spot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.subtitles.subtitle import SubtitleSet

from media import (
    ColorTags,
    EncodeOptions,
    SegmentInfo,
    SegmentWriter,
    VideoFormat,
)

WIDTH, HEIGHT = 64, 48
SDR = ColorTags(1, 1, 1, full_range=False)
HDR10 = ColorTags(9, 9, 16, full_range=False)
HLG = ColorTags(9, 9, 18, full_range=False)

ASS_HEADER = (
    b"[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
    b"Style: Default,Arial,16\n[Events]\n"
    b"Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n\0"
)


def video_format(**changes: Any) -> VideoFormat:
    """A 64x48 video at 25 frames per second, with some fields changed."""
    fields: dict[str, Any] = {
        "width": WIDTH,
        "height": HEIGHT,
        "time_base": Fraction(1, 25),
        "rate": Fraction(25),
        "color": SDR,
    }
    return VideoFormat(**(fields | changes))


def picture(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> torch.Tensor:
    """(3, H, W) float32 in [0, 1]: a gradient that moves with the number."""
    x = torch.linspace(0, 1, width).expand(height, width)
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    return torch.stack([x, y, (x + y + number / 17) % 1.0]).contiguous()


def write_segment(
    path: Path,
    pts: Sequence[int],
    *,
    last_duration: int = 1,
    options: EncodeOptions | None = None,
    **changes: Any,
) -> SegmentInfo:
    """A segment with a frame at each pts."""
    layout = video_format(**changes)
    durations = [after - before for before, after in pairwise(pts)] + [last_duration]
    with SegmentWriter(path, layout, options or EncodeOptions(num_threads=1, preset="ultrafast")) as writer:
        for number, (start, duration) in enumerate(zip(pts, durations, strict=True)):
            image = picture(number + pts[0], width=layout.width, height=layout.height)
            writer.write(image, start, duration)
        return writer.close()


@dataclass(frozen=True)
class Sound:
    """An audio track: bursts of noise, the same on every channel."""

    codec: str
    rate: int = 48_000
    layout: str = "stereo"
    tags: dict[str, str] = field(default_factory=dict)
    disposition: int = 0
    start: float = 0.0
    """Seconds before the first sample."""


@dataclass(frozen=True)
class Text:
    """A subtitle track: (start ms, end ms, text with ASS markup)."""

    codec: str
    cues: Sequence[tuple[int, int, str]]
    tags: dict[str, str] = field(default_factory=dict)
    disposition: int = 0


def noise(seconds: float, rate: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Smoothed noise in bursts of 0.1 s, [-0.3, 0.3]: its correlation with itself has one sharp peak."""
    count = round(seconds * rate)
    window = np.hanning(31)
    rough = np.random.default_rng(0).standard_normal(count)
    smooth = np.convolve(rough, window / window.sum(), "same")
    smooth *= np.arange(count) // (rate // 10) % 3 == 0
    return np.asarray(0.3 * smooth / np.abs(smooth).max(), np.float32)


def make_source(
    path: Path,
    *,
    seconds: float = 2.0,
    origin: float = 0.0,
    sounds: Sequence[Sound] = (),
    texts: Sequence[Text] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    tags: dict[str, str] | None = None,
    cover: bool = False,
    is_badly_interleaved: bool = False,
    display_matrix: Sequence[int] | None = None,
) -> Path:
    """A file with a plain grey video and the given streams.

    Args:
        origin: Time stamp of everything's start, seconds.
        is_badly_interleaved: All audio behind all video.
    """
    with av.open(str(path), "w") as output:
        output.metadata.update(tags or {})
        video = output.add_stream("mpeg4", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if display_matrix is not None:
            video.set_display_matrix(display_matrix)
        encoders = [_add_sound(output, sound) for sound in sounds]
        writers = [_add_text(output, text) for text in texts]
        cover_stream = output.add_stream("png", rate=25) if cover else None
        if cover_stream is not None:
            cover_stream.width = cover_stream.height = 16
            cover_stream.pix_fmt = "rgb24"
            cover_stream.disposition = 1024
        if chapters:
            output.set_chapters(
                [
                    {
                        "id": number,
                        "start": round(start * 1000),
                        "end": round(end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for number, (start, end, title) in enumerate(chapters)
                ]
            )
        output.start_encoding()
        packets = _encode_video(video, seconds, origin)
        audio: list[Any] = []
        for encoder, sound in zip(encoders, sounds, strict=True):
            audio += _encode_sound(encoder, sound, seconds, origin)
        for writer, text in zip(writers, texts, strict=True):
            packets += _encode_text(writer, text, origin)
        if cover_stream is not None:
            packets += cover_stream.encode(_cover_frame()) + cover_stream.encode(None)
        if is_badly_interleaved:
            ordered = packets + audio
        else:
            ordered = sorted(packets + audio, key=lambda packet: float(packet.dts * packet.time_base))
        for packet in ordered:
            output.mux(packet)
    return path


def _encode_video(stream: Any, seconds: float, origin: float) -> list[Any]:
    packets = []
    for number in range(round(seconds * 25)):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts, frame.time_base = number + round(origin * 25), Fraction(1, 25)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _add_sound(output: Any, sound: Sound) -> Any:
    stream = output.add_stream(sound.codec, rate=sound.rate)
    stream.layout = sound.layout
    if sound.codec == "flac":
        stream.format = "s16"
    if sound.codec == "wmav2":
        stream.bit_rate = 128_000
    stream.metadata.update(sound.tags)
    stream.disposition = sound.disposition
    return stream


def _encode_sound(stream: Any, sound: Sound, seconds: float, origin: float) -> list[Any]:
    samples = noise(seconds, sound.rate)
    channels = stream.codec_context.layout.nb_channels
    start = round((origin + sound.start) * sound.rate)
    packets = []
    for offset in range(0, len(samples), 1024):
        block = np.repeat(samples[offset : offset + 1024], channels)[None]
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout=sound.layout)
        frame.sample_rate = sound.rate
        frame.pts, frame.time_base = start + offset, Fraction(1, sound.rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _add_text(output: Any, text: Text) -> Any:
    stream = output.add_stream(text.codec)
    stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
    stream.codec_context.subtitle_header = ASS_HEADER
    stream.metadata.update(text.tags)
    stream.disposition = text.disposition
    return stream


def _encode_text(stream: Any, text: Text, origin: float) -> list[Any]:
    packets = []
    for number, (start, end, words) in enumerate(text.cues):
        event = f"{number},0,Default,,0,0,0,,{words}".encode()
        packet = stream.codec_context.encode_subtitle(SubtitleSet.create(event, 0, end - start, start))
        packet.pts = packet.dts = start + round(origin * 1000)
        packet.duration, packet.time_base, packet.stream = end - start, Fraction(1, 1000), stream
        packets.append(packet)
    return packets


def _cover_frame() -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 200, np.uint8), format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    return frame
