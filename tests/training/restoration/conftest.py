"""A restorer's configuration that trains in seconds on the material of the other training tests."""

from __future__ import annotations

from typing import Any

import pytest

from training.restoration.config import RestorationConfig


@pytest.fixture
def raw_config() -> dict[str, Any]:
    return {
        "kind": "restoration",
        "name": "tiny",
        "seed": 3,
        "num_threads": 1,
        "dtype": "float32",
        "warmup_steps": 2,
        "save_every": 2,
        "log_every": 2,
        "data": {
            "num_frames": 3, "hr_size": 64, "block_size": 4, "steps_per_block": 4, "max_pan": 2.0,
            "moving_picture_probability": 0.5, "detail_candidates": 2, "held_out": ["2", "pan"],
        },
        "upload": {"codecs": {"libx264": {"share": 1.0, "crf": [16, 30]}}},
        "network": {"channels": 8, "feature_blocks": 1, "backward_blocks": 1, "forward_blocks": 1},
        "stages": [
            {"steps": 2, "learning_rate": 1e-3, "batch_frames": 2, "body_size": 16},
            {"steps": 4, "learning_rate": 1e-3, "batch_frames": 6, "body_size": 16, "num_frames": [1, 3],
             "scales": {4: 0.4, 3: 0.2, 2: 0.2, 1: 0.2}},
        ],
        "validation": {"every": 3, "num_frames": 2, "size": [64, 80]},
    }  # fmt: skip


@pytest.fixture
def restoration_config(raw_config: dict[str, Any]) -> RestorationConfig:
    return RestorationConfig.model_validate(raw_config)
