"""`dovetail probe`: what a file contains, and what would be lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.display import clock_time
from cli.errors import reported_errors
from cli.sandboxing import UseSandbox, probe_alone

if TYPE_CHECKING:
    from media import MediaInfo


def probe(
    file: Annotated[Path, typer.Argument(help="A video file.", show_default=False)],
    use_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    use_sandbox: UseSandbox = True,
    video_stream: Annotated[
        int | None, typer.Option(metavar="N", help="Take this video stream. Default: the film.")
    ] = None,
) -> None:
    """Show the streams of a video, and what upscaling it would lose or guess."""
    with reported_errors(as_json=use_json):
        from workers.values import to_json_value

        info = probe_alone(file, use_sandbox=use_sandbox, video_stream=video_stream)
        if use_json:
            typer.echo(json.dumps(to_json_value(info), indent=2))
        else:
            typer.echo("\n".join(describe(info)))


def describe(info: MediaInfo) -> list[str]:
    """Lines about a file, for people."""
    video = info.video
    length = "unknown length" if info.duration_seconds is None else clock_time(float(info.duration_seconds))
    facts = [
        f"{video.codec} {video.width}x{video.height}",
        f"{float(video.rate):.6g} fps",
        f"{video.pix_fmt} ({video.bit_depth} bits)",
    ]
    if video.sample_aspect_ratio != 1:
        facts.append(f"pixels {video.sample_aspect_ratio}")
    if video.rotation:
        facts.append(f"turned by {video.rotation} degrees")
    facts += [word for word, applies in _traits(info) if applies]
    lines = [
        f"{info.path}: {info.format_name}, {length}, {info.size_bytes / 1e6:.1f} MB",
        f"  {video.index} video: {', '.join(facts)}",
    ]
    for audio in info.audio:
        programme = ", of another programme" if audio.index in info.other_programmes else ""
        lines.append(f"  {audio.index} audio: {audio.codec} {audio.sample_rate} Hz {audio.layout}{programme}")
    for subtitle in info.subtitles:
        lines.append(f"  {subtitle.index} subtitle: {subtitle.codec} {subtitle.language or ''}".rstrip())
    for other in info.others:
        lines.append(f"  {other.index} {other.kind}: {other.codec}")
    if info.chapters:
        lines.append(f"  {len(info.chapters)} chapters")
    return lines + [f"  warning: {warning}" for warning in info.warnings]


def _traits(info: MediaInfo) -> list[tuple[str, bool]]:
    video = info.video
    return [
        ("interlaced", video.is_interlaced),
        ("HDR", video.color.is_hdr),
        ("spherical", video.spherical is not None),
        ("3D", video.stereo is not None and video.stereo.layout != "mono"),
        ("closed captions", video.has_captions),
        ("transparent", video.has_alpha and video.alpha != "unused"),
    ]
