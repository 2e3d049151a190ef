"""What every training run does: draw, step, average, log, score, save, and go on where it stopped."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from pipelines.devices import choose_dtype
from training.config import RunConfig
from training.curves import plot_curves
from training.data import BlockMaker, SamplePool
from training.errors import TrainingConfigError
from training.validation import Restore, ValidationClip, load_validation_clips, mean_gains, validate

logger = logging.getLogger(__name__)

STATE_NAME = "state.pt"
RAW_NAME = "raw"

Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch")


class Meter:
    """Means of what steps return, and their time, since the last look."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)
        self._steps = 0
        self._since = time.perf_counter()

    def add(self, values: Mapping[str, float]) -> None:
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


class TrainingLoop(ABC, Generic[Network, Batch]):
    """A run. What is trained, on what and for what is said by a subclass.

    Args:
        config: Every number of the run.
        make_network: The network with its first weights; called twice, the second is for averaged weights.
        data_dir: Folder with the training pictures and videos.
        run_dir: Where log, state, raw weights and the pool go.
        device: `cpu` or a CUDA device.

    Attributes:
        network: Is trained.
        ema: Exponential moving average of its weights: what is scored and used.
        step: Steps done.
        warm_from: Step at which the weights were taken over without their optimisers.
        decay: First and last step of a decay of the learning rate to zero.
    """

    def __init__(
        self,
        config: RunConfig,
        make_network: Callable[[], Network],
        *,
        data_dir: Path,
        run_dir: Path,
        device: str,
    ) -> None:
        self._config = config
        self.data_dir = data_dir
        self.run_dir = run_dir
        self.device = torch.device(device)
        run_dir.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.network = make_network().to(self.device)
        self.ema = make_network().to(self.device)
        self.ema.load_state_dict(self.network.state_dict())
        self._optimizers = dict(self._make_optimizers())
        self.step = 0
        self.warm_from = 0
        self.decay: tuple[int, int] | None = None

    # --- what a kind of training says ---

    @abstractmethod
    def _make_optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Optimisers of `network` by name: `muon` steps by `muon_rate_ratio` times the rate of the others."""

    @abstractmethod
    def _block_maker(self) -> Callable[[], BlockMaker]:
        """For the pool's process; picklable."""

    @abstractmethod
    def _draw(self, block: Mapping[str, np.ndarray], index: int, rng: np.random.Generator) -> Batch:
        """The batch of the next step, of block `index`."""

    @abstractmethod
    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Terms for the log; `loss` is what is made smaller."""

    @abstractmethod
    def learning_rate(self) -> float:
        """Adam's rate at the next step, but for a decay."""

    @abstractmethod
    def _restorers(self) -> Mapping[str, Restore]:
        """Ways to restore that are scored, by the name of their means in the log."""

    @abstractmethod
    def _save_raw(self, folder: Path) -> None:
        """Writes the weights that training goes on from, as a checkpoint."""

    @abstractmethod
    def _load_weights(self, folder: Path) -> int:
        """Takes weights of a checkpoint into `network`; the step to go on at."""

    @abstractmethod
    def _summary(self, means: Mapping[str, float]) -> str:
        """What the terminal is told of the last steps."""

    def _begin_step(self) -> None:
        """Before each step."""

    # --- what every training does ---

    def prepare(self, *, start: Path | None = None, decay_steps: int | None = None) -> None:
        """Takes up the run's own state, or else what it starts from.

        Args:
            start: A run's folder (goes on exactly there), or a checkpoint (the optimisers begin anew). Read
                only where this run has no state yet.
            decay_steps: Let the rate fall to zero over so many steps from here, then end.

        Raises:
            TrainingConfigError: If there is nothing at `start`, or what is there does not fit.
            CheckpointError: If the checkpoint is damaged.
        """
        if (self.run_dir / STATE_NAME).exists():
            self.load_state(self.run_dir)
            return
        if start is not None and (start / STATE_NAME).exists():
            self.load_state(start)
            self.decay = None
        elif start is not None and start.is_dir():
            self.step = self.warm_from = self._load_weights(start)
            self.ema.load_state_dict(self.network.state_dict())
            logger.info("starting with weights at step %d", self.step)
        elif start is not None:
            raise TrainingConfigError(f"{start} is neither the folder of a run nor of a checkpoint")
        if decay_steps is not None:
            self.decay = (self.step, self.step + decay_steps)

    def autocast(self) -> torch.autocast:
        """The configuration's dtype, for what is computed within."""
        dtype = choose_dtype(self._config.dtype, self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

    @property
    def last_step(self) -> int:
        return self.decay[1] if self.decay else self._config.total_steps

    def run(self) -> Network:
        """Trains to the last step and returns the averaged network."""
        config, validation = self._config, self._config.validation
        clips = load_validation_clips(config.data, validation, self.data_dir) if validation else []
        meter = Meter()
        self.network.train()
        for batch in self._batches():
            self._begin_step()
            meter.add(self.train_step(batch))
            if self.step % config.log_every == 0:
                self._log(meter)
            if validation and (self.step % validation.every == 0 or self.step == self.last_step):
                self._validate(clips)
            if self.step % config.save_every == 0:
                self.save_state()
        self.save_state()
        return self.ema

    def _batches(self) -> Iterator[Batch]:
        """A batch for each step up to the last; which one is a function of the step alone."""
        per_block = self._config.data.steps_per_block
        with contextlib.closing(self._open_pool(self.step // per_block)) as pool:
            block: Mapping[str, np.ndarray] | None = None
            while self.step < self.last_step:
                index = self.step // per_block
                if block is None or self.step % per_block == 0:
                    block = pool.get(index)
                yield self._draw(block, index, np.random.default_rng((self._config.seed, 1, self.step)))

    def _open_pool(self, first_block: int) -> SamplePool:
        return SamplePool(self._block_maker(), self.run_dir / "pool", first_block=first_block)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; counts it. Returns the terms of the loss."""
        rate = self.learning_rate()
        if self.decay:
            first, last = self.decay
            rate *= (last - self.step) / (last - first)
        losses = self._losses(batch)
        self.network.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["loss"])
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._config.grad_clip)
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rate * (self._config.muon_rate_ratio if name == "muon" else 1.0)
            optimizer.step()
        self.step += 1
        self._update_ema()
        terms = {name: float(value.detach()) for name, value in losses.items()}
        return terms | {"grad_norm": float(norm), "learning_rate": rate}

    @torch.no_grad()
    def _update_ema(self) -> None:
        # A short memory at first: the weights of the first steps are worth nothing.
        age = self.step - self.warm_from
        decay = min(self._config.ema_decay, age / (age + 20))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.network.parameters()), 1 - decay)

    def _log(self, meter: Meter) -> None:
        means, seconds = meter.take()
        self._write("log.jsonl", {"step": self.step, "seconds_per_step": seconds} | means)
        logger.info("step %d/%d %s, %.2f s/step", self.step, self.last_step, self._summary(means), seconds)

    def _validate(self, clips: list[ValidationClip]) -> None:
        scored = {name: validate(restore, clips) for name, restore in self._restorers().items()}
        means = {name: mean_gains(gains) for name, gains in scored.items()}
        record = {"step": self.step, **means, "clips": [asdict(gain) for gain in scored["means"]]}
        self._write("validation.jsonl", record)
        plot_curves(self.run_dir)
        logger.info("step %d validation %s", self.step, json.dumps(means))

    def _write(self, name: str, record: dict[str, Any]) -> None:
        with (self.run_dir / name).open("a") as file:
            file.write(json.dumps(record) + "\n")

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
            **{name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
        }
        torch.save(state, partial)
        partial.rename(path)
        self._save_raw(self.run_dir / RAW_NAME)

    def load_state(self, folder: Path) -> None:
        """Goes on exactly where a run stopped."""
        state = torch.load(folder / STATE_NAME, map_location=self.device, weights_only=True)
        self.step, self.warm_from, self.decay = state["step"], state["warm_from"], state["decay"]
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(state[name])
        logger.info("going on at step %d", self.step)
