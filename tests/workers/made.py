"""Videos made on the spot, and what is in the ones that come out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import Tensor

from media import EncodeOptions
from media.sizes import SizeRequest
from pipelines.model import Model, ModelCard
from pipelines.planning.frame_plan import FrameShape
from pipelines.planning.kinds import ModelShape
from pipelines.planning.plan import ChunkPlan
from workers.run.options import UpscaleOptions

SIZE = (64, 48)


def make_video(
    path: Path,
    num_frames: int = 30,
    *,
    size: tuple[int, int] = SIZE,
    rate: int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    cuts: Sequence[int] = (),
    has_sound: bool = False,
) -> Path:
    """A lossless video of a picture that moves; at each cut it becomes another one.

    Args:
        pts: Time stamps in ticks of `time_base`; by default one frame after the other.
        cuts: Numbers of frames where a new scene begins.
    """
    width, height = size
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "libx264", rate=rate, options={"qp": "0", "preset": "ultrafast", "bf": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # The muxer changes the stream's own one with the header.
        stream.time_base = time_base = time_base or Fraction(1, rate)
        context = stream.codec_context
        context.time_base, context.thread_count, context.gop_size = time_base, 1, 10
        context.flags |= 256  # keep frame durations
        sound = output.add_stream("aac", rate=16_000, layout="mono") if has_sound else None
        times = list(pts) if pts is not None else list(range(num_frames))
        steps = [after - before for before, after in pairwise(times)]
        for number, time in enumerate(times):
            scene = sum(cut <= number for cut in cuts)
            frame = av.VideoFrame.from_ndarray(picture(number, scene, size), format="rgb24").reformat(
                format="yuv420p", threads=1
            )
            frame.pts, frame.time_base = time, time_base
            frame.duration = steps[number] if number < len(steps) else (steps[-1] if steps else 1)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            for block in _sound_blocks(float((times[-1] + 1) * time_base)):
                output.mux(sound.encode(block))
            output.mux(sound.encode(None))
    return path


def picture(number: int, scene: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8: blocks of a scene's own pattern, slowly moving."""
    width, height = size
    blocks = np.random.default_rng(scene).integers(30, 220, (height // 8 + 3, width // 8 + 3, 3))
    big = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
    shift = 16 - abs(number % 32 - 16)  # to and fro, never a jump
    return np.ascontiguousarray(big[shift // 2 : shift // 2 + height, shift : shift + width])


def _sound_blocks(seconds: float) -> Iterator[av.AudioFrame]:
    num_samples = 1024
    for index in range(round(seconds * 16_000) // num_samples):
        time = (np.arange(num_samples) + index * num_samples) / 16_000
        wave = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
        block = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        block.sample_rate, block.pts = 16_000, index * num_samples
        yield block


@dataclass(frozen=True)
class Decoded:
    """The video of a file.

    Attributes:
        size: Width and height.
        times: When each frame is shown, in seconds.
        end: When the last one ends.
        digests: Of each frame's planes.
    """

    size: tuple[int, int]
    times: list[Fraction]
    end: Fraction
    digests: list[str]

    def __len__(self) -> int:
        return len(self.times)


def decode(path: Path) -> Decoded:
    """Reads a video back."""
    times: list[Fraction] = []
    digests: list[str] = []
    end, size = Fraction(0), (0, 0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for frame in container.decode(stream):
            assert frame.pts is not None
            assert stream.time_base is not None
            times.append(frame.pts * stream.time_base)
            end = times[-1] + frame.duration * stream.time_base
            size = (frame.width, frame.height)
            digests.append(hashlib.md5(b"".join(bytes(plane) for plane in frame.planes)).hexdigest())
    return Decoded(size, times, end, digests)


def video_packets(path: Path) -> list[tuple[int | None, int | None, int | None, bytes]]:
    """Pts, dts, duration and bytes of every video packet."""
    with av.open(str(path)) as container:
        return [
            (packet.pts, packet.dts, packet.duration, bytes(packet))
            for packet in container.demux(container.streams.video[0])
            if packet.size
        ]


FAST = EncodeOptions(preset="ultrafast", num_threads=1)


def options(**changes: Any) -> UpscaleOptions:
    """Twice the size in segments of half a second, unless changed."""
    fields: dict[str, Any] = {
        "size": SizeRequest(scale=Fraction(2)),
        "encode": FAST,
        "segment_seconds": Fraction(1, 2),
        "chunk": 8,
        "chunk_overlap": 3,
    }
    return UpscaleOptions(**(fields | changes))


class StandIn(Model):
    """Enlarges by repetition, remembers its chunks, and can mark frames with the number of their chunk.

    Args:
        step: Added to every frame of the n-th chunk, n times.
        name: Of the model.
        shape: For the planner.
    """

    def __init__(self, step: float = 0.0, *, name: str = "stand-in", shape: ModelShape | None = None) -> None:
        card = ModelCard(name=name, kind="standin", scale=2, fingerprint=name)
        super().__init__(card, shape or FrameShape(), torch.device("cpu"), torch.float32)
        self.step = step
        self.chunk_lengths: list[int] = []

    def restore(
        self, clip: Tensor, size: tuple[int, int], plan: ChunkPlan, *, generator: object = None
    ) -> Iterator[Tensor]:
        offset = self.step * len(self.chunk_lengths)
        self.chunk_lengths.append(clip.shape[0])
        for batch in clip.split(3):
            yield torch.nn.functional.interpolate(batch, size=size) * 0 + offset
