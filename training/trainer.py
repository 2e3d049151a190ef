"""Trains a one-step checkpoint in DOVE's two stages, or fine-tunes one into another attention pattern."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pipelines.loaders import propagation_folder
from pipelines.propagation import PropagationNet
from pipelines.propagation.checkpoint import load_propagation
from training.batches import CropBatch, draw_batch
from training.config import StageConfig, TrainingConfig
from training.data import Block, BlockMaker, one_step_maker
from training.errors import TrainingConfigError
from training.loop import TrainingLoop
from training.losses import frequency_loss, perceptual_loss, pixel_loss, psnr_loss, temporal_loss
from training.model import OneStepModel, upsample
from training.muon import Muon
from training.validation import Restore


class Trainer(TrainingLoop[OneStepModel, CropBatch]):
    """Trains the checkpoint of a configuration.

    Args:
        config: Every number of the run.
        data_dir: Folder with the training pictures and videos.
        run_dir: Where log, state, raw weights and the pool go.
        device: `cpu` or a CUDA device.
    """

    def __init__(self, config: TrainingConfig, *, data_dir: Path, run_dir: Path, device: str = "cpu") -> None:
        self.config = config
        super().__init__(
            config, lambda: OneStepModel(config.model), data_dir=data_dir, run_dir=run_dir, device=device
        )
        self._teacher: PropagationNet | None = None
        if config.teacher is not None:
            folder = propagation_folder(config.teacher)
            if folder is None:
                raise TrainingConfigError(
                    f"the teacher {config.teacher!r} is neither an embedded checkpoint nor a folder of "
                    "dovetail-nano-2's kind (with a propagation.json)"
                )
            self._teacher, _ = load_propagation(folder)
            self._teacher.float().to(self.device).eval()
        if config.compile_blocks:
            for block in self.network.transformer.transformer_blocks:
                block.compile(dynamic=False)

    def _make_optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        config = self.config
        matrices = self.network.block_matrices() if config.optimizer == "muon" else []
        chosen = {id(weight) for weight in matrices}
        others = [weight for weight in self.network.parameters() if id(weight) not in chosen]
        adam = torch.optim.AdamW(others, lr=0.0, betas=config.betas, weight_decay=config.weight_decay)
        return {"adam": adam} | ({"muon": Muon(matrices, lr=0.0)} if matrices else {})

    def _block_maker(self) -> Callable[[], BlockMaker]:
        return functools.partial(one_step_maker, self.config, self.data_dir)

    def _draw(self, block: Mapping[str, np.ndarray], index: int, rng: np.random.Generator) -> CropBatch:
        stage = self.config.stage_at(self.step)
        return draw_batch(Block(**block), stage, self.config.model.scale, rng).to(self.device)

    def learning_rate(self) -> float:
        """As the stage's schedule says."""
        return scheduled_rate(self.config.stage_at(self.step), self.config.step_in_stage(self.step))

    def _losses(self, batch: CropBatch) -> dict[str, torch.Tensor]:
        """Of the stage; `baseline` is the pixel loss of bicubic upsampling of the same batch."""
        stage = self.config.stage_at(self.step)
        with self.autocast():
            return self._latent_losses(batch) if stage.kind == "latent" else self._pixel_losses(stage, batch)

    def _latent_losses(self, batch: CropBatch) -> dict[str, torch.Tensor]:
        target = self.network.vae.encode(batch.hr)
        restored = self.network.restore_latents(batch.lq, batch.whole)
        with torch.no_grad():
            interpolated = self.network.vae.encode(upsample(batch.lq, self.config.model.scale))
            baseline = (interpolated - target).square().mean()
        return {"loss": (restored.float() - target).square().mean(), "baseline": baseline}

    def _pixel_losses(self, stage: StageConfig, batch: CropBatch) -> dict[str, torch.Tensor]:
        hr, lq = batch.hr, batch.lq
        with torch.set_grad_enabled(stage.trains == "all"):
            latents = self.network.restore_latents(lq, batch.whole)
        sr = self.network.vae.decode(latents, lq)
        sr01, hr01 = sr.float() * 0.5 + 0.5, hr * 0.5 + 0.5
        # Decibels are no ratio to interpolation's.
        logged = "charbonnier" if stage.pixel_loss == "psnr" else stage.pixel_loss
        losses = {"pixel": pixel_loss(sr01, hr01, logged)}
        loss = sr01.new_zeros(())
        if stage.teacher_weight < 1:
            loss = loss + (1 - stage.teacher_weight) * _fidelity(sr01, hr01, stage.pixel_loss)
        if stage.teacher_weight:
            wanted = self._taught(lq)
            loss = loss + stage.teacher_weight * _fidelity(sr01, wanted, stage.pixel_loss)
        if stage.perceptual_weight:
            frames = [x.transpose(1, 2).flatten(0, 1) for x in (sr01, hr01)]
            losses["perceptual"] = perceptual_loss(*frames)
            loss = loss + stage.perceptual_weight * losses["perceptual"]
        if stage.temporal_weight:
            losses["temporal"] = temporal_loss(sr01, hr01)
            loss = loss + stage.temporal_weight * losses["temporal"]
        if stage.frequency_weight:
            progress = self.config.model.timestep / self.network.scheduler.config.num_train_timesteps
            losses["frequency"] = frequency_loss(sr01, hr01, progress=progress)
            loss = loss + stage.frequency_weight * losses["frequency"]
        if stage.latent_weight:
            losses["latent"] = (latents.float() - self.network.vae.encode(hr)).square().mean()
            latent_loss = losses["latent"]
            if stage.pixel_loss == "psnr":
                latent_loss = _fidelity(self.network.vae.pictures(latents.float()) * 0.5 + 0.5, hr01, "psnr")
            loss = loss + stage.latent_weight * latent_loss
        with torch.no_grad():
            lq01 = lq.transpose(1, 2).flatten(0, 1) * 0.5 + 0.5
            bicubic = F.interpolate(lq01, scale_factor=self.config.model.scale, mode="bicubic")
            losses["baseline"] = pixel_loss(bicubic, hr01.transpose(1, 2).flatten(0, 1), logged)
        return losses | {"loss": loss}

    @torch.no_grad()
    def _taught(self, lq: torch.Tensor) -> torch.Tensor:
        """The teacher's frames (B, 3, F, H, W), [0, 1], of LR clips in [-1, 1]."""
        assert self._teacher is not None
        restored = self._teacher((lq * 0.5 + 0.5).transpose(1, 2), scale=self.config.model.scale)
        frames: torch.Tensor = restored.frames.float().transpose(1, 2)
        return frames

    def _restorers(self) -> Mapping[str, Restore]:
        """The model, and the same without its transformer: what that is worth."""

        def restorer(*, use_transformer: bool) -> Restore:
            def restore(lq: torch.Tensor) -> tuple[torch.Tensor, tuple[float, ...]]:
                clip = (lq.transpose(0, 1)[None] * 2 - 1).to(self.device)
                frames, _ = self.ema(clip, use_transformer=use_transformer)
                return (frames[0].transpose(0, 1).float() * 0.5 + 0.5).clamp(0, 1).cpu(), ()

            return restore

        return {
            "means": restorer(use_transformer=True),
            "without_transformer": restorer(use_transformer=False),
        }

    def _summary(self, means: Mapping[str, float]) -> str:
        ratio = means.get("pixel", means["loss"]) / means["baseline"]
        name = self.config.stage_at(self.step - 1).name
        return f"{name + ' ' if name else ''}loss {means['loss']:.5f}, ratio to interpolation {ratio:.4f}"

    def card(self) -> dict[str, object]:
        """What the checkpoint says of itself beside the configuration of its model."""
        return {"training_steps": self.step, **self.config.card}

    def _save_raw(self, folder: Path) -> None:
        self.network.save(folder, card=self.card())

    def _load_weights(self, folder: Path) -> int:
        steps, name = self.network.load(folder, parts=self.config.start_parts)
        # The raw weights of this checkpoint go on; another checkpoint is what this one is made of.
        return steps if name == self.config.model.name else 0


def _fidelity(sr: torch.Tensor, wanted: torch.Tensor, kind: str) -> torch.Tensor:
    """A stage's pixel loss of clips (B, 3, F, H, W), [0, 1]."""
    if kind == "psnr":
        return psnr_loss(sr.transpose(1, 2), wanted.transpose(1, 2))
    return pixel_loss(sr, wanted, kind)


def scheduled_rate(stage: StageConfig, step: int) -> float:
    """Linear warm-up, then constant, or a cosine down to the stage's smallest rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    if stage.schedule == "constant":
        return stage.learning_rate
    progress = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    low = stage.min_learning_rate_ratio
    return stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))
