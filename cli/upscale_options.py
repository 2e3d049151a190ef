"""The options of `dovetail upscale`, as typer reads them from a signature."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

import typer

from cli.values import parse_rate, parse_scale, parse_seconds

_SIZE, _MODEL, _VIDEO, _PART, _RUN = "Size", "Model", "Video", "Part of the video", "Run"


Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="IN... OUT",
        help="Videos, stills, folders, patterns, numbered pictures (%04d.png), or - for a list on stdin; "
        "then an .mp4, .mkv, .mov or .webm file, out/%06d.png or .tif for single frames, for a still a "
        "picture, or a folder.",
        show_default=False,
    ),
]
Scale = Annotated[
    Fraction | None,
    typer.Option(
        "--scale",
        "-s",
        parser=parse_scale,
        metavar="FACTOR",
        help="Any factor: 2, 1.5, 4/3. Default: the model's.",
        rich_help_panel=_SIZE,
    ),
]
Height = Annotated[
    int | None, typer.Option(help="Height as shown, instead of a factor.", rich_help_panel=_SIZE)
]
Width = Annotated[
    int | None, typer.Option(help="Width as shown, instead of a factor.", rich_help_panel=_SIZE)
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Checkpoint folder, embedded name, hub id, weights file of a per-frame network (.safetensors, "
        ".pth, .pt, .ckpt), bicubic or lanczos. Default: the embedded model.",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=_MODEL)]
Dtype = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(metavar="NAME", help="auto, float32, bfloat16 or float16.", rich_help_panel=_MODEL),
]
Attention = Annotated[
    Literal["auto", "flash", "efficient", "cudnn", "math", "xformers", "flex", "sage"],
    typer.Option(
        metavar="NAME",
        help="auto, flash, efficient, cudnn, math, xformers, flex or sage.",
        rich_help_panel=_MODEL,
    ),
]
Quantize = Annotated[
    Literal["auto", "none", "int8", "fp8"],
    typer.Option(
        metavar="NAME",
        help="auto, none, int8 or fp8: diffusion models in 8 bits take less memory (fp8 on new GPUs), "
        "dovetail-nano-2 less time on x86 processors, where auto has it.",
        rich_help_panel=_MODEL,
    ),
]
UseCompile = Annotated[
    bool, typer.Option("--compile", help="Compile the model before it runs.", rich_help_panel=_MODEL)
]
UseOffload = Annotated[
    bool,
    typer.Option(
        "--offload",
        help="Keep the model in host memory and move its parts to the GPU in turn, for small GPUs.",
        rich_help_panel=_MODEL,
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        metavar="0..1",
        help="How strongly noise and compression are cleaned, for models that estimate them. Default: as "
        "estimated.",
        rich_help_panel=_MODEL,
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(help="Side of tiles in pixels, 0 for none. Default: by memory.", rich_help_panel=_MODEL),
]
Overlap = Annotated[int | None, typer.Option(help="Overlap of tiles in pixels.", rich_help_panel=_MODEL)]
Chunk = Annotated[
    int | None, typer.Option(help="Frames at once. Default: by memory.", rich_help_panel=_MODEL)
]
ChunkOverlap = Annotated[int | None, typer.Option(help="Frames that chunks share.", rich_help_panel=_MODEL)]
UseSceneCuts = Annotated[
    bool,
    typer.Option(
        "--scene-cuts/--no-scene-cuts", help="Whether a chunk ends at a scene cut.", rich_help_panel=_MODEL
    ),
]
Codec = Annotated[
    Literal["auto", "h264", "h265", "av1", "vp9", "prores"],
    typer.Option(
        metavar="NAME",
        help="auto, h264, h265, av1, vp9 or prores (.mov). auto: h264 to 4096x2304, h265 to 8192x4320, then "
        "av1.",
        rich_help_panel=_VIDEO,
    ),
]
EncoderName = Annotated[
    Literal["auto", "software", "nvenc", "qsv", "amf"],
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="auto, software, nvenc, qsv or amf. auto: the graphics processor where it works.",
        rich_help_panel=_VIDEO,
    ),
]
UseKeepMatrix = Annotated[
    bool,
    typer.Option(
        "--keep-matrix",
        help="Keep the colour matrix of SD in HD sizes, in place of BT.709.",
        rich_help_panel=_VIDEO,
    ),
]
Crf = Annotated[
    float | None,
    typer.Option(
        help="Quality: 0 (lossless) to 51, av1 and vp9 to 63. Default: 18 for h264, 20 for h265, 25 for av1, "
        "27 for vp9.",
        rich_help_panel=_VIDEO,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="Speed of the encoder: ultrafast to placebo; av1 also 0 to 13, vp9 0 to 5.",
        rich_help_panel=_VIDEO,
    ),
]
PixFmt = Annotated[
    str | None,
    typer.Option(help="yuv420p, yuv422p, yuv444p, or these with 10le (not vp9).", rich_help_panel=_VIDEO),
]
Deinterlace = Annotated[
    bool | None,
    typer.Option(
        "--deinterlace/--no-deinterlace", help="Default: as the video says.", rich_help_panel=_VIDEO
    ),
]
Fps = Annotated[
    Fraction | None,
    typer.Option(
        "--fps",
        parser=parse_rate,
        metavar="RATE",
        help="Frames per second of pictures that become a video: 24, 30000/1001. Default: 25.",
        rich_help_panel=_VIDEO,
    ),
]
VideoStream = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Take this stream, as `dovetail probe` counts them. Default: the film among them.",
        rich_help_panel=_VIDEO,
    ),
]
KeepGaps = Annotated[
    bool,
    typer.Option(
        "--keep-gaps",
        help="Leave holes of more than 10 s in the time stamps; else they are closed to one frame.",
        rich_help_panel=_VIDEO,
    ),
]
UseForce = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Go on where the colours will be wrong (Dolby Vision profile 5).",
        rich_help_panel=_VIDEO,
    ),
]
Start = Annotated[
    Fraction | None,
    typer.Option(parser=parse_seconds, metavar="TIME", help="Begin here: 90, 1:30.", rich_help_panel=_PART),
]
Duration = Annotated[
    Fraction | None,
    typer.Option(parser=parse_seconds, metavar="TIME", help="Stop after so long.", rich_help_panel=_PART),
]
UseCompare = Annotated[
    bool,
    typer.Option("--compare", help="Write OUT.compare.mp4 too: before and after.", rich_help_panel=_RUN),
]
UseCompareImage = Annotated[
    bool,
    typer.Option("--compare-image", help="Write OUT.compare.png too: a frame of it.", rich_help_panel=_RUN),
]
UseResume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue after the last finished segment; keep finished outputs.",
        rich_help_panel=_RUN,
    ),
]
UseOverwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs and unfinished runs.", rich_help_panel=_RUN)
]
SegmentSeconds = Annotated[
    Fraction,
    typer.Option(
        parser=parse_seconds,
        metavar="TIME",
        help="Length of a segment, the most that an interruption costs.",
        rich_help_panel=_RUN,
    ),
]
UseSha256 = Annotated[
    bool, typer.Option("--sha256", help="Put the output's digest into the report.", rich_help_panel=_RUN)
]
UseJson = Annotated[
    bool, typer.Option("--json", help="Write a report as JSON to stdout.", rich_help_panel=_RUN)
]
IsQuiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress, no summary.", rich_help_panel=_RUN)
]
