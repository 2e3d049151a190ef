"""`dovetail upscale`: videos in, larger videos out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cli import upscale_options as options
from cli.display import Display, Warnings, make_display, print_line, print_skipped
from cli.errors import UsageError, reported_errors
from cli.inputs import FilePair, pair_files
from cli.sandboxing import UseSandbox, media_access
from cli.store_folder import store_folder
from cli.upscale_results import finish

if TYPE_CHECKING:
    from media._codecs import CodecChoice
    from pipelines.model import Model
    from workers.run.access import MediaAccess
    from workers.run.options import Existing, UpscaleOptions
    from workers.run.report import UpscaleReport

DEFAULT_RATE = Fraction(25)
"""Of pictures that become a video, where the user gives none."""


def upscale(
    paths: options.Paths,
    scale: options.Scale = None,
    height: options.Height = None,
    width: options.Width = None,
    model: options.ModelName = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    attention: options.Attention = "auto",
    quantize: options.Quantize = "auto",
    use_compile: options.UseCompile = False,
    use_offload: options.UseOffload = False,
    strength: options.Strength = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    chunk: options.Chunk = None,
    chunk_overlap: options.ChunkOverlap = None,
    use_scene_cuts: options.UseSceneCuts = True,
    codec: options.Codec = "auto",
    crf: options.Crf = None,
    preset: options.Preset = None,
    pix_fmt: options.PixFmt = None,
    encoder: options.EncoderName = "software",
    use_keep_matrix: options.UseKeepMatrix = False,
    deinterlace: options.Deinterlace = None,
    fps: options.Fps = None,
    video_stream: options.VideoStream = None,
    keep_gaps: options.KeepGaps = False,
    use_force: options.UseForce = False,
    start: options.Start = None,
    duration: options.Duration = None,
    use_compare: options.UseCompare = False,
    use_compare_image: options.UseCompareImage = False,
    use_resume: options.UseResume = False,
    use_overwrite: options.UseOverwrite = False,
    segment_seconds: options.SegmentSeconds = Fraction(10),
    use_sha256: options.UseSha256 = False,
    use_sandbox: UseSandbox = True,
    use_json: options.UseJson = False,
    is_quiet: options.IsQuiet = False,
) -> None:
    """Upscale videos with one step of a diffusion model.

    The output has every frame and time stamp of the source, its sound, text subtitles, chapters and metadata.
    Memory does not grow with length. A run that was interrupted continues with --resume.
    """
    with reported_errors(as_json=use_json):
        if use_resume and use_overwrite:
            raise UsageError("--resume continues a run, --overwrite starts it again; choose one")
        skipped: list[Path] = []
        pairs = pair_files(paths, takes_pictures=True, on_skip=skipped.append)
        print_skipped(skipped, is_quiet=is_quiet)
        if fps is not None and not any(pair.pictures for pair in pairs):
            raise UsageError("--fps is for pictures that become a video; a video has its own time stamps")

        from media import EncodeError, EncodeOptions
        from media.sizes import SizeRequest
        from pipelines.freed_memory import keep_freed_memory
        from pipelines.loaders import load_model
        from workers.run.options import UpscaleOptions

        keep_freed_memory()
        try:
            encode = EncodeOptions(
                codec=codec_of(pairs, codec),
                crf=crf,
                preset=preset,
                pix_fmt=pix_fmt,
                encoder=encoder,
                keep_matrix=use_keep_matrix,
            )
        except EncodeError as error:
            raise UsageError(str(error)) from error
        wanted = UpscaleOptions(
            size=SizeRequest(scale=scale, height=height, width=width),
            tile=tile,
            overlap=overlap,
            chunk=chunk,
            chunk_overlap=chunk_overlap,
            start_seconds=start,
            duration_seconds=duration,
            deinterlace=deinterlace,
            detect_cuts=use_scene_cuts,
            video_stream=video_stream,
            keep_gaps=keep_gaps,
            force=use_force,
            encode=encode,
            segment_seconds=segment_seconds,
            use_compare_video=use_compare,
            use_compare_image=use_compare_image,
        )
        existing: Existing = "resume" if use_resume else "overwrite" if use_overwrite else "refuse"
        with terminated_as_interrupt(), make_display(is_quiet=is_quiet) as display:
            access = media_access(use_sandbox=use_sandbox)
            load = partial(
                load_model,
                model,
                device=device,
                dtype=dtype,
                attention_backend=attention,
                quantize=quantize,
                use_compile=use_compile,
                use_offload=use_offload,
                strength=strength,
                models_dir=store_folder(),
            )
            reports = upscale_pairs(
                pairs,
                load=load,
                options=wanted,
                existing=existing,
                use_sha256=use_sha256,
                display=display,
                rate=fps or DEFAULT_RATE,
                access=access,
            )
    finish(reports, num_inputs=len(pairs), skipped=skipped, use_json=use_json, is_quiet=is_quiet)


def is_still_output(path: Path) -> bool:
    """Whether an output is one picture, not a video or its frames."""
    from media.picture_files import is_frame_pattern, is_picture_name

    return is_picture_name(path) and not is_frame_pattern(path)


def codec_of(pairs: list[FilePair], codec: CodecChoice) -> CodecChoice:
    """The codec that was asked for, or the one that the output's name asks for."""
    from media.containers import default_codec

    if codec != "auto" or len(pairs) != 1 or is_still_output(pairs[0].destination):
        return codec
    return default_codec(pairs[0].destination) or codec


def upscale_pairs(
    pairs: list[FilePair],
    *,
    load: Callable[[], Model],
    options: UpscaleOptions,
    existing: Existing,
    use_sha256: bool,
    display: Display,
    rate: Fraction,
    access: MediaAccess,
) -> list[UpscaleReport]:
    """Upscales all inputs; one that fails does not keep the others from running, an interrupt does.

    Args:
        pairs: Inputs and outputs, in order.
        load: Loads the model. Called once, when the first input is there whose output may be written.
        options: What to make of the inputs.
        existing: What to do where an output exists.
        use_sha256: Whether reports have digests.
        display: Shows progress.
        rate: Frames per second of pictures that become a video.
        access: How inputs are read and outputs joined.

    Returns:
        A report for each that was begun.

    Raises:
        PipelineError: If the model cannot be loaded.
    """
    from media import MediaError, check_regular_file
    from workers.errors import UpscaleError
    from workers.run.outputs import check_destination
    from workers.run.packing import packed_source
    from workers.run.report import ErrorReport, UpscaleReport, error_code
    from workers.run.still import upscale_still
    from workers.run.upscaler import upscale_file

    reports: list[UpscaleReport] = []
    model: Model | None = None
    for pair in pairs:
        report = UpscaleReport(source=pair.source, destination=pair.destination)
        reports.append(report)
        try:
            if not pair.pictures:
                check_regular_file(str(pair.source))
            check_destination(pair.destination, options, existing)
        except (MediaError, UpscaleError) as error:
            report.status, report.error = "failed", ErrorReport.of(error)
            continue
        model = model or load()
        warnings = Warnings(report, display)
        try:
            is_still = is_still_output(pair.destination)
            packed = packed_source(
                pair.source, pair.destination, pictures=pair.pictures, rate=rate, access=access
            )
            with nullcontext(pair.source) if is_still else packed as source:
                (upscale_still if is_still else upscale_file)(
                    source,
                    pair.destination,
                    model=model,
                    options=options,
                    existing=existing,
                    use_sha256=use_sha256,
                    on_progress=warnings.while_running(display.begin(pair.source.name)),
                    report=report,
                    access=access,
                )
        except KeyboardInterrupt:
            break
        except Exception as error:
            report.error = report.error or ErrorReport.of(error)
            if error_code(error) == "unexpected":
                import traceback

                print_line(traceback.format_exc())
        finally:
            warnings.show_new()
    return reports


@contextmanager
def terminated_as_interrupt() -> Iterator[None]:
    """SIGTERM, as init systems and schedulers send it, stops a run like Ctrl-C."""

    def interrupt(number: int, frame: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
