"""`dovetail submit`: videos and stills to a service, and their results back."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import unquote, urlsplit

import typer

from cli import upscale_options as options
from cli._client import ApiKey, Url, UseJson, parse_labels, parse_metadata
from cli._followed_results import cancel_unfinished, finish, follow_jobs
from cli._following import Followed
from cli.display import print_skipped
from cli.errors import OutputExistsError, UsageError, reported_errors
from cli.inputs import expand_inputs, pair_files
from media.derived_names import fitted_name
from media.picture_files import is_frame_pattern, is_still, kind_of_name, still_suffix

if TYPE_CHECKING:
    from dovetail_client import SubmitOptions

_JOB, _RESULT = "Job", "Result"


def submit(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Videos, stills, folders, patterns, URLs (https or s3), or - for a list on stdin.",
            show_default=False,
        ),
    ],
    use_wait: Annotated[
        bool, typer.Option("--wait", help="Wait and download the results.", rich_help_panel=_RESULT)
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="An .mp4, .mkv, .mov or .webm file, for a still a picture, or a folder for the results; "
            "waits. Default with --wait: here, as NAME-upscaled.mp4, or with the ending of the still.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    use_overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results.", rich_help_panel=_RESULT)
    ] = False,
    use_cancel: Annotated[
        bool,
        typer.Option(
            "--cancel-on-interrupt",
            help="Cancel the jobs when waiting is interrupted.",
            rich_help_panel=_RESULT,
        ),
    ] = False,
    scale: options.Scale = None,
    height: options.Height = None,
    width: options.Width = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="One of the service's.", rich_help_panel="Model"),
    ] = None,
    use_scene_cuts: options.UseSceneCuts = True,
    codec: options.Codec = "auto",
    crf: options.Crf = None,
    preset: options.Preset = None,
    pix_fmt: options.PixFmt = None,
    encoder: options.EncoderName = "software",
    use_keep_matrix: options.UseKeepMatrix = False,
    deinterlace: options.Deinterlace = None,
    video_stream: options.VideoStream = None,
    keep_gaps: options.KeepGaps = False,
    use_force: options.UseForce = False,
    start: options.Start = None,
    duration: options.Duration = None,
    priority: Annotated[
        Literal["high", "normal", "low"],
        typer.Option(help="A job of a higher one goes first.", rich_help_panel=_JOB),
    ] = "normal",
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="To find jobs by; repeatable.", rich_help_panel=_JOB),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="An object that comes back with the job.", rich_help_panel=_JOB),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Is told when the job ends.", rich_help_panel=_JOB),
    ] = None,
    deliver_to: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where the service sends the result: s3://BUCKET/KEY, s3://BUCKET/PREFIX/, or an https:// "
            "address to PUT it to.",
            rich_help_panel=_JOB,
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    use_json: UseJson = False,
    is_quiet: options.IsQuiet = False,
) -> None:
    """Send videos and stills to a Dovetail service.

    Writes the id of each job to stdout. With --wait or --output it shows their progress and downloads the
    results; when that is interrupted, the jobs go on.
    """
    with reported_errors(as_json=use_json):
        use_wait = use_wait or output is not None
        given: dict[str, Any] = {
            "scale": None if scale is None else float(scale),
            "height": height,
            "width": width,
            "model": model,
            "detect_cuts": use_scene_cuts,
            "codec": codec,
            "crf": crf,
            "preset": preset,
            "pix_fmt": pix_fmt,
            "encoder": encoder,
            "keep_matrix": use_keep_matrix,
            "deinterlace": deinterlace,
            "video_stream": video_stream,
            "keep_gaps": keep_gaps or None,
            "force": use_force or None,
            "start_seconds": None if start is None else float(start),
            "duration_seconds": None if duration is None else float(duration),
            "priority": priority,
            "labels": parse_labels(label or []),
            "metadata": parse_metadata(metadata),
            "webhook": webhook,
            "deliver_to": deliver_to,
        }
        wanted = cast("SubmitOptions", {name: value for name, value in given.items() if value is not None})
        skipped: list[Path] = []
        jobs = plan_submissions(files, output, use_wait=use_wait, on_skip=skipped.append)
        print_skipped(skipped, is_quiet=is_quiet)
        _refuse_existing(jobs, use_overwrite=use_overwrite)
        if deliver_to is not None and len(jobs) > 1 and not deliver_to.endswith("/"):
            raise UsageError(
                f"{len(jobs)} results would replace each other at --deliver-to; give s3://BUCKET/PREFIX/"
            )
        is_interrupted = follow_jobs(
            jobs,
            url=url,
            api_key=api_key,
            use_wait=use_wait,
            is_quiet=is_quiet,
            options=wanted,
            use_echo=not use_json,
        )
        if is_interrupted and use_cancel:
            cancel_unfinished(jobs, url=url, api_key=api_key)
    finish(jobs, is_interrupted=is_interrupted, use_json=use_json, is_quiet=is_quiet)


def _container_of(destination: Path) -> str:
    """What a result has to be to be called so."""
    return kind_of_name(destination.name) or destination.suffix.lower().removeprefix(".")


def _name_of(url: str) -> str:
    """The last part of a URL's path, as a file would be called."""
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]).replace("/", "_") or "video"


def plan_submissions(
    arguments: Sequence[str], output: str | None, *, use_wait: bool, on_skip: Callable[[Path], None]
) -> list[Followed]:
    """Which sources are submitted, and where their results go.

    Args:
        arguments: Files, folders, patterns, URLs, "-".
        output: A file or folder; None, with `use_wait`, is the present folder.
        use_wait: Whether anybody waits for results.
        on_skip: Told what lies in a named folder and is not taken.

    Raises:
        UsageError: If there is nothing to submit, or an output would replace an input.
    """
    urls = [argument for argument in arguments if "://" in argument]
    names = [argument for argument in arguments if "://" not in argument]
    if output is not None:
        # Named after the last part of its path, as a file would be.
        by_name = {_name_of(url): url for url in urls}
        if len(by_name) < len(urls):
            raise UsageError("several URLs end in the same name; submit them one by one")
        pairs = pair_files([*names, *map(glob.escape, by_name), output], takes_pictures=True, on_skip=on_skip)
        if is_frame_pattern(Path(output)) or any(pair.pictures for pair in pairs):
            raise UsageError(
                "a service takes and gives single files; frames as pictures are for dovetail upscale"
            )
        return [
            Followed(
                name=pair.source.name,
                source=by_name.get(str(pair.source), pair.source),
                destination=pair.destination,
                container=_container_of(pair.destination),
            )
            for pair in pairs
        ]
    sources: list[Path] = expand_inputs(names, takes_pictures=True, on_skip=on_skip)[0] if names else []
    # Of a URL the name is all that there is.
    files = [(Followed(name=source.name, source=source), source) for source in sources]
    files += [(Followed(name=url, source=url), Path(_name_of(url))) for url in urls]
    found = [followed for followed, _ in files]
    if use_wait:
        for followed, named in files:
            suffix = still_suffix(named) if is_still(named) else ".mp4"
            followed.destination = Path(
                fitted_name(named.stem or "video", f"-upscaled{suffix}", folder=Path())
            )
            followed.container = _container_of(followed.destination)
        if len({followed.destination for followed in found}) < len(found):
            raise UsageError("several sources have the same name; give a folder with --output")
    return found


def _refuse_existing(jobs: Sequence[Followed], *, use_overwrite: bool) -> None:
    for followed in jobs:
        if followed.destination is not None and followed.destination.exists() and not use_overwrite:
            raise OutputExistsError(f"{followed.destination} exists already; --overwrite replaces it")
