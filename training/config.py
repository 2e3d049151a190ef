"""What `dovetail train` reads: one YAML file, validated, with every number of a run."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.planning.attention import FULL_ATTENTION, AttentionSettings
from pipelines.planning.view import ViewSettings
from training.errors import TrainingConfigError


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Config = TypeVar("Config", bound=StrictModel)


class BlurConfig(StrictModel):
    """Random blur kernels (Real-ESRGAN's families, as in DOVE's degradation.yaml)."""

    probability: float = Field(default=1.0, ge=0, le=1)
    kernel_sizes: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    # iso, aniso, generalised iso, generalised aniso, plateau iso, plateau aniso, sinc
    kernel_probabilities: tuple[float, float, float, float, float, float, float] = (
        0.405, 0.225, 0.108, 0.027, 0.108, 0.027, 0.1,
    )  # fmt: skip
    sigma: tuple[float, float] = (0.2, 3.0)
    sigma_step: float = 0.0
    angle_step: float = 0.0
    beta_gaussian: tuple[float, float] = (0.5, 4.0)
    beta_gaussian_step: float = 0.0
    beta_plateau: tuple[float, float] = (1.0, 2.0)
    beta_plateau_step: float = 0.0
    omega_step: float = 0.0


class ResizeConfig(StrictModel):
    """Random resampling; probabilities of up, down and keep."""

    probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)
    scale: tuple[float, float] = (0.15, 1.5)
    scale_step: float = 0.0


class NoiseConfig(StrictModel):
    """Gaussian or Poisson noise; sigma in 8-bit levels."""

    probability: float = Field(default=1.0, ge=0, le=1)
    gaussian_probability: float = 0.5
    sigma: tuple[float, float] = (1.0, 30.0)
    sigma_step: float = 0.0
    poisson_scale: tuple[float, float] = (0.05, 3.0)
    poisson_scale_step: float = 0.0
    gray_probability: float = 0.4


class JpegConfig(StrictModel):
    probability: float = Field(default=1.0, ge=0, le=1)
    quality: tuple[float, float] = (30.0, 95.0)
    quality_step: float = 3.0


class CodecConfig(StrictModel):
    """Video coding at the size the clip has at that point; bit rate relative to 160x320 at 25 fps as in
    DOVE's yaml, scaled by the clip's own area so that bits per pixel stay comparable."""

    probability: float = Field(default=1.0, ge=0, le=1)
    codecs: tuple[str, ...] = ("libx264", "mpeg4")
    crf: tuple[float, float] | None = None
    bits_per_pixel: tuple[float, float] = (0.008, 0.3)


class PassConfig(StrictModel):
    blur: BlurConfig = BlurConfig()
    resize: ResizeConfig | None = ResizeConfig()
    noise: NoiseConfig = NoiseConfig()
    jpeg: JpegConfig = JpegConfig()
    codec: CodecConfig = CodecConfig()


class DegradationConfig(StrictModel):
    """One profile: passes in RealBasicVSR's order, then the resize to the LR size."""

    passes: tuple[PassConfig, ...] = ()
    final_sinc_probability: float = 0.0


class DataConfig(StrictModel):
    images: str = "images"
    videos: str = "video"
    held_out: tuple[str, ...] = Field(default=(), description="file names without suffix that are not used")
    image_probability: float = Field(default=0.6, ge=0, le=1)
    drawn_probability: float = Field(default=0.0, ge=0, le=1, description="share of pictures that are drawn")
    num_frames: int = 6
    hr_size: int = 256
    max_video_frames: int = 120
    downscale: tuple[float, float] = (0.4, 1.0)
    max_pan: float = 6.0
    static_probability: float = 0.25
    block_size: int = Field(default=384, description="samples in one block of the pool")
    steps_per_block: int = Field(default=384, description="optimiser steps for which a block is used")


class ValidationConfig(StrictModel):
    """Scores on what `held_out` names, during the run.

    Attributes:
        every: Steps between two.
        num_frames: Frames of a video.
        size: Height and width of the central crop, HR pixels.
    """

    every: int = Field(default=500, ge=1)
    num_frames: int = Field(default=5, ge=1)
    size: tuple[int, int] = (384, 512)


class ModelConfig(StrictModel):
    """The checkpoint to make; `transformer`, `vae` and `scheduler` are the diffusers configs, `attention` and
    `view` as in `dovetail.json`. A `window` beside a pattern's name is its window."""

    name: str
    scale: int = 4
    timestep: int
    attention: AttentionSettings = FULL_ATTENTION
    local_enhancement: bool = False
    view: ViewSettings | None = None
    prompt_tokens: int = 1
    transformer: dict[str, Any]
    vae: dict[str, Any]
    scheduler: dict[str, Any]

    @model_validator(mode="before")
    @classmethod
    def _window_is_of_the_attention(cls, value: Any) -> Any:
        if isinstance(value, dict) and "window" in value and isinstance(value.get("attention", "full"), str):
            rest = {name: item for name, item in value.items() if name != "window"}
            pattern = value.get("attention", "full")
            return rest | {"attention": {"pattern": pattern, "window": value["window"]}}
        return value


class StageConfig(StrictModel):
    """A part of one of the two stages. `latent` trains the transformer on latents; `pixel` trains on pixels,
    everything or the decoder alone (DOVE's stages train the transformer alone: its VAE is given)."""

    name: str = Field(default="", description="what a log calls it, such as OASIS's consistent and drifting")
    kind: Literal["latent", "pixel"]
    trains: Literal["all", "decoder"] = "all"
    steps: int
    learning_rate: float
    schedule: Literal["constant", "cosine"] = "cosine"
    min_learning_rate_ratio: float = 0.02
    warmup_steps: int = 100
    batch_size: int = 6
    num_frames: int = 4
    lq_size: int = 48
    degradations: dict[str, Annotated[float, Field(gt=0)]] = Field(
        min_length=1, description="profile -> weight among the samples of this stage"
    )
    clean_probability: float = Field(default=0.35, description="share of samples degraded by bicubic alone")
    pixel_loss: Literal["charbonnier", "mse"] = "charbonnier"
    perceptual_weight: float = 0.0
    temporal_weight: float = 0.0
    latent_weight: float = 0.0
    frequency_weight: float = Field(default=0.0, ge=0, description="of STAR's frequency loss")
    view_probability: float = Field(
        default=0.0, ge=0, le=1, description="share of steps with the model's view"
    )


class RunConfig(StrictModel):
    """What every run has.

    Attributes:
        seed: Of everything.
        num_threads: Of torch.
        dtype: Of the arithmetic; weights are float32. `auto`: bfloat16 where the device multiplies it.
        grad_clip: Largest gradient norm.
        muon_rate_ratio: Muon's rate by Adam's, where Muon is used.
        ema_decay: Of the averaged weights.
        save_every: Steps between two states.
        log_every: Steps between two lines of the log.
        data: Sources and the pool; what `held_out` names is also the validation set.
        validation: Scores during the run.
    """

    seed: int = 0
    num_threads: int | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    grad_clip: float = Field(default=0.5, gt=0)
    muon_rate_ratio: float = Field(default=10.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    save_every: int = Field(default=500, ge=1)
    log_every: int = Field(default=50, ge=1)
    data: DataConfig = DataConfig()
    validation: ValidationConfig | None = None

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """Of all stages."""


class TrainingConfig(RunConfig):
    """A whole run of the one-step model.

    Attributes:
        card: Copied into the checkpoint's `dovetail.json` (licence, source).
        optimizer: `muon` is for the matrices of blocks; Adam has the rest.
        weight_decay: Adam's.
        betas: Adam's.
        start_parts: What is taken of a checkpoint to start from.
        degradations: Profiles by name.
        model: The checkpoint to make.
        stages: In order.
    """

    card: dict[str, str | int] = {}
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    start_parts: tuple[Literal["transformer", "vae"], ...] = ("transformer", "vae")
    degradations: dict[str, DegradationConfig]
    model: ModelConfig
    stages: tuple[StageConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _stages_ask_for_what_there_is(self) -> Self:
        for stage in self.stages:
            if stage.view_probability and self.model.view is None:
                raise ValueError(f"view_probability is {stage.view_probability}, but the model has no view")
            unknown = set(stage.degradations) - set(self.degradations)
            if unknown:
                defined = sorted(self.degradations)
                raise ValueError(f"stages ask for the degradations {sorted(unknown)}; defined are {defined}")
        return self

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> StageConfig:
        """The stage that a step belongs to; the last one for steps past the end."""
        return self.stages[self._stage_index(step)[0]]

    def step_in_stage(self, step: int) -> int:
        """Steps of its stage that precede a step."""
        return step - self._stage_index(step)[1]

    def _stage_index(self, step: int) -> tuple[int, int]:
        """Index and first step of the stage that a step belongs to."""
        first = 0
        for index, stage in enumerate(self.stages):
            if step < first + stage.steps or index == len(self.stages) - 1:
                return index, first
            first += stage.steps
        raise AssertionError("there is at least one stage")


def load_config(path: Path) -> TrainingConfig:
    """Reads and validates a training configuration.

    Raises:
        TrainingConfigError: If the file is missing or no YAML, or a field unknown, missing or out of range.
    """
    return validate_config(TrainingConfig, read_yaml(path), path)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        TrainingConfigError: If the file is missing or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TrainingConfigError(f"cannot read the training configuration {path}: {error}") from error


def validate_config(kind: type[Config], content: Any, path: Path) -> Config:
    """The content of a file as a configuration of a kind.

    Raises:
        TrainingConfigError: If a field is unknown, missing or out of range; the message names the file.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()
        )
        raise TrainingConfigError(f"{path}: {problems}") from error
