"""What `dovetail train` reads: one YAML file, validated, with every number of a run."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.planning.attention import FULL_ATTENTION, AttentionSettings
from pipelines.planning.view import ViewSettings
from training.degradation_profile import DegradationConfig
from training.yaml_files import StrictModel, read_yaml, validate_config


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
    pixel_loss: Literal["charbonnier", "mse", "psnr"] = "charbonnier"
    teacher_weight: float = Field(
        default=0.0, ge=0, le=1, description="share of the pixel loss that asks for the teacher's frames"
    )
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
        teacher: A restorer's checkpoint, embedded or a folder: its frames are what a small network can learn
            of HR frames, without what nobody could know.
        compile_blocks: Compile the transformer's blocks, which takes a C++ compiler on a CPU.
        weight_decay: Adam's.
        betas: Adam's.
        start_parts: What is taken of a checkpoint to start from.
        degradations: Profiles by name.
        model: The checkpoint to make.
        stages: In order.
    """

    card: dict[str, str | int] = Field(default_factory=dict)
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    start_parts: tuple[Literal["transformer", "vae"], ...] = ("transformer", "vae")
    teacher: str | None = None
    compile_blocks: bool = False
    degradations: dict[str, DegradationConfig]
    model: ModelConfig
    stages: tuple[StageConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _stages_ask_for_what_there_is(self) -> Self:
        for stage in self.stages:
            if stage.view_probability and self.model.view is None:
                raise ValueError(f"view_probability is {stage.view_probability}, but the model has no view")
            if stage.teacher_weight and self.teacher is None:
                raise ValueError(f"teacher_weight is {stage.teacher_weight}, but there is no teacher")
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
