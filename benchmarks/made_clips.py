"""Small videos with sound, made here, for benchmarks and kill tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SAMPLE_RATE = 48_000


def make_clip(
    path: Path,
    *,
    seconds: float,
    seed: int = 0,
    width: int = 64,
    height: int = 48,
    rate: int = 24,
    has_sound: bool = True,
) -> Path:
    """Writes an MP4 of moving coloured bars, other ones for another seed, with a tone.

    Returns:
        The path.
    """
    random = np.random.default_rng(seed)
    base = random.integers(0, 255, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.gop_size = rate
        audio = container.add_stream("aac", rate=SAMPLE_RATE) if has_sound else None
        for number in range(round(seconds * rate)):
            image = np.ascontiguousarray(np.roll(base, number, axis=1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            for start in range(0, round(seconds * SAMPLE_RATE), 1024):
                times = (np.arange(start, start + 1024) / SAMPLE_RATE).astype(np.float32)
                tone = 0.2 * np.sin(2 * np.pi * (300 + 40 * seed) * times, dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path
