"""Files whose clock breaks: parts put one behind the other, and time stamps that jump on the way."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from tests.media.sources import make_source


def end_to_end(target: Path, *origins: float, **kwargs: Any) -> Path:
    """Transport streams of two seconds each, the first time stamp of each as given, in one file."""
    parts = [
        make_source(target.with_name(f"{number}-{target.name}"), origin=origin, **kwargs).read_bytes()
        for number, origin in enumerate(origins)
    ]
    target.write_bytes(b"".join(parts))
    return target


def remap(source: Path, target: Path, new_time: Callable[[Fraction, int], Fraction | None]) -> Path:
    """Copy all packets with other times: `new_time` gets the seconds and the stream's index; None leaves one
    out."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        writing.set_chapters(reading.chapters())
        copies = [writing.add_stream_from_template(stream) for stream in reading.streams]
        for packet in reading.demux():
            if not packet.size:
                continue
            assert packet.pts is not None
            index = packet.stream.index
            before = packet.pts * packet.time_base
            after = new_time(before, index)
            if after is None:
                continue
            shift = round((after - before) / packet.time_base)
            packet.pts += shift
            packet.dts = None if packet.dts is None else packet.dts + shift
            packet.stream = copies[index]
            writing.mux(packet)
    return target


def jump(at: float, by: float) -> Callable[[Fraction, int], Fraction]:
    """For `remap`: all streams jump forward at a time."""
    return lambda seconds, index: seconds + Fraction(by) if seconds >= at else seconds


def heard(path: Path, index: int = 0) -> Sequence[tuple[float, float]]:
    """Begin and end of each stretch of sound that decodes without a hole of 50 ms, in seconds."""
    spans: list[tuple[float, float]] = []
    with av.open(str(path)) as container:
        for frame in container.decode(container.streams.audio[index]):
            assert frame.pts is not None
            assert frame.time_base is not None
            start = float(frame.pts * frame.time_base)
            end = start + frame.samples / frame.sample_rate
            if spans and start - spans[-1][1] < 0.05:
                spans[-1] = spans[-1][0], end
            else:
                spans.append((start, end))
    return spans
