"""Trains the restorer: a constant rate that any later run goes on with, and decays off it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.propagation import (
    LEVEL_UNITS,
    PropagationConfig,
    PropagationDescription,
    PropagationNet,
    save_propagation,
)
from pipelines.propagation.checkpoint import load_propagation
from pipelines.propagation.interpolation import enlarge
from pipelines.propagation.quantized import measure_ranges
from training.data import BlockMaker, ensure_block, load_block
from training.errors import TrainingConfigError
from training.loop import TrainingLoop
from training.losses import psnr_loss
from training.restoration.config import RestorationConfig
from training.restoration.optimizer import make_optimizers
from training.restoration.samples import Batch, draw_batch, inner, restoration_maker
from training.validation import SCALE, Restore

_LEVEL_BETA = 0.2  # of a unit: smaller errors count by their square
# Of all factors, the rare ones too.
_NUM_RANGE_BATCHES = 64


class RestorationTrainer(TrainingLoop[PropagationNet, Batch]):
    """Trains the network of a configuration.

    Args:
        config: Every number of the run.
        data_dir: Folder with the training pictures and videos.
        run_dir: Where log, state, raw weights and the pool go.
        device: `cpu` or a CUDA device.
        make_network: For variants of the network.
    """

    def __init__(
        self,
        config: RestorationConfig,
        *,
        data_dir: Path,
        run_dir: Path,
        device: str = "cpu",
        make_network: Callable[[PropagationConfig], PropagationNet] = PropagationNet,
    ) -> None:
        self.config = config
        super().__init__(
            config,
            lambda: make_network(config.network),
            data_dir=data_dir,
            run_dir=run_dir,
            device=device,
        )

    def _make_optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        adam, muon = make_optimizers(self.network, betas=self.config.adam_betas)
        return {"adam": adam, "muon": muon}

    def _block_maker(self) -> Callable[[], BlockMaker]:
        return functools.partial(restoration_maker, self.config, self.data_dir)

    def _begin_step(self) -> None:
        """Where a stage begins, what it adds to the factors starts from x4."""
        before = set(self.config.stage_at(self.step - 1).scales) if self.step else {4}
        for scale in sorted(set(self.config.stage_at(self.step).scales) - before - {4}):
            self.network.start_scale(scale)
            self.ema.start_scale(scale)

    def _draw(self, block: Mapping[str, np.ndarray], index: int, rng: np.random.Generator) -> Batch:
        stage = self.config.stage_at(self.step)
        return draw_batch(block, stage, stage.frames_of_block(index), rng)

    def learning_rate(self) -> float:
        """The stage's rate; less after a start without optimisers."""
        stage = self.config.stage_at(self.step)
        return stage.learning_rate * min(1.0, (self.step - self.warm_from + 1) / self.config.warmup_steps)

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Pixel loss and the estimator's; `baseline<s>` is the pixel loss of bicubic interpolation at s."""
        stage = self.config.stage_at(self.step)
        units = torch.tensor(LEVEL_UNITS, device=self.device)
        levels = self.network.estimator(batch.level_lq.to(self.device))
        level = F.smooth_l1_loss(levels / units, batch.levels.to(self.device) / units, beta=_LEVEL_BETA)
        if stage.trains == "estimator":
            return {"level": level, "loss": level}
        hr, lq = batch.hr.to(self.device), batch.lq.to(self.device)
        with self.autocast():
            restored = self.network(lq, scale=batch.scale)
        target = inner(hr, stage.border, batch.scale)
        frames = inner(restored.frames, stage.border, batch.scale)
        pixel = F.l1_loss(frames, target)
        with torch.no_grad():
            baseline = F.l1_loss(inner(enlarge(lq, batch.scale), stage.border, batch.scale), target)
        return {
            f"pixel{batch.scale}": pixel,
            f"baseline{batch.scale}": baseline,
            "level": level,
            "loss": (psnr_loss(frames, target) if stage.loss == "psnr" else pixel)
            + stage.level_weight * level,
        }

    def _summary(self, means: Mapping[str, float]) -> str:
        ratios = [
            f"x{scale} {means[f'pixel{scale}'] / means[f'baseline{scale}']:.4f}"
            for scale in self.config.network.scales
            if means.get(f"baseline{scale}")  # 0 where all at x1 was clean
        ]
        pixels = [f"of bicubic's L1: {', '.join(ratios)}"] if ratios else []
        return ", ".join([*pixels, f"level {means['level']:.4f}"])

    def _restorers(self) -> Mapping[str, Restore]:
        def restore(lq: torch.Tensor) -> tuple[torch.Tensor, tuple[float, ...]]:
            restored = self.ema(lq[None].to(self.device), scale=SCALE)
            return restored.frames[0].cpu(), tuple(round(level, 3) for level in restored.levels[0].tolist())

        return {"means": restore}

    def measure_ranges(self) -> dict[str, tuple[float, float]]:
        """Of the averaged network's activations, on samples like those of the last step."""
        index = max(self.step - 1, 0) // self.config.data.steps_per_block
        pool = self.run_dir / "pool"
        ensure_block(lambda number: self._block_maker()()(number), pool, index)
        block = load_block(pool, index)
        batches = [
            self._draw(block, index, np.random.default_rng((self.config.seed, 2, number)))
            for number in range(_NUM_RANGE_BATCHES)
        ]
        with torch.inference_mode():
            return measure_ranges(self.ema, [functools.partial(self._restore, batch) for batch in batches])

    def _restore(self, batch: Batch) -> object:
        return self.ema(batch.lq.to(self.device), scale=batch.scale)

    def description(self) -> PropagationDescription:
        """What the checkpoint says of itself."""
        config = self.config
        return PropagationDescription(
            name=config.name,
            network=config.network,
            training_steps=self.step,
            licence=config.licence,
            source=config.source,
        )

    def _save_raw(self, folder: Path) -> None:
        save_propagation(self.network, folder, self.description(), dtype=torch.float32)

    def _load_weights(self, folder: Path) -> int:
        network, description = load_propagation(folder)
        if description.network != self.config.network:
            raise TrainingConfigError(
                f"{folder} has a network of {description.network}, the configuration of {self.config.network}"
            )
        self.network.load_state_dict(network.state_dict())
        return description.training_steps
