"""Damaged files of many containers and codecs through all that reads files: probe, read, extract, join.

    python -m benchmarks.fuzz_media                       # 2,000 mutants, a new random seed, which is printed
    python -m benchmarks.fuzz_media --count 500 --seed 7  # the same ones again

Each mutant has a process of its own. What counts as a fault: a signal, more than 30 s of processor time, and
an exception that is none of the media package's own.
"""

from __future__ import annotations

import argparse
import faulthandler
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
import torch

from benchmarks.results_file import RESULTS, write_results
from media import ColorTags, EncodeOptions, SegmentWriter, VideoFormat, VideoReader, join_segments, probe
from media.errors import MediaError
from media.growing.audio import extract_audio

CPU_SECONDS = 30
# A process that waits for nothing uses no processor time; it is stuck all the same.
_WALL_SECONDS = 120
_SIZE = (48, 32)


@dataclass(frozen=True)
class Seed:
    """A sound file that mutants are made from.

    Attributes:
        suffix: Of its name.
        format: FFmpeg's muxer.
        video: Encoder of the video.
        audio: Encoder of the sound; None for silent containers.
    """

    suffix: str
    format: str
    video: str
    audio: str | None


SEEDS = (
    Seed("mp4", "mp4", "libx264", "aac"),
    Seed("mov", "mov", "mjpeg", "pcm_s16le"),
    Seed("mkv", "matroska", "libx265", "flac"),
    Seed("webm", "webm", "libvpx-vp9", "libopus"),
    Seed("avi", "avi", "mpeg4", "libmp3lame"),
    Seed("ts", "mpegts", "libx264", "mp2"),
    Seed("mpg", "mpeg", "mpeg2video", "mp2"),
    Seed("flv", "flv", "flv", "libmp3lame"),
    Seed("wmv", "asf", "wmv2", "wmav2"),
    Seed("mxf", "mxf", "mpeg2video", "pcm_s16le"),
    Seed("nut", "nut", "ffv1", "flac"),
    Seed("gif", "gif", "gif", None),
)


@dataclass
class FuzzReport:
    """What happened.

    Attributes:
        seed: Of the mutants.
        num_mutants: Tried.
        faults: Number of a mutant, its container, and what was wrong.
        errors: The media package's own errors, by code.
        num_whole: Mutants that went through all four.
        slowest_cpu_seconds: Of one mutant.
        seconds: Of all.
    """

    seed: int
    num_mutants: int = 0
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    num_whole: int = 0
    slowest_cpu_seconds: float = 0.0
    seconds: float = 0.0


def mutate(content: bytes, dice: random.Random) -> bytes:
    """What happens to files: cut off, bits flipped, zeroed, grown, shuffled, taken for another type."""
    data = bytearray(content)
    kind = dice.randrange(7)
    start = dice.randrange(len(data))
    length = dice.randrange(1, max(2, len(data) // 8))
    if kind == 0:
        del data[start:]
    elif kind == 1:
        for _ in range(max(1, len(data) // 100)):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    elif kind == 2:  # headers are at the front
        for _ in range(8):
            data[dice.randrange(min(len(data), 512))] = dice.randrange(256)
    elif kind == 3:
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 4:
        data[start:start] = dice.randbytes(length)
    elif kind == 5:
        other = dice.randrange(len(data))
        data[start : start + length], data[other : other + length] = (
            data[other : other + length],
            data[start : start + length],
        )
    else:
        data[:4] = dice.choice([b"#EXT", b"ffco", b"RIFF", b"\x1aE\xdf\xa3", b"<?xm", b"GIF8"])
    return bytes(data)


def make_seeds(folder: Path) -> list[Path]:
    """Sound files of all kinds, 12 frames and half a second of a tone each."""
    return [_make_seed(seed, folder / f"seed.{seed.suffix}") for seed in SEEDS]


def _make_seed(seed: Seed, path: Path) -> Path:
    width, height = _SIZE
    rng = np.random.default_rng(0)
    base = rng.integers(0, 255, (height, width, 3), np.uint8)
    with av.open(str(path), "w", format=seed.format) as container:
        video = container.add_stream(seed.video, rate=25)
        assert isinstance(video, av.VideoStream)
        pix_fmts = {"gif": "rgb8", "mjpeg": "yuvj420p"}
        video.width, video.height, video.pix_fmt = width, height, pix_fmts.get(seed.video, "yuv420p")
        if seed.video == "libx265":
            video.options = {"x265-params": "log-level=none:cutree=0"}  # see media/_private_options.py
        audio = container.add_stream(seed.audio, rate=48_000, layout="stereo") if seed.audio else None
        assert audio is None or isinstance(audio, av.AudioStream)
        if audio is not None:
            audio.bit_rate = 96_000  # wmav2 has no default
        for number in range(12):
            image = np.ascontiguousarray(np.roll(base, number, axis=1))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            container.mux(video.encode(frame.reformat(format=video.pix_fmt, threads=1)))
        container.mux(video.encode(None))
        if audio is not None:
            times = np.arange(24_000) / 48_000
            tone = (0.2 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
            for start in range(0, len(tone), 1024):
                part = np.stack([tone[start : start + 1024]] * 2)
                samples = av.AudioFrame.from_ndarray(part, "fltp", "stereo")
                samples.sample_rate, samples.pts, samples.time_base = 48_000, start, Fraction(1, 48_000)
                container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path


def make_segment(folder: Path) -> Path:
    """Something to join a mutant's sound and subtitles to."""
    path = folder / "segment.mp4"
    width, height = _SIZE
    video_format = VideoFormat(
        width=width, height=height, time_base=Fraction(1, 25), rate=Fraction(25), color=ColorTags()
    )
    with SegmentWriter(path, video_format, EncodeOptions(preset="ultrafast")) as writer:
        for number in range(12):
            writer.write(torch.full((3, height, width), 0.5), number, 1)
    return path


def run_fuzz(count: int, seed: int, *, on_fault: Callable[[str], None] = print) -> FuzzReport:
    """Tries `count` mutants.

    Args:
        count: How many.
        seed: Of all random choices; mutant k of a seed is always the same.
        on_fault: Told of each fault at once.
    """
    torch.set_num_threads(1)
    report = FuzzReport(seed)
    errors: Counter[str] = Counter()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dovetail-fuzz-") as name:
        folder = Path(name)
        seeds, segment = make_seeds(folder), make_segment(folder)
        contents = [path.read_bytes() for path in seeds]
        for number in range(count):
            dice = random.Random(f"{seed}-{number}")
            which = dice.randrange(len(seeds))
            mutant = folder / f"mutant{seeds[which].suffix}"
            mutant.write_bytes(mutate(contents[which], dice))
            outcome, cpu_seconds = _try(mutant, segment, folder / "work")
            report.num_mutants += 1
            report.slowest_cpu_seconds = max(report.slowest_cpu_seconds, round(cpu_seconds, 2))
            if outcome.startswith("fault: "):
                report.faults.append((number, seeds[which].suffix, outcome.removeprefix("fault: ")))
                on_fault(f"mutant {number} of seed {seed}, {seeds[which].suffix}: {outcome}")
            elif outcome == "whole":
                report.num_whole += 1
            else:
                errors[outcome] += 1
    report.errors = dict(errors.most_common())
    report.seconds = round(time.monotonic() - start, 1)
    return report


def _try(mutant: Path, segment: Path, work: Path) -> tuple[str, float]:
    """One mutant in a process of its own: "whole", the code of an error, or "fault: ..."; and its time."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_use, args=(mutant, segment, work, sender), daemon=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process.start()
    sender.close()
    answer: str | None = None
    if receiver.poll(_WALL_SECONDS):
        try:
            answer = receiver.recv()
        except EOFError:
            answer = None
    else:
        process.kill()
        answer = f"fault: nothing for {_WALL_SECONDS} s"
    process.join()
    receiver.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return answer or f"fault: ended by signal {-(process.exitcode or 0)}", cpu_seconds


def _use(mutant: Path, segment: Path, work: Path, sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    faulthandler.disable()
    try:
        outcome = use_file(mutant, segment, work)
    except MediaError as error:
        outcome = str(error.code)
    except Exception:
        outcome = f"fault: {traceback.format_exc()}"
    sender.send(outcome)
    sender.close()


def use_file(path: Path, segment: Path, work: Path) -> str:
    """Does with a file all that the product does with one.

    Returns:
        "whole".

    Raises:
        MediaError: If something of it cannot be done.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    info = probe(path)
    with VideoReader(info) as reader:
        for _ in reader.frames():
            pass
    extract_audio(info, work / "sound.mp4", start_seconds=None, duration_seconds=None)
    join_segments([segment], work / "joined.mp4", source=info)
    return "whole"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs and writes the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    report = run_fuzz(options.count, seed)
    print(f"{report.num_mutants} mutants, {len(report.faults)} faults, {report.num_whole} whole", flush=True)
    write_results("fuzz_media", asdict(report), folder=options.results)
    sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
