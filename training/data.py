"""Training clips: random crops of pictures and videos, and the pool of degraded samples made from them.

Degrading one sample takes 50-150 ms on a CPU core, a training step of a small model not much longer, so
samples are made ahead by another process in blocks, and each block is used for a fixed number of steps with
fresh crops, flips and frame ranges. Block k is a pure function of the seed and k, and the step decides the
block, so a run gives the same weights however fast either process is, and resumes anywhere.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from training.config import DataConfig, TrainingConfig
from training.degradation import degrade_clip, from_uint8
from training.degradation_profile import DegradationConfig
from training.drawings import draw_picture
from training.errors import TrainingDataError
from training.video_coding import decode_frames

_BLOCKS_AHEAD = 2


class SourceLibrary:
    """Pictures and videos of a folder, held in memory as uint8.

    Args:
        root: Folder that holds the picture and video folders of the configuration.
        config: Which folders, and how clips are drawn.

    Raises:
        TrainingDataError: If both folders are empty or missing.
    """

    def __init__(self, root: Path, config: DataConfig) -> None:
        self.config = config
        held_out = set(config.held_out)
        pictures, videos = (
            [path for path in sorted((root / folder).glob("*")) if path.stem not in held_out]
            for folder in (config.images, config.videos)
        )
        if not pictures and not videos:
            raise TrainingDataError(
                f"no pictures in {root / config.images} and no videos in {root / config.videos}"
            )
        self.pictures = [np.array(Image.open(path).convert("RGB")) for path in pictures]
        self.videos = [decode_frames(path, config.max_video_frames) for path in videos]

    def sample(
        self, rng: np.random.Generator, num_frames: int, *, downscale: tuple[float, float] | None = None
    ) -> torch.Tensor:
        """Draws an HR clip: (num_frames, 3, S, S), float32, [0, 1]; `downscale` in place of the usual one."""
        is_picture = not self.videos or (self.pictures and rng.random() < self.config.image_probability)
        draw = self._picture_clip if is_picture else self._video_clip
        return self.flip(draw(rng, num_frames, downscale or self.config.downscale), rng)

    def picture(self, rng: np.random.Generator) -> np.ndarray:
        """A picture (H, W, 3), uint8: of the folder, or drawn, half of these over one of the folder."""
        photo = self.pictures[rng.integers(len(self.pictures))]
        if not self.config.drawn_probability or rng.random() >= self.config.drawn_probability:
            return photo
        return draw_picture(rng, 2 * self.config.hr_size, photo if rng.random() < 0.5 else None)

    @staticmethod
    def flip(clip: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Mirrors and turns a clip, each half of the time."""
        if rng.random() < 0.5:
            clip = clip.flip(-1)
        if rng.random() < 0.5:
            clip = clip.transpose(-1, -2)
        return clip

    def _picture_clip(
        self, rng: np.random.Generator, num_frames: int, downscale: tuple[float, float]
    ) -> torch.Tensor:
        """A camera pan over a picture (or a still): the picture is shrunk by a random factor, cropped."""
        config = self.config
        picture = self.picture(rng)
        factor = self._shrink_factor(rng, picture.shape, downscale)
        is_static = rng.random() < config.static_probability
        velocity = np.zeros(2) if is_static else rng.uniform(-config.max_pan, config.max_pan, 2)
        reach = np.ceil(np.abs(velocity) * (num_frames - 1)).astype(int)
        span = np.minimum(config.hr_size + reach, np.floor(np.array(picture.shape[:2]) * factor).astype(int))
        window = self._crop(picture[None], span, factor, rng)
        offsets = np.round(velocity * np.arange(num_frames)[:, None]).astype(int)
        offsets = np.clip(offsets - offsets.min(axis=0), 0, span - config.hr_size)
        size = config.hr_size
        return torch.stack([window[0, :, y : y + size, x : x + size] for y, x in offsets])

    def _video_clip(
        self, rng: np.random.Generator, num_frames: int, downscale: tuple[float, float]
    ) -> torch.Tensor:
        config = self.config
        video = self.videos[rng.integers(len(self.videos))]
        first = int(rng.integers(max(1, len(video) - num_frames + 1)))
        index = np.minimum(first + np.arange(num_frames), len(video) - 1)
        if rng.random() < 0.5:
            index = index[::-1]
        factor = self._shrink_factor(rng, video.shape[1:], downscale)
        return self._crop(video[index], np.full(2, config.hr_size), factor, rng)

    def _shrink_factor(
        self, rng: np.random.Generator, shape: tuple[int, ...], downscale: tuple[float, float]
    ) -> float:
        smallest = (self.config.hr_size + 2) / min(shape[:2])
        return float(max(rng.uniform(*downscale), min(smallest, 1.0)))

    def _crop(
        self, frames: np.ndarray, span: np.ndarray, factor: float, rng: np.random.Generator
    ) -> torch.Tensor:
        """A random window that is `span` large after shrinking by `factor`: (F, 3, *span)."""
        source_span = np.minimum(np.ceil(span / factor).astype(int), frames.shape[1:3])
        y, x = (int(rng.integers(n - s + 1)) for n, s in zip(frames.shape[1:3], source_span, strict=True))
        window = from_uint8(frames[:, y : y + source_span[0], x : x + source_span[1]])
        size = (int(span[0]), int(span[1]))
        if window.shape[-2:] == size:
            return window
        return F.interpolate(window, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(
            0, 1
        )


def make_sample(
    library: SourceLibrary,
    profiles: Sequence[tuple[DegradationConfig, float]],
    scale: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """One pair: HR (F, 3, S, S) and degraded LR (F, 3, S / scale, S / scale), uint8.

    Args:
        library: Where the HR clip comes from.
        profiles: Degradations with their weights.
        scale: Factor between HR and LR.
        rng: Source of every random draw.
    """
    hr = library.sample(rng, library.config.num_frames)
    weights = np.array([weight for _, weight in profiles])
    config, _ = profiles[rng.choice(len(profiles), p=weights / weights.sum())]
    side = library.config.hr_size // scale
    lq = degrade_clip(hr, config, (side, side), rng)
    return (hr.clamp(0, 1) * 255).round().to(torch.uint8).numpy(), lq.numpy()


# --- the pool -----------------------------------------------------------------------------------------------


Arrays = Mapping[str, np.ndarray]
"""The arrays of one block by name."""
BlockMaker = Callable[[int], Arrays]
"""Index -> block; a pure function of the index."""


@dataclass(frozen=True)
class Block:
    """Samples of one block: hr (N, F, 3, S, S) and lq (N, F, 3, s, s), uint8."""

    hr: np.ndarray
    lq: np.ndarray


class SamplePool:
    """Blocks of samples made by processes of their own, handed out in order.

    Args:
        make_maker: Called once in each process; gives the function that makes blocks. Must be picklable.
        pool_dir: Where blocks are kept until they are used up.
        first_block: Block that is asked for first (after a resume not 0).
        num_processes: How many there are, each of which makes its share of the blocks.
    """

    def __init__(
        self,
        make_maker: Callable[[], BlockMaker],
        pool_dir: Path,
        *,
        first_block: int,
        num_processes: int = 1,
    ) -> None:
        pool_dir.mkdir(parents=True, exist_ok=True)
        self._dir = pool_dir
        context = multiprocessing.get_context("spawn")
        self._wanted = context.Value("l", first_block)
        arguments = (make_maker, pool_dir, self._wanted)
        self._processes = [
            context.Process(
                target=_produce,
                args=(*arguments, first_block + place, num_processes),
                daemon=True,
                name=f"sample-pool-{place}",
            )
            for place in range(num_processes)
        ]
        for process in self._processes:
            process.start()

    def get(self, index: int) -> dict[str, np.ndarray]:
        """Waits for a block and drops those before it.

        Raises:
            TrainingDataError: If a producing process has died.
        """
        with self._wanted.get_lock():
            self._wanted.value = index
        for old in self._dir.glob("block-*.npz"):
            if int(old.stem.split("-")[1]) < index:
                old.unlink()
        while not block_path(self._dir, index).exists():
            if not all(process.is_alive() for process in self._processes):
                raise TrainingDataError("a process that degrades samples has died; its error stands above")
            self._wait()
        return load_block(self._dir, index)

    def _wait(self) -> None:
        """Between two looks for a block."""
        time.sleep(0.2)

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


def block_path(directory: Path, index: int) -> Path:
    return directory / f"block-{index:06d}.npz"


def load_block(directory: Path, index: int) -> dict[str, np.ndarray]:
    """A block that is there."""
    with np.load(block_path(directory, index)) as arrays:
        return dict(arrays)


def ensure_block(make_block: BlockMaker, directory: Path, index: int) -> None:
    """Makes a block unless it is there; a file of that name is always whole."""
    path = block_path(directory, index)
    if path.exists():
        return
    arrays: Any = dict(make_block(index))  # numpy's types take them for `allow_pickle` too
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.rename(path)


def _produce(
    make_maker: Callable[[], BlockMaker], pool_dir: Path, wanted: Synchronized[int], first: int, stride: int
) -> None:
    torch.set_num_threads(1)
    os.nice(3)  # the trainer, which waits for this process only at the start, should not be slowed by it
    make_block = make_maker()
    index = first
    trainer = multiprocessing.parent_process()
    while trainer is not None and trainer.is_alive():  # a killed trainer must not leave this process behind
        if index > wanted.value + _BLOCKS_AHEAD * stride:
            time.sleep(0.5)
            continue
        ensure_block(make_block, pool_dir, index)
        index += stride


def one_step_maker(config: TrainingConfig, data_dir: Path) -> BlockMaker:
    """Makes the blocks of a run of the one-step model."""
    library = SourceLibrary(data_dir, config.data)
    return lambda index: vars(make_block(config, library, index))


def make_block(config: TrainingConfig, library: SourceLibrary, index: int) -> Block:
    """Block `index` of a run, degraded as the stage of its first step says: the same for the same seed and
    configuration."""
    stage = config.stage_at(index * config.data.steps_per_block)
    profiles = [(config.degradations[name], weight) for name, weight in stage.degradations.items()]
    pairs = [
        make_sample(library, profiles, config.model.scale, np.random.default_rng((config.seed, index, i)))
        for i in range(config.data.block_size)
    ]
    return Block(np.stack([hr for hr, _ in pairs]), np.stack([lq for _, lq in pairs]))
