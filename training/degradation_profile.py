"""How training degrades clips: what `degradations` of a training configuration says."""

from __future__ import annotations

from pydantic import Field

from training.yaml_files import StrictModel


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
