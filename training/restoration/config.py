"""What a run of the restorer is: the YAML files of `kind: restoration`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.propagation import PropagationConfig
from training.config import DataConfig, RunConfig, ValidationConfig
from training.yaml_files import StrictModel

Range = tuple[float, float]


class CodecShare(StrictModel):
    """One video encoder: its share among coded clips and its constant rate factors.

    Attributes:
        share: Weight among the encoders.
        crf: Smallest and largest constant rate factor.
    """

    share: float = Field(gt=0)
    crf: Range


class UploadConfig(StrictModel):
    """A degraded clip: a soft lens, a smaller size, then noise, sharpening, JPEG and a video codec there.

    Attributes:
        blur_probability: Share of clips that are blurred.
        blur_sigma: Gaussian sigma in HR pixels at x4; the upper end falls with the factor.
        noise_probability: Share with noise.
        noise_sigma: Standard deviation in 8-bit levels.
        gray_noise_probability: Share of noisy clips whose noise is the same in all channels.
        sharpen_probability: Share that a camera or an editor has sharpened.
        sharpen_amount: Weight of what an unsharp mask adds.
        sharpen_sigma: Gaussian sigma of the mask in LR pixels.
        jpeg_probability: Share whose frames went through JPEG.
        jpeg_quality: Quality.
        codec_probability: Share that was coded as video.
        codecs: Encoders by FFmpeg's name.
    """

    blur_probability: float = Field(default=0.5, ge=0, le=1)
    blur_sigma: Range = (0.3, 2.0)
    noise_probability: float = Field(default=0.8, ge=0, le=1)
    noise_sigma: Range = (0.5, 8.0)
    gray_noise_probability: float = Field(default=0.3, ge=0, le=1)
    sharpen_probability: float = Field(default=0.0, ge=0, le=1)
    sharpen_amount: Range = (0.2, 1.0)
    sharpen_sigma: Range = (0.6, 1.4)
    jpeg_probability: float = Field(default=0.7, ge=0, le=1)
    jpeg_quality: Range = (50.0, 95.0)
    codec_probability: float = Field(default=0.75, ge=0, le=1)
    codecs: dict[str, CodecShare] = Field(
        default={"libx264": CodecShare(share=1.0, crf=(16.0, 30.0))}, min_length=1
    )


class RestorationDataConfig(DataConfig):
    """Where clips come from; `held_out` is also the validation set.

    Attributes:
        block_size: Clips of `num_frames` in one block; of single frames there are as many more.
        detail_candidates: Clips drawn for a sample; the one with the most detail is kept. Flat ones teach
            little.
        smooth_probability: Share of samples of which the one with the least detail is kept: an estimator that
            has not met them takes what is soft by itself for noise and damage.
        smooth_downscale: `downscale` of these: at their own size, films and photographs are soft by
            themselves.
        defocus_probability: Share of these whose original is defocused as well, all of it or one side.
        defocus_sigma: Gaussian sigma of that in HR pixels, log-uniform. More than degradations blur: what is
            softer than any of them could make it is soft by itself.
        moving_picture_probability: Share of clips from pictures that also turn and zoom.
    """

    detail_candidates: int = Field(default=1, ge=1)
    smooth_probability: float = Field(default=0.0, ge=0, le=1)
    smooth_downscale: Range = (0.4, 1.0)
    defocus_probability: float = Field(default=0.0, ge=0, le=1)
    defocus_sigma: Range = (1.5, 8.0)
    moving_picture_probability: float = Field(default=0.0, ge=0, le=1)


class RestorationStage(StrictModel):
    """Some steps of one kind.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Adam's; constant after the warm-up, which follows every start from weights alone.
        batch_frames: Frames of a batch, of all its clips together.
        num_frames: Frames of a clip, for one block of samples after the other. Single frames teach the body
            more for the same arithmetic, clips what to make of neighbours.
        body_size: Side of a crop at the size the body works at; `body_size * 4` output pixels (x3: times 3).
        border: Body pixels at each side that the loss leaves out: there the crop's edge is seen.
        scales: Factor -> share of steps.
        clean_probability: Share of samples degraded by bicubic alone.
        loss: `l1`, or `psnr`: every clip's own decibels (`training.losses.psnr_loss`).
        level_weight: Weight of the estimator's error.
        level_samples: Samples of a step for the estimator at x4 and x3; at other factors as many pixels.
        trains: `all`, or `estimator`: the body stays as it is, and is not computed.
    """

    steps: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    batch_frames: int = Field(default=8, ge=1)
    num_frames: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1,), min_length=1)
    body_size: int = Field(default=64, ge=16)
    border: int = Field(default=4, ge=0)
    scales: dict[int, float] = Field(default={4: 1.0}, min_length=1)
    clean_probability: float = Field(default=0.5, ge=0, le=1)
    loss: Literal["l1", "psnr"] = "l1"
    level_weight: float = Field(default=0.02, ge=0)
    level_samples: int = Field(default=24, ge=1)
    trains: Literal["all", "estimator"] = "all"

    def frames_of_block(self, index: int) -> int:
        """Frames of a clip while block `index` is used."""
        return self.num_frames[index % len(self.num_frames)]


class RestorationConfig(RunConfig):
    """A whole run of the restorer.

    Attributes:
        kind: Tells these files from those of the one-step model.
        name: Name of the checkpoint.
        licence: Of the checkpoint.
        source: Where it comes from, in words.
        adam_betas: Adam's.
        warmup_steps: After every start from weights alone.
        upload: The degraded share of samples.
        network: Sizes.
        stages: In order; the last one goes on for as long as it has steps.
    """

    kind: Literal["restoration"]
    name: str
    licence: str = "Apache-2.0"
    source: str = ""
    adam_betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = Field(default=200, ge=1)
    save_every: int = Field(default=250, ge=1)
    data: RestorationDataConfig = RestorationDataConfig()
    upload: UploadConfig = UploadConfig()
    network: PropagationConfig = PropagationConfig()
    stages: tuple[RestorationStage, ...] = Field(min_length=1)
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _stages_fit_samples(self) -> Self:
        for index, stage in enumerate(self.stages):
            if max(stage.num_frames) > self.data.num_frames:
                raise ValueError(
                    f"stage {index} wants {max(stage.num_frames)} frames, samples have {self.data.num_frames}"
                )
            if stage.body_size * 4 > self.data.hr_size:
                raise ValueError(
                    f"stage {index} crops {stage.body_size * 4} HR pixels, samples have {self.data.hr_size}"
                )
            if 2 * stage.border >= stage.body_size:
                raise ValueError(
                    f"stage {index} leaves out a border of {stage.border}, nothing would be left"
                )
            unknown = set(stage.scales) - set(self.network.scales)
            if unknown:
                raise ValueError(f"stage {index} trains {sorted(unknown)}, scales are {self.network.scales}")
        return self

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> RestorationStage:
        """The stage that a step belongs to; the last one for steps past the end."""
        last = 0
        for stage in self.stages:
            last += stage.steps
            if step < last:
                return stage
        return self.stages[-1]
