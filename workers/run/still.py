"""Upscaling one still picture: read, restored as a clip of one frame, written in the format of its name."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from media.sizes import target_size
from media.stills import Picture, write_picture
from media.transparency import enlarge_alpha
from pipelines.clips import restore_clip
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from workers.run.access import IN_THIS_PROCESS, MediaAccess
from workers.run.comparison import save_png, side_by_side
from workers.run.disk import check_room
from workers.run.options import Existing, UpscaleOptions
from workers.run.outputs import check_destination, compare_path, file_sha256, is_kept
from workers.run.progress import Progress, ProgressCallback
from workers.run.report import OutputReport, UpscaleReport, reported


def upscale_still(
    source: Path,
    destination: Path,
    *,
    model: Model,
    options: UpscaleOptions,
    existing: Existing = "refuse",
    use_sha256: bool = False,
    on_progress: ProgressCallback | None = None,
    report: UpscaleReport | None = None,
    access: MediaAccess = IN_THIS_PROCESS,
) -> UpscaleReport:
    """Upscales a picture to a picture: upright, with its transparency, colour profile and EXIF data.

    Args:
        source: The input, see `media.stills.read_picture`.
        destination: The output; its suffix says the format.
        model: From `load_model`.
        options: What to make of it; those of time and of video encoders mean nothing here.
        existing: What to do where the output exists. "resume" keeps it.
        use_sha256: Whether the report has a digest of the output.
        on_progress: Told how far the run is.
        report: Filled in; a new one if None.
        access: How the source is read.

    Raises:
        MediaError: If the input cannot be read or the output cannot be written.
        PipelineError: If the model cannot do it, or memory does not suffice.
        UpscaleError: If the output exists or does not fit the disk.
    """
    report = report or UpscaleReport(source=source, destination=destination)
    notify = on_progress or (lambda _: None)
    with reported(report, model.device):
        if is_kept(destination, existing):
            report.status = "kept"
            return report
        check_destination(destination, options, existing)
        notify(Progress("planning"))
        picture = access.read_picture(source)
        notify(Progress("upscaling", 0, 1, 0))
        restored = _restore(picture, model, options, report)
        report.warn(write_picture(restored, destination))
        report.output = _describe(restored, destination, options, picture, use_sha256=use_sha256)
        notify(Progress("upscaling", 1, 1, 0))
        report.status = "done"
    return report


@dataclass(frozen=True)
class DecidedStill:
    """What a run over a still will do.

    Attributes:
        width: Of the result, in pixels.
        height: Of the result, in pixels.
        plan: Tiles.
        warnings: What the user may not expect.
    """

    width: int
    height: int
    plan: ChunkPlan
    warnings: tuple[str, ...]


def decide_still(picture: Picture, *, model: Model, options: UpscaleOptions) -> DecidedStill:
    """Decides size and tiles.

    Raises:
        InvalidSizeError: If the size is impossible.
        PipelineError: If the model cannot do it, or memory does not suffice.
    """
    height, width = picture.size
    target = target_size(options.size, width=width, height=height, default_scale=model.card.scale)
    plan = model.plan(
        num_frames=1,
        size=picture.size,
        out_size=(target.height, target.width),
        reserved_bytes=2 * 4 * 4 * target.height * target.width,
        tile=options.tile,
        overlap=options.overlap,
    )
    warnings: tuple[str, ...] = ()
    if target.sample_aspect_ratio != 1:
        warnings = (f"{width}x{height} is stretched to {target.width}x{target.height}, another shape",)
    return DecidedStill(target.width, target.height, plan, warnings)


def restore_still(
    picture: Picture, size: tuple[int, int], plan: ChunkPlan, *, model: Model, seed: int
) -> Picture:
    """The picture, enlarged.

    Args:
        picture: The source.
        size: (height, width) of the result.
        plan: Tiles.
        model: The model; its `findings` are those of the picture then.
        seed: For models that draw noise.

    Raises:
        PipelineError: If the model cannot do it, or memory does not suffice.
    """
    generator = torch.Generator(device=model.device).manual_seed(seed)
    clip = picture.image[None].to(model.device)
    image = restore_clip(model, clip, size, plan=plan, generator=generator)[0]
    alpha = None if picture.alpha is None else enlarge_alpha(picture.alpha, size)
    return Picture(image, alpha, picture.bit_depth, picture.is_gray, picture.icc_profile, picture.exif)


def _restore(picture: Picture, model: Model, options: UpscaleOptions, report: UpscaleReport) -> Picture:
    decided = decide_still(picture, model=model, options=options)
    report.model = {"name": model.name, "licence": model.card.licence, **model.identity()}
    report.plan, report.options = decided.plan, options.to_json()
    report.warn(decided.warnings)
    warning = check_room(Path(report.destination).parent, num_pixels=decided.height * decided.width)
    report.warn([warning] if warning else [])
    size = (decided.height, decided.width)
    restored = restore_still(picture, size, decided.plan, model=model, seed=options.seed)
    report.findings = dict(model.findings)
    return restored


def _describe(
    restored: Picture, destination: Path, options: UpscaleOptions, source: Picture, *, use_sha256: bool
) -> OutputReport:
    """What was written; writes the side-by-side picture that may be asked for."""
    compare = None
    if options.use_compare_image:
        compare = compare_path(destination, ".png")
        save_png(side_by_side(source.image, restored.image), compare)
    height, width = restored.size
    return OutputReport(
        path=destination,
        width=width,
        height=height,
        num_frames=1,
        duration_seconds=Fraction(0),
        size_bytes=destination.stat().st_size,
        sha256=file_sha256(destination) if use_sha256 else None,
        compare_image=compare,
    )
