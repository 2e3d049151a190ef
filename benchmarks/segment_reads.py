"""What is read of a long film for one segment deep in it, and what the workers of a machine fetch of a film.

    python -m benchmarks.segment_reads --minutes 60 --workers 4

Films are made by repeating the packets of a clip. A segment of ten seconds at 95 % is read twice: as by a
worker that knows nothing of the film but its key (it probes, then looks for the place; all did that before),
and as by one that has what the plan task found (the description of the source, and the segment's entry).
Counted are the bytes of video packets, and the pieces of the file that the confined process asked for.

Then workers of one machine take the segments of a film from the S3 server of the tests in turn, through one
cache; counted is what was fetched from the server.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np

from benchmarks.results_file import RESULTS, write_results
from jobs.storage import Storage
from media import Entry, InputLimits, MediaInfo, VideoReader
from media._decoder import StreamDecoder, VideoPacket
from media._entries import EntryFinder, last_before
from media._notes import Notes
from media.sandbox import READ_MODULES, Sandbox, SandboxedReader, sandboxed_probe
from tests.s3_server import BUCKET, running_s3_server, s3_environment
from workers.input_cache import CachedInput, InputCache

WIDTH, HEIGHT, RATE = 320, 192, 25
CLIP_SECONDS, SEGMENT_SECONDS = 10, 10
AT = Fraction(95, 100)
FILM = Path("/elsewhere/film")
KIB = 1 << 10

# Container: codec, options of the muxer.
FILMS: dict[str, tuple[str, dict[str, str]]] = {
    "mp4": ("libx264", {}),
    "mkv": ("libx264", {}),
    "mkv without cues": ("libx264", {"live": "1"}),
    "ts": ("libx264", {}),
    "mpg": ("mpeg2video", {}),
    "flv": ("libx264", {}),
    "avi": ("mpeg4", {}),
}


def main() -> None:
    """Measures and writes the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="dovetail-reads-") as name,
        Sandbox(preload=READ_MODULES) as sandbox,
    ):
        folder = Path(name)
        values: dict[str, Any] = {"minutes": arguments.minutes, "segments": {}}
        for film, (codec, options) in FILMS.items():
            path = make_film(
                folder / f"film.{film.split()[0]}", codec, options, seconds=60 * arguments.minutes
            )
            values["segments"][film] = measure_segment(path, sandbox)
            if film == "ts":
                values["fetched"] = measure_workers(path, sandbox, folder, num_workers=arguments.workers)
            path.unlink()
    write_results("segment_reads", values, folder=arguments.results)


class CountingFile:
    """A file for the sandbox that counts what is read."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size_bytes, self.num_bytes = path.stat().st_size, 0

    def read(self, offset: int, length: int) -> bytes:
        self.num_bytes += length
        return os.pread(self._descriptor, length, offset)


class CountingStorage(Storage):
    """Counts what is fetched."""

    num_bytes = 0

    def get_bytes(self, key: str, **options: Any) -> bytes:
        data = super().get_bytes(key, **options)
        self.num_bytes += len(data)
        return data


def measure_segment(path: Path, sandbox: Sandbox) -> dict[str, Any]:
    """Bytes and seconds for the segment, without and with what the plan found."""
    local = sandboxed_probe(path, timeout=3600, sandbox=sandbox)
    pts = tick_at(local, AT)
    (entry,) = find_entries(local, [pts])
    file = CountingFile(path)
    with sandbox.mounted(FILM, file):
        began = time.perf_counter()
        info = sandboxed_probe(FILM, timeout=3600, sandbox=sandbox)
        read_segment(info, pts, None, sandbox)
        file_before, seconds_before = file.num_bytes, time.perf_counter() - began
        began = time.perf_counter()
        read_segment(info, pts, entry, sandbox)
        file_after, seconds_after = file.num_bytes - file_before, time.perf_counter() - began
    with counted_packets() as sizes, VideoReader(local) as reader:
        take_segment(reader, pts, None)
        packets_before = sum(sizes)
        sizes.clear()
        take_segment(reader, pts, entry)
    size = path.stat().st_size
    return {
        "film_kib": size // KIB,
        "segment_kib": round(size * SEGMENT_SECONDS / seconds_of(local)) // KIB,
        "video_packets_kib": {"before": packets_before // KIB, "after": sum(sizes) // KIB},
        "file_kib": {"before": file_before // KIB, "after": file_after // KIB},
        "seconds": {"before": round(seconds_before, 2), "after": round(seconds_after, 2)},
    }


def measure_workers(path: Path, sandbox: Sandbox, folder: Path, *, num_workers: int) -> dict[str, Any]:
    """What workers fetch that read segments of a film from S3 in turn; before, each fetched all of it."""
    info = replace(sandboxed_probe(path, timeout=3600, sandbox=sandbox), path=FILM)
    wanted = [
        tick_at(info, Fraction(number, 2 * num_workers + 1)) for number in range(1, 2 * num_workers + 1)
    ]
    entries = find_entries(replace(info, path=path), wanted)
    with running_s3_server() as address:
        os.environ |= s3_environment(address)
        storages = [CountingStorage(f"s3://{BUCKET}/reads") for _ in range(num_workers)]
        storages[0].put_file("film", path)
        for number, (pts, entry) in enumerate(zip(wanted, entries, strict=True)):
            cache = InputCache(folder / "cache", max_bytes=1 << 30)
            content = CachedInput(storages[number % num_workers], "film", cache)
            with sandbox.mounted(FILM, content):
                read_segment(info, pts, entry, sandbox)
    size = path.stat().st_size
    return {
        "workers": num_workers,
        "film_kib": size // KIB,
        "segments": len(wanted),
        "segments_kib": round(size * SEGMENT_SECONDS * len(wanted) / seconds_of(info)) // KIB,
        "fetched_kib": {
            "before": num_workers * size // KIB,
            "after": sum(storage.num_bytes for storage in storages) // KIB,
        },
    }


def find_entries(info: MediaInfo, wanted: list[int]) -> list[Entry | None]:
    """What a plan would keep for segments that begin at these times: found in one pass, without decoding."""
    with VideoReader(info) as reader:
        video, needed = info.video, [reader.needed_pts(pts) for pts in wanted]
    notes, limits = Notes(), InputLimits()
    with StreamDecoder(info.path, video.index, num_threads=1, limits=limits, notes=notes) as decoder:
        first_pts = math.ceil(info.origin_seconds / video.time_base)
        finder = EntryFinder.of(decoder, first_pts=first_pts, is_from_start=True)
        for packet in decoder.packets():
            finder.add(packet)
    return [last_before(finder.entries, pts) for pts in needed]


def read_segment(info: MediaInfo, pts: int, entry: Entry | None, sandbox: Sandbox) -> None:
    """Decodes a segment in a confined process."""
    with SandboxedReader(info, sandbox=sandbox) as reader:
        take_segment(reader, pts, entry)


def take_segment(reader: VideoReader | SandboxedReader, pts: int, entry: Entry | None) -> None:
    """Decodes a segment."""
    num_frames = sum(1 for _ in islice(reader.frames(from_pts=pts, entry=entry), SEGMENT_SECONDS * RATE))
    assert num_frames == SEGMENT_SECONDS * RATE


def tick_at(info: MediaInfo, share: Fraction) -> int:
    """The time of the frame at a share of the film, in the reader's ticks."""
    return round(seconds_of(info) * share * RATE) * round(1 / info.video.time_base / RATE)


def seconds_of(info: MediaInfo) -> Fraction:
    """The film's length."""
    length = info.video_end_seconds or info.duration_seconds
    assert length is not None
    return length


@contextmanager
def counted_packets() -> Iterator[list[int]]:
    """The sizes of all video packets that are read in this process, whether decoded or not."""
    sizes: list[int] = []
    real = StreamDecoder.packets

    def packets(decoder: StreamDecoder) -> Iterator[VideoPacket]:
        for packet in real(decoder):
            sizes.append(packet.size)
            yield packet

    with patch.object(StreamDecoder, "packets", packets):
        yield sizes


def make_film(path: Path, codec: str, options: dict[str, str], *, seconds: int) -> Path:
    """A film of the same ten seconds again and again."""
    clip = make_clip(path.with_name("clip.mp4"), codec)
    with av.open(clip) as source, av.open(path, "w", options=options) as film:
        video = source.streams.video[0]
        packets = [
            (packet, packet.pts or 0, packet.dts or 0) for packet in source.demux(video) if packet.size
        ]
        stream = film.add_stream_from_template(video)
        length = round(CLIP_SECONDS / packets[0][0].time_base)
        for number in range(seconds // CLIP_SECONDS):
            for packet, pts, dts in packets:
                again = av.Packet(bytes(packet))
                again.pts, again.dts = pts + number * length, dts + number * length
                again.duration, again.time_base = packet.duration, packet.time_base
                again.is_keyframe, again.stream = packet.is_keyframe, stream
                film.mux(again)
    return path


def make_clip(path: Path, codec: str) -> Path:
    """Ten seconds of noise that slides, with a keyframe each two seconds."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    with av.open(path, "w") as clip:
        options = {"g": str(2 * RATE), "b": "1000k", "preset": "veryfast"}
        stream = clip.add_stream(codec, rate=RATE, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(CLIP_SECONDS * RATE):
            picture = np.ascontiguousarray(np.roll(noise, 3 * number, axis=1))
            clip.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        clip.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
