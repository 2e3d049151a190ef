"""Footage made from seeds: one film of each kind that a data set has to decide on."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from training.dataset import DatasetConfig

Images = list[np.ndarray]
NUM_FRAMES = 30
RATE = 25


def texture(seed: int, height: int = 160, width: int = 320) -> np.ndarray:
    """Detail of all scales in a colour of its own, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = np.tile(rng.uniform(-60, 60, 3).astype(np.float32), (height, width, 1))
    for octave in range(6):
        size = (max(2, width >> octave), max(2, height >> octave))
        coarse = rng.normal(0, 1, (size[1], size[0], 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * (4 + 2 * octave)
    # Lenses take the finest: without, it would look like noise.
    return cv2.GaussianBlur(picture + 128, (0, 0), 0.5).clip(0, 255).round().astype(np.uint8)


def pan(picture: np.ndarray, num_frames: int = NUM_FRAMES, speed: int = 2) -> Images:
    """A camera that moves over a picture: frames of 192x128."""
    return [np.ascontiguousarray(picture[16:144, 8 + speed * n : 200 + speed * n]) for n in range(num_frames)]


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return np.asarray(
        cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    )


def write_film(
    path: Path, images: Iterable[np.ndarray], *, pts: Callable[[int], int] = lambda n: n, **tags: int
) -> Path:
    """A lossless film; with other names than .mkv, coded with H.264 almost without loss.

    Args:
        path: Of the film.
        images: R'G'B' frames.
        pts: Time of frame n, in frames.
        tags: Attributes of the codec context.
    """
    is_lossless = path.suffix == ".mkv"
    repack = VideoReformatter()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if is_lossless else "libx264", rate=RATE)
        stream.time_base = Fraction(1, RATE)
        for number, image in enumerate(images):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv444p" if is_lossless else "yuv420p"
                if not is_lossless:
                    stream.options = {"crf": "8", "preset": "ultrafast", "g": "8"}
                for name, value in tags.items():
                    setattr(stream.codec_context, name, value)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = repack.reformat(frame, format=stream.pix_fmt, threads=1)
            frame.pts, frame.time_base = pts(number), Fraction(1, RATE)
            for name, value in tags.items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with films of all kinds, and things that are none."""
    root = tmp_path_factory.mktemp("footage")
    good = texture(1)
    write_film(root / "two_scenes.mkv", pan(good) + pan(texture(2)))
    write_film(root / "blurred.mkv", pan(cv2.GaussianBlur(texture(3), (0, 0), 2.5)))
    write_film(root / "blocky.mkv", [as_jpeg(image, 20) for image in pan(texture(4))])
    write_film(root / "static.mkv", pan(texture(5), speed=0))
    write_film(root / "uneven.mkv", pan(texture(6)), pts=lambda n: n + n // 4)
    write_film(root / "barred.mkv", [with_bars(image, 24) for image in pan(texture(7))])
    write_film(root / "hdr.mkv", pan(texture(8)), color_trc=16)
    write_film(root / "short.mkv", pan(texture(9), 10))
    damage(write_film(root / "damaged.mp4", pan(texture(10))))
    (root / "zz").mkdir()  # after all others
    (root / "zz" / "copy.mkv").write_bytes((root / "two_scenes.mkv").read_bytes())
    cv2.imwrite(str(root / "still.png"), good)
    (root / "notes.txt").write_text("no film\n")
    with wave.open(str(root / "sound.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(8000))
    return root


def with_bars(image: np.ndarray, rows: int) -> np.ndarray:
    barred = image.copy()
    barred[:rows] = barred[-rows:] = 0
    return barred


def damage(path: Path) -> None:
    """Overwrites a part in the middle, where pictures lie."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(range(250)) * 80
    path.write_bytes(content)


@pytest.fixture(scope="session")
def small_limits() -> DatasetConfig:
    """Limits for films of 192x128 and 30 frames."""
    return DatasetConfig.model_validate({
        "metadata": {"min_side": 96, "min_frames": 12},
        "scenes": {"max_frames": 40},
        "quality": {"keep": 1.0},
        "motion": {"padding": 16},
    })  # fmt: skip
