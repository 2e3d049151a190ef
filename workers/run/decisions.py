"""What a run will do, decided before the first frame is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch

from media import (
    ColorTags,
    EncodeOptions,
    MediaInfo,
    ResolvedEncoding,
    UnsupportedCodecError,
    VideoFormat,
    describe_output_losses,
    maker_of,
    pin_encoder,
    resolve_encoding,
)
from media.encoding import keeps_transparency
from media.info import PROFILE_WITHOUT_BASE, TRANSPARENCY_WARNING
from media.sizes import TargetSize, target_size
from pipelines.model import Model
from pipelines.planning.plan import ChunkPlan
from workers.run.options import UpscaleOptions

# Frames that wait between two stages on the CPU, whose cores they share. Enough to even out their rhythm (an
# encoder's lookahead, a keyframe), few enough that a 2160p output, 100 MB a frame, stays small.
QUEUED_FRAMES = 4
# What may wait for the encoder beside a GPU.
QUEUE_BYTES = 2 << 30
# Frames of the output in memory outside the pipeline: waiting, shared by two chunks, in the encoder.
RESERVED_FRAMES = 2 * QUEUED_FRAMES + 12
# A length for the planner where the source does not say its own; longer than any chunk.
UNKNOWN_NUM_FRAMES = 100_000


class SourceShape(Protocol):
    """What a run depends on of the reader: that of a `VideoReader`, in this process or another."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def time_base(self) -> Fraction: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def color(self) -> ColorTags: ...


@dataclass(frozen=True)
class DecidedRun:
    """A run, decided.

    Attributes:
        info: The source.
        target: Size of the output.
        video_format: Of the frames to be written.
        encode: How to compress, with the encoder decided: all segments get the same one.
        encoding: Every encoder setting.
        plan: Chunks and tiles.
        num_frames: Frames to come, an estimate; None where nothing tells.
    """

    info: MediaInfo
    target: TargetSize
    video_format: VideoFormat
    encode: EncodeOptions
    encoding: ResolvedEncoding
    plan: ChunkPlan
    num_frames: int | None


def decide_run(
    info: MediaInfo,
    reader: SourceShape,
    *,
    model: Model,
    options: UpscaleOptions,
    plan: ChunkPlan | None = None,
) -> DecidedRun:
    """Decides size, format, encoding, chunks and tiles.

    Args:
        info: The source.
        reader: Opened with the range and deinterlacing of `options`.
        model: The model.
        options: What to make of it.
        plan: Chunks and tiles if another process has chosen them; None chooses them for the memory that is
            free here.

    Raises:
        InvalidSizeError: If the size is impossible.
        UnsupportedCodecError: If the colours would be wrong and nobody has asked for it all the same.
        EncodeError: If the encoder cannot do what is asked.
        EncoderUnavailableError: If the encoder that was named does not work here.
        PipelineError: If the model cannot, or memory does not suffice.
    """
    video = info.video
    if video.dolby_vision_profile == PROFILE_WITHOUT_BASE and not options.force:
        raise UnsupportedCodecError(
            f"'{info.path.name}' is Dolby Vision profile 5, which has no base picture for other players: its "
            "colours would be wrong; give a copy in HDR10, or ask for it all the same with --force (force in "
            "the API)"
        )
    target = target_size(
        options.size,
        width=reader.width,
        height=reader.height,
        sample_aspect_ratio=video.sample_aspect_ratio,
        rotation=video.rotation,
        default_scale=model.card.scale,
    )
    video_format = VideoFormat(
        width=target.width,
        height=target.height,
        time_base=reader.time_base,
        rate=reader.rate,
        color=reader.color,
        sample_aspect_ratio=target.sample_aspect_ratio,
        mastering_display=video.mastering_display,
        content_light=video.content_light,
        bit_depth=video.bit_depth,
        has_alpha=keeps_alpha(info, options),
    )
    num_frames = estimate_num_frames(info, reader.rate, options)
    frame_bytes = 3 * 4 * target.height * target.width
    chosen = plan or model.plan(
        num_frames=num_frames or UNKNOWN_NUM_FRAMES,
        size=(reader.height, reader.width),
        out_size=(target.height, target.width),
        reserved_bytes=RESERVED_FRAMES * frame_bytes * (2 if options.use_compare_video else 1),
        tile=options.tile,
        overlap=options.overlap,
        chunk=options.chunk,
        chunk_overlap=options.chunk_overlap,
    )
    encode = pin_encoder(options.encode, video_format)
    encoding = resolve_encoding(encode, video_format)
    return DecidedRun(info, target, video_format, encode, encoding, chosen, num_frames)


def expected_warnings(decided: DecidedRun, destination: Path) -> list[str]:
    """What the output will lack or do otherwise than was asked for, known before the work.

    Args:
        decided: The run.
        destination: The output; only its name counts.
    """
    info = decided.info
    losses = describe_output_losses(info.video, decided.encoding.codec, destination, tags=info.metadata)
    return [*decided.target.warnings, *decided.encoding.warnings, *losses]


def keeps_alpha(info: MediaInfo, options: UpscaleOptions) -> bool:
    """Whether the source has transparency and the output a place for it: the reader has to be told."""
    return info.video.has_transparency and keeps_transparency(options.encode)


def source_warnings(info: MediaInfo, options: UpscaleOptions) -> tuple[str, ...]:
    """What is to be said of the source in a run."""
    is_kept = keeps_alpha(info, options)
    return tuple(text for text in info.warnings if not (is_kept and text == TRANSPARENCY_WARNING))


def with_encoder(decided: DecidedRun, encoder: str) -> DecidedRun:
    """The run with the encoder that its first segments were made with, where it was left open which one.

    Args:
        decided: The run; its options say "auto".
        encoder: FFmpeg's name of it.

    Raises:
        EncoderUnavailableError: If it does not work here.
    """
    encode = pin_encoder(replace(decided.encode, encoder=maker_of(encoder)), decided.video_format)
    return replace(decided, encode=encode, encoding=resolve_encoding(encode, decided.video_format))


def queued_frames(decided: DecidedRun, device: torch.device) -> int:
    """Frames that may wait between two stages.

    Beside a GPU a chunk, as far as `QUEUE_BYTES` reach: its model takes a chunk at once and gives one at
    once, and should wait neither for the reader nor for the encoder, which work while it computes the next.
    """
    if device.type == "cpu":
        return QUEUED_FRAMES
    frame_bytes = 3 * 4 * decided.target.height * decided.target.width
    return max(QUEUED_FRAMES, min(decided.plan.chunk_len, QUEUE_BYTES // frame_bytes))


def segment_ticks(reader: SourceShape, options: UpscaleOptions) -> int:
    """Length of a segment in the reader's ticks, at least 1."""
    return max(1, round(options.segment_seconds / reader.time_base))


def estimate_num_frames(info: MediaInfo, rate: Fraction, options: UpscaleOptions) -> int | None:
    """Frames to come, as well as the source tells; None where neither it nor the options do."""
    start, wanted = options.start_seconds or Fraction(0), options.duration_seconds
    if start == 0 and wanted is None and info.video.num_frames_estimate:
        # Deinterlacing doubles the rate.
        return round(info.video.num_frames_estimate * rate / info.video.rate)
    stated = info.video.duration_seconds or info.duration_seconds
    left = None if stated is None else max(Fraction(0), stated - start)
    known = [length for length in (left, wanted) if length is not None]
    return max(1, round(min(known) * rate)) if known else None
