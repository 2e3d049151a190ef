"""The training loop: stages, optimiser, EMA, checkpoints to resume from, and the log."""

from __future__ import annotations

import functools
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from training.config import StageConfig, TrainingConfig
from training.data import Block, SamplePool, one_step_maker
from training.losses import perceptual_loss, pixel_loss, temporal_loss
from training.model import OneStepModel, upsample

logger = logging.getLogger(__name__)


class Trainer:
    """Trains a checkpoint through the stages of a configuration.

    Args:
        config: Every number of the run.
        data_dir: Folder with the training pictures and videos.
        run_dir: Where the log, the resumable state, the pool and the finished checkpoint go.
        device: `cpu` or a CUDA device.
    """

    def __init__(self, config: TrainingConfig, *, data_dir: Path, run_dir: Path, device: str = "cpu") -> None:
        self.config = config
        self.data_dir = data_dir
        self.run_dir = run_dir
        self.device = torch.device(device)
        run_dir.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        if config.num_threads:
            torch.set_num_threads(config.num_threads)
        self.model = OneStepModel(config.model).to(self.device)
        self.ema = OneStepModel(config.model).to(self.device)
        self.ema.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(self.model.transformer.parameters()), "name": "transformer"},
                {"params": list(self.model.vae.parameters()), "name": "decoder"},
            ],
            lr=0.0,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.step = 0

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.config.stages)

    def run(self) -> OneStepModel:
        """Trains from the newest saved state to the end and returns the EMA model."""
        self.load_state()
        pool = SamplePool(
            functools.partial(one_step_maker, self.config, self.data_dir),
            self.run_dir / "pool",
            first_block=self.step // self.config.data.steps_per_block,
        )
        try:
            for stage, first, last in self._remaining_stages():
                logger.info("stage %s: steps %d to %d", stage.kind, first, last)
                self._run_stage(stage, first, last, pool)
        finally:
            pool.close()
        self.save_state()
        return self.ema

    def _remaining_stages(self) -> Iterator[tuple[StageConfig, int, int]]:
        first = 0
        for stage in self.config.stages:
            last = first + stage.steps
            if self.step < last:
                yield stage, first, last
            first = last

    def _run_stage(self, stage: StageConfig, first: int, last: int, pool: SamplePool) -> None:
        self.model.train()
        block_index, block = -1, None
        sums: dict[str, float] = {}
        since = time.perf_counter()
        while self.step < last:
            wanted = self.step // self.config.data.steps_per_block
            if block is None or wanted != block_index:
                block_index, block = wanted, Block(**pool.get(wanted))
            rng = np.random.default_rng((self.config.seed, 1, self.step))
            hr, lq = draw_batch(block, stage, self.config.model.scale, rng)
            losses = self.train_step(stage, hr.to(self.device), lq.to(self.device), self.step - first)
            self.step += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            if self.step % self.config.log_every == 0:
                seconds = (time.perf_counter() - since) / self.config.log_every
                means = {name: total / self.config.log_every for name, total in sums.items()}
                self._log({"step": self.step, "stage": stage.kind, "seconds_per_step": seconds} | means)
                sums, since = {}, time.perf_counter()
            if self.step % self.config.save_every == 0:
                self.save_state()

    def train_step(
        self, stage: StageConfig, hr: torch.Tensor, lq: torch.Tensor, step_in_stage: int
    ) -> dict[str, float]:
        """One optimiser step.

        Args:
            stage: The stage it belongs to.
            hr: (B, 3, F, H, W) in [-1, 1].
            lq: (B, 3, F, h, w) in [-1, 1].
            step_in_stage: For the learning-rate schedule.

        Returns:
            The loss terms; `baseline` is the pixel loss of bicubic upsampling of the same batch.
        """
        rate = learning_rate(stage, step_in_stage)
        for group in self.optimizer.param_groups:
            ratio = stage.decoder_learning_rate_ratio if group["name"] == "decoder" else 1.0
            group["lr"] = rate * ratio
        dtype = torch.bfloat16 if self.config.dtype == "bfloat16" else torch.float32
        with torch.autocast(self.device.type, dtype, enabled=self.config.dtype == "bfloat16"):
            losses = (
                self._latent_losses(hr, lq) if stage.kind == "latent" else self._pixel_losses(stage, hr, lq)
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(losses["loss"])
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self._update_ema()
        return {name: float(value.detach()) for name, value in losses.items()} | {
            "grad_norm": float(norm),
            "learning_rate": rate,
        }

    def _latent_losses(self, hr: torch.Tensor, lq: torch.Tensor) -> dict[str, torch.Tensor]:
        target = self.model.vae.encode(hr)
        restored = self.model.restore_latents(lq)
        with torch.no_grad():
            baseline = (self.model.vae.encode(upsample(lq, self.config.model.scale)) - target).square().mean()
        return {"loss": (restored.float() - target).square().mean(), "baseline": baseline}

    def _pixel_losses(
        self, stage: StageConfig, hr: torch.Tensor, lq: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        with torch.set_grad_enabled(stage.trains == "all"):
            latents = self.model.restore_latents(lq)
        sr = self.model.vae.decode(latents, lq)
        sr01, hr01 = sr.float() * 0.5 + 0.5, hr * 0.5 + 0.5
        losses = {"pixel": pixel_loss(sr01, hr01, stage.pixel_loss)}
        loss = losses["pixel"]
        if stage.perceptual_weight:
            frames = [x.transpose(1, 2).flatten(0, 1) for x in (sr01, hr01)]
            losses["perceptual"] = perceptual_loss(*frames)
            loss = loss + stage.perceptual_weight * losses["perceptual"]
        if stage.temporal_weight:
            losses["temporal"] = temporal_loss(sr01, hr01)
            loss = loss + stage.temporal_weight * losses["temporal"]
        if stage.latent_weight:
            losses["latent"] = (latents.float() - self.model.vae.encode(hr)).square().mean()
            loss = loss + stage.latent_weight * losses["latent"]
        with torch.no_grad():
            lq01 = lq.transpose(1, 2).flatten(0, 1) * 0.5 + 0.5
            bicubic = F.interpolate(lq01, scale_factor=self.config.model.scale, mode="bicubic")
            losses["baseline"] = pixel_loss(bicubic, hr01.transpose(1, 2).flatten(0, 1), stage.pixel_loss)
        return losses | {"loss": loss}

    @torch.no_grad()
    def _update_ema(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)

    def _log(self, record: dict[str, Any]) -> None:
        with (self.run_dir / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        logger.info(
            "step %d/%d loss %.5f ratio to bicubic %.4f, %.2f s/step",
            record["step"],
            self.total_steps,
            record["loss"],
            record.get("pixel", record["loss"]) / record["baseline"],
            record["seconds_per_step"],
        )

    def save_state(self) -> None:
        """Writes everything needed to go on, by temp file and rename."""
        path = self.run_dir / "state.pt"
        partial = path.with_suffix(".part")
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        partial.rename(path)

    def load_state(self) -> None:
        path = self.run_dir / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        logger.info("resuming at step %d", self.step)


def learning_rate(stage: StageConfig, step: int) -> float:
    """Linear warm-up, then constant, or a cosine down to the stage's smallest rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    if stage.schedule == "constant":
        return stage.learning_rate
    progress = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    low = stage.min_learning_rate_ratio
    return stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def draw_batch(
    block: Block, stage: StageConfig, scale: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fresh crops, frame ranges and flips of random samples of a block.

    A share of `stage.clean_probability` gets the bicubic LR of its HR crop in place of the degraded one.

    Returns:
        hr (B, 3, F, H, W) and lq (B, 3, F, h, w), float32, [-1, 1].
    """
    hrs, lqs = [], []
    for _ in range(stage.batch_size):
        index = int(rng.integers(len(block.hr)))
        first = int(rng.integers(block.hr.shape[1] - stage.num_frames + 1))
        y, x = (int(rng.integers(side - stage.lq_size + 1)) for side in block.lq.shape[-2:])
        frames = slice(first, first + stage.num_frames)
        hr_size = stage.lq_size * scale
        hr_y, hr_x = y * scale, x * scale
        hr = torch.from_numpy(
            block.hr[index, frames, :, hr_y : hr_y + hr_size, hr_x : hr_x + hr_size]
        ).float()
        if rng.random() < stage.clean_probability:
            lq = F.interpolate(
                hr, scale_factor=1 / scale, mode="bicubic", align_corners=False, antialias=True
            )
            lq = lq.round().clamp(0, 255)
        else:
            lq = torch.from_numpy(
                block.lq[index, frames, :, y : y + stage.lq_size, x : x + stage.lq_size]
            ).float()
        if rng.random() < 0.5:
            hr, lq = hr.flip(-1), lq.flip(-1)
        if rng.random() < 0.5:
            hr, lq = hr.flip(-2), lq.flip(-2)
        if rng.random() < 0.5:
            hr, lq = hr.transpose(-1, -2), lq.transpose(-1, -2)
        hrs.append(hr)
        lqs.append(lq)
    return tuple((torch.stack(x) / 127.5 - 1).transpose(1, 2).contiguous() for x in (hrs, lqs))  # type: ignore[return-value]
