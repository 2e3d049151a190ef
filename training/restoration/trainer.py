"""The loop that trains the restorer: a constant rate that any later run goes on with, and decays off it."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.propagation import LEVEL_UNITS, PropagationDescription, PropagationNet, save_propagation
from pipelines.propagation.checkpoint import load_propagation
from pipelines.propagation.network import enlarge
from training.data import SamplePool
from training.errors import TrainingConfigError
from training.restoration.config import RestorationConfig, RestorationStage
from training.restoration.curves import plot_restoration_curves
from training.restoration.optimizer import make_optimizers
from training.restoration.samples import Batch, draw_batch, inner, restoration_maker
from training.restoration.validation import (
    ValidationClip,
    load_validation_clips,
    mean_gains,
    validate,
)

logger = logging.getLogger(__name__)

STATE_NAME = "state.pt"
RAW_NAME = "raw"
CURVES_NAME = "curves.png"


class Meter:
    """Means of what steps return, and their time, since the last look."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._steps = 0
        self._since = time.perf_counter()

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._values[name].append(value)
        self._steps += 1

    def take(self) -> tuple[dict[str, float], float]:
        """Means by name, and seconds for a step (validation and saving included); begins anew."""
        means = {name: float(np.mean(values)) for name, values in self._values.items()}
        seconds = (time.perf_counter() - self._since) / self._steps
        self._values.clear()
        self._steps, self._since = 0, time.perf_counter()
        return means, seconds


class RestorationTrainer:
    """Trains the network of a configuration.

    Args:
        config: Every number of the run.
        data_dir: Folder with the training pictures and videos.
        run_dir: Where log, state, raw weights and the pool go.
        device: `cpu` or a CUDA device.
    """

    def __init__(
        self, config: RestorationConfig, *, data_dir: Path, run_dir: Path, device: str = "cpu"
    ) -> None:
        self.config = config
        self.data_dir = data_dir
        self.run_dir = run_dir
        self.device = torch.device(device)
        run_dir.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.network = self._new_network()
        self.ema = self._new_network()
        self.ema.load_state_dict(self.network.state_dict())
        self.adam, self.muon = make_optimizers(self.network, betas=config.adam_betas)
        self.step = 0
        self.warm_from = 0
        self.decay: tuple[int, int] | None = None

    def _new_network(self) -> PropagationNet:
        return PropagationNet(self.config.network).to(self.device)

    def prepare(self, *, start: Path | None = None, decay_steps: int | None = None) -> None:
        """Takes up the run's own state, or else what it starts from.

        Args:
            start: A run's folder (goes on exactly there), or a checkpoint with raw weights (the
                optimisers begin anew). Read only where this run has no state yet.
            decay_steps: Let the rate fall to zero over so many steps from here, then end.

        Raises:
            TrainingConfigError: If there is nothing at `start`.
            CheckpointError: If the checkpoint is damaged.
        """
        if (self.run_dir / STATE_NAME).exists():
            self.load_state(self.run_dir)
            return
        if start is not None and (start / STATE_NAME).exists():
            self.load_state(start)
            self.decay = None
        elif start is not None and start.is_dir():
            self.load_weights(start)
        elif start is not None:
            raise TrainingConfigError(f"{start} is neither the folder of a run nor of a checkpoint")
        if decay_steps is not None:
            self.decay = (self.step, self.step + decay_steps)

    @property
    def last_step(self) -> int:
        return self.decay[1] if self.decay else self.config.total_steps

    def run(self) -> PropagationNet:
        """Trains to the last step and returns the averaged network."""
        config = self.config
        clips = load_validation_clips(config, self.data_dir)
        meter = Meter()
        for batch in self._batches():
            self._start_new_scales()
            meter.add(self.train_step(config.stage_at(self.step), batch))
            if self.step % config.log_every == 0:
                self._log(meter)
            if self.step % config.validation.every == 0 or self.step == self.last_step:
                self._validate(clips)
            if self.step % config.save_every == 0:
                self.save_state()
        self.save_state()
        return self.ema

    def _start_new_scales(self) -> None:
        """Where a stage begins, what it adds to the factors starts from x4."""
        before = set(self.config.stage_at(self.step - 1).scales) if self.step else {4}
        for scale in sorted(set(self.config.stage_at(self.step).scales) - before - {4}):
            self.network.start_scale(scale)
            self.ema.start_scale(scale)

    def _batches(self) -> Iterator[Batch]:
        """A batch for each step up to the last; which one is a function of the step alone."""
        per_block = self.config.data.steps_per_block
        pool = SamplePool(
            functools.partial(restoration_maker, self.config, self.data_dir),
            self.run_dir / "pool",
            first_block=self.step // per_block,
        )
        with contextlib.closing(pool):
            block: dict[str, np.ndarray] | None = None
            while self.step < self.last_step:
                index = self.step // per_block
                if block is None or self.step % per_block == 0:
                    block = pool.get(index)
                stage = self.config.stage_at(self.step)
                rng = np.random.default_rng((self.config.seed, 1, self.step))
                yield draw_batch(block, stage, stage.frames_of_block(index), rng)

    def train_step(self, stage: RestorationStage, batch: Batch) -> dict[str, float]:
        """One optimiser step; counts it.

        Returns:
            The terms of the loss; `baseline<s>` is the pixel loss of bicubic interpolation at factor s.
        """
        rate = self.learning_rate(stage)
        self.adam.param_groups[0]["lr"] = rate
        self.muon.param_groups[0]["lr"] = rate * self.config.muon_rate_ratio
        hr, lq = batch.hr.to(self.device), batch.lq.to(self.device)
        restored = self.network(lq, scale=batch.scale)
        target = inner(hr, stage.border, batch.scale)
        pixel = F.l1_loss(inner(restored.frames, stage.border, batch.scale), target)
        units = torch.tensor(LEVEL_UNITS, device=self.device)
        level = F.smooth_l1_loss(restored.levels / units, batch.levels.to(self.device) / units)
        loss = pixel + stage.level_weight * level
        self.network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.grad_clip)
        self.adam.step()
        self.muon.step()
        self.step += 1
        self._update_ema()
        with torch.no_grad():
            baseline = F.l1_loss(inner(enlarge(lq, batch.scale), stage.border, batch.scale), target)
        return {
            f"pixel{batch.scale}": float(pixel.detach()),
            f"baseline{batch.scale}": float(baseline),
            "level": float(level.detach()),
            "grad_norm": float(norm),
            "learning_rate": rate,
        }

    def learning_rate(self, stage: RestorationStage) -> float:
        """The stage's rate; less after a start without their state, and falling to zero in a decay."""
        rate = stage.learning_rate * min(1.0, (self.step - self.warm_from + 1) / self.config.warmup_steps)
        if self.decay:
            first, last = self.decay
            rate *= (last - self.step) / (last - first)
        return rate

    @torch.no_grad()
    def _update_ema(self) -> None:
        # A short memory at first: the weights of the first steps are worth nothing.
        age = self.step - self.warm_from
        decay = min(self.config.ema_decay, age / (age + 20))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1 - decay)

    def _log(self, meter: Meter) -> None:
        means, seconds = meter.take()
        self._write("log.jsonl", {"step": self.step, "seconds_per_step": seconds} | means)
        ratios = {
            scale: means[f"pixel{scale}"] / means[f"baseline{scale}"]
            for scale in self.config.network.scales
            if f"pixel{scale}" in means
        }
        logger.info(
            "step %d/%d of bicubic's L1: %s, level %.3f, %.2f s/step",
            self.step,
            self.last_step,
            ", ".join(f"x{scale} {ratio:.4f}" for scale, ratio in ratios.items()),
            means["level"],
            seconds,
        )

    def _validate(self, clips: list[ValidationClip]) -> None:
        gains = validate(self.ema, clips)
        means = mean_gains(gains)
        record = {"step": self.step, "means": means, "clips": [asdict(gain) for gain in gains]}
        self._write("validation.jsonl", record)
        plot_restoration_curves(self.run_dir, self.run_dir / CURVES_NAME)
        logger.info("step %d validation %s", self.step, json.dumps(means))

    def _write(self, name: str, record: dict[str, Any]) -> None:
        with (self.run_dir / name).open("a") as file:
            file.write(json.dumps(record) + "\n")

    def description(self) -> PropagationDescription:
        config = self.config
        return PropagationDescription(
            name=config.name,
            network=config.network,
            training_steps=self.step,
            licence=config.licence,
            source=config.source,
        )

    def save_state(self) -> None:
        """Writes everything needed to go on, by temp file and rename, and the raw weights beside it."""
        path = self.run_dir / STATE_NAME
        partial = path.with_suffix(".part")
        state = {
            "step": self.step,
            "warm_from": self.warm_from,
            "decay": self.decay,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "adam": self.adam.state_dict(),
            "muon": self.muon.state_dict(),
        }
        torch.save(state, partial)
        partial.rename(path)
        save_propagation(self.network, self.run_dir / RAW_NAME, self.description(), dtype=torch.float32)

    def load_state(self, folder: Path) -> None:
        """Goes on exactly where a run stopped."""
        state = torch.load(folder / STATE_NAME, map_location=self.device, weights_only=True)
        self.step, self.warm_from, self.decay = state["step"], state["warm_from"], state["decay"]
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.adam.load_state_dict(state["adam"])
        self.muon.load_state_dict(state["muon"])
        logger.info("going on at step %d", self.step)

    def load_weights(self, folder: Path) -> None:
        """Starts from the weights and the step of a checkpoint, with a warm-up.

        Raises:
            CheckpointError: If the checkpoint is damaged.
            TrainingConfigError: If its network has other sizes.
        """
        network, description = load_propagation(folder)
        if description.network != self.config.network:
            raise TrainingConfigError(
                f"{folder} has a network of {description.network}, the configuration of {self.config.network}"
            )
        self.network.load_state_dict(network.state_dict())
        self.ema.load_state_dict(network.state_dict())
        self.step = self.warm_from = description.training_steps
        logger.info("starting from the weights of step %d", self.step)
