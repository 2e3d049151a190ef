"""Small training material made from a seed, and a configuration that trains in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from training.config import TrainingConfig
from training.data import Arrays, BlockMaker


def textured_picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Edges at several orientations and scales, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.zeros((height, width, 3))
    for _ in range(6):
        angle, period = rng.uniform(0, np.pi), rng.uniform(5, 40)
        wave = np.sign(np.sin((x * np.cos(angle) + y * np.sin(angle)) / period * 2 * np.pi))
        picture += wave[..., None] * rng.uniform(-0.1, 0.1, 3)
    return ((picture.clip(-0.5, 0.5) + 0.5) * 255).astype(np.uint8)


class InlinePool:
    """Blocks like those of a `SamplePool`, made where they are asked for."""

    def __init__(self, make_maker: Callable[[], BlockMaker], pool_dir: Path, *, first_block: int) -> None:
        self._make_block = make_maker()

    def get(self, index: int) -> Arrays:
        return self._make_block(index)

    def close(self) -> None:
        pass


def numbered_blocks() -> Callable[[int], dict[str, np.ndarray]]:
    """Makes blocks of their numbers."""
    return lambda index: {"index": np.array(index)}


@pytest.fixture
def inline_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainers make their samples themselves: a process of its own takes seconds to start. The tests of the
    commands use the real pool."""
    monkeypatch.setattr("training.loop.SamplePool", InlinePool)


@pytest.fixture(scope="session")
def training_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training-data")
    (root / "images").mkdir()
    (root / "video").mkdir()
    for index in range(3):
        Image.fromarray(textured_picture(index)).save(root / "images" / f"{index}.png")
    with av.open(str(root / "video" / "pan.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv444p"
        large = textured_picture(9, 120, 200)
        for index in range(8):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(large[8:104, index * 3 : index * 3 + 128]), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return root


@pytest.fixture
def tiny_config() -> TrainingConfig:
    raw: dict[str, Any] = {
        "seed": 3,
        "dtype": "float32",
        "num_threads": 1,
        "save_every": 4,
        "log_every": 2,
        "data": {"num_frames": 3, "hr_size": 64, "block_size": 4, "steps_per_block": 4, "max_pan": 2.0},
        "degradations": {
            "mild": {"passes": [{"codec": {"probability": 0.5}, "resize": None}]},
            "none": {},
        },
        "model": {
            "name": "tiny",
            "timestep": 19,
            "attention": "window",
            "window": [2, 2],
            "transformer": {
                "num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 192, "out_channels": 192,
                "time_embed_dim": 16, "text_embed_dim": 8, "num_layers": 2, "patch_size": 2,
                "patch_size_t": 2, "max_text_seq_length": 1, "temporal_compression_ratio": 1,
                "use_rotary_positional_embeddings": True,
            },
            "vae": {"channels": 8, "num_blocks": 1},
            "scheduler": {
                "beta_start": 0.00085, "beta_end": 0.012, "rescale_betas_zero_snr": True,
                "snr_shift_scale": 1.0, "prediction_type": "v_prediction",
            },
        },
        "stages": [
            {"kind": "latent", "steps": 3, "learning_rate": 1e-3, "warmup_steps": 1, "batch_size": 2,
             "num_frames": 2, "lq_size": 12, "degradations": {"mild": 1.0}},
            {"kind": "pixel", "steps": 5, "learning_rate": 1e-3, "warmup_steps": 0, "batch_size": 2,
             "num_frames": 2, "lq_size": 12, "perceptual_weight": 0.1, "temporal_weight": 0.1,
             "latent_weight": 0.1, "frequency_weight": 0.1,
             "degradations": {"mild": 1.0, "none": 0.5}},
        ],
    }  # fmt: skip
    return TrainingConfig.model_validate(raw)
