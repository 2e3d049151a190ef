"""The restorer trains on a card as on the processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("av", reason="training reads videos")

from training.restoration.config import RestorationConfig
from training.restoration.samples import Batch
from training.restoration.trainer import RestorationTrainer

CONFIG = {
    "kind": "restoration",
    "name": "tiny",
    "seed": 3,
    "warmup_steps": 1,
    "data": {"num_frames": 3, "hr_size": 64, "block_size": 4, "steps_per_block": 4},
    "upload": {},
    "network": {"channels": 16, "feature_blocks": 1, "backward_blocks": 1, "forward_blocks": 1},
    "stages": [{"steps": 9, "learning_rate": 1e-3, "batch_frames": 6, "body_size": 16, "num_frames": [3]}],
}


def made_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    hr, level_lq, levels = (
        torch.rand(shape, generator=generator) for shape in ((2, 3, 3, 64, 64), (4, 1, 3, 48, 48), (4, 3))
    )
    lq = torch.nn.functional.avg_pool2d(hr.flatten(0, 1), 4).unflatten(0, (2, 3))
    return Batch(scale=4, hr=hr, lq=lq, level_lq=level_lq, levels=levels)


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_steps_are_those_of_the_processor_up_to_rounding(
    device: torch.device, dtype: str, tmp_path: Path
) -> None:
    def trained(place: str, dtype: str) -> tuple[list[float], torch.Tensor]:
        config = RestorationConfig.model_validate(CONFIG | {"dtype": dtype})
        trainer = RestorationTrainer(config, data_dir=tmp_path, run_dir=tmp_path / dtype, device=place)
        losses = [trainer.train_step(made_batch())["loss"] for _ in range(4)]
        trainer.save_state()
        return losses, torch.cat([value.flatten().cpu() for value in trainer.network.parameters()])

    wanted, exact = trained("cpu", "float32")
    found, weights = trained(str(device), dtype)
    assert found == pytest.approx(wanted, rel=1e-3 if dtype == "float32" else 0.03)
    assert found[-1] < found[0]
    assert torch.nn.functional.cosine_similarity(weights, exact, dim=0) > 0.999
