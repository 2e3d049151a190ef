"""The limits of a data set: one YAML file, or none."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from training.yaml_files import StrictModel, read_yaml, validate_config


class MetadataLimits(StrictModel):
    """What a file has to be before it is read. DOVE names the first two numbers (720 and 50).

    Attributes:
        min_side: Pixels of the shorter side.
        min_frames: Of a file, and of every clip.
        rate: Lowest and highest frames per second.
        bits_per_pixel: Lowest bits per pixel and frame of the video, for the codecs that are named; `other`
            is for all the rest. Below that, a network would learn to leave out what the codec has.
    """

    min_side: int = Field(default=720, ge=16)
    min_frames: int = Field(default=50, ge=2)
    rate: tuple[float, float] = (15.0, 121.0)
    bits_per_pixel: dict[str, float] = Field(
        default={
            "mpeg1video": 0.15, "mpeg2video": 0.12, "mpeg4": 0.08, "h264": 0.04, "hevc": 0.025, "vp9": 0.025,
            "av1": 0.02, "other": 0.1,
        }
    )  # fmt: skip


class SceneLimits(StrictModel):
    """Where clips begin and end.

    Attributes:
        max_frames: Longer scenes are cut into equal parts of at most so many frames; `dovetail train` reads
            no more of a clip (`max_video_frames`).
        margin: Frames left out at both ends of a scene: cuts are seldom coded well, and may be off by one.
        max_uneven: Share of frames whose duration is off by more than half a frame.
        max_repeated: Share of frames that repeat the one before, as converted film rates have them.
    """

    max_frames: int = Field(default=120, ge=2)
    margin: int = Field(default=2, ge=0)
    max_uneven: float = Field(default=0.02, ge=0, le=1)
    max_repeated: float = Field(default=0.05, ge=0, le=1)


class QualityLimits(StrictModel):
    """The worst that is taken, and how much of the rest. `quality` says what is measured.

    On six clips and four Kodak pictures: the Laplacian's variance is 400 or more, 6 to 53 after a blur of two
    pixels; fine detail 0.49 or more, 0.16 to 0.28 enlarged twice, 0.25 to 0.44 enlarged 1.5 times; blockiness
    1.0 to 1.1 (1.3 for frames that had been JPEGs), 1.0 to 1.3 after JPEG 85, 1.1 to 1.5 after JPEG 70; noise
    0 to 4.3.

    Attributes:
        min_contrast: Standard deviation of luma, 8-bit levels.
        min_sharpness: Variance of the Laplacian where the picture has most detail, 8-bit levels squared.
        min_fine_detail: The same, divided by that at half the size.
        max_blockiness: Steps at the borders of blocks of eight pixels, divided by those inside.
        max_noise: Standard deviation of noise, 8-bit levels.
        keep: Share of the scenes within the limits that is kept, by their mean rank in the last four
            measures.
        clips_per_scene: Parts of a long scene that are kept at most, the best of them.
    """

    min_contrast: float = 8.0
    min_sharpness: float = 60.0
    min_fine_detail: float = 0.25
    max_blockiness: float = 1.25
    max_noise: float = 6.0
    keep: float = Field(default=0.75, gt=0, le=1)
    clips_per_scene: int = Field(default=2, ge=1)


class MotionLimits(StrictModel):
    """What has to move, and how clips are cropped around it.

    Attributes:
        min_motion: Pixels per frame that a twentieth of the picture has to move by.
        padding: Pixels around what moves.
    """

    min_motion: float = Field(default=0.5, ge=0)
    padding: int = Field(default=64, ge=0)


class DatasetConfig(StrictModel):
    """All limits of a data set."""

    metadata: MetadataLimits = MetadataLimits()
    scenes: SceneLimits = SceneLimits()
    quality: QualityLimits = QualityLimits()
    motion: MotionLimits = MotionLimits()

    @model_validator(mode="after")
    def _parts_are_long_enough(self) -> Self:
        # A scene of one frame more than the most is cut in halves.
        if self.scenes.max_frames < 2 * self.metadata.min_frames:
            raise ValueError(
                f"scenes.max_frames {self.scenes.max_frames} must be at least twice metadata.min_frames "
                f"{self.metadata.min_frames}, or halves of a scene are too short"
            )
        return self


def load_dataset_config(path: Path | None) -> DatasetConfig:
    """The limits of a file; without one, those that are built in.

    Raises:
        TrainingConfigError: If the file is missing or no YAML, or a field unknown or out of range.
    """
    return DatasetConfig() if path is None else validate_config(DatasetConfig, read_yaml(path) or {}, path)
