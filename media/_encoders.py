"""Opening encoders, and finding out which software encoders really work here."""

import os
from fractions import Fraction
from functools import cache

import av
from av.video.codeccontext import VideoCodecContext

from media._scheduling import ordinary_scheduling
from media.encoding import ResolvedEncoding

SOFTWARE_ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "png", "tiff")

# SVT-AV1 prints a banner and its warnings to stderr, past FFmpeg's log; 1 leaves errors. Read at its first
# use.
os.environ.setdefault("SVT_LOG", "1")

_FLAG_FRAME_DURATION = (
    1 << 8
)  # AV_CODEC_FLAG_FRAME_DURATION; PyAV's enum is not in its type stubs as an integer


@cache
def encoder_works(encoder: str) -> bool:
    """Whether one small frame goes through an encoder, which is the only proof: builds list encoders whose
    library or device is missing. The answer is kept for the life of the process."""
    try:
        context = av.CodecContext.create(encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width = context.height = 64
        pix_fmt = (context.codec.video_formats or (av.VideoFormat("yuv420p"),))[0].name
        context.pix_fmt = pix_fmt
        context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
        context.thread_count = 1
        if encoder == "libx265":
            context.options = {"x265-params": "log-level=none:pools=1"}
        frame = av.VideoFrame(64, 64, pix_fmt)
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.pts = 0
        with ordinary_scheduling():
            return len(context.encode(frame) + context.encode(None)) > 0
    except (av.FFmpegError, ValueError, OSError):
        # A missing device or library surfaces as anything from PermissionError to UnknownCodecError.
        return False


def configure_context(
    context: VideoCodecContext,
    encoding: ResolvedEncoding,
    *,
    time_base: Fraction,
    rate: Fraction,
    sample_aspect_ratio: Fraction,
) -> None:
    """Apply resolved settings to a fresh encoder context, before its first frame."""
    context.width, context.height = encoding.width, encoding.height
    context.pix_fmt = encoding.encoder_pix_fmt
    context.time_base, context.framerate = time_base, rate
    context.sample_aspect_ratio = sample_aspect_ratio
    context.gop_size = encoding.gop_size
    context.thread_count = encoding.num_threads
    # PyAV's default is slices, which cost 0.5 % of the bit rate at two threads and more with every further
    # one.
    context.thread_type = "FRAME"
    context.flags |= _FLAG_FRAME_DURATION
    color = encoding.color
    context.colorspace, context.color_primaries = color.matrix, color.primaries
    context.color_trc, context.color_range = color.transfer, 2 if color.full_range else 1
    if encoding.codec_tag is not None:
        context.codec_tag = encoding.codec_tag
    context.options = dict(encoding.private_options)


def tag_frame(frame: av.VideoFrame, encoding: ResolvedEncoding) -> None:
    """Repeat the colour tags on a frame; an encoder that sees other tags there may prefer them."""
    color = encoding.color
    frame.colorspace, frame.color_primaries = color.matrix, color.primaries
    frame.color_trc, frame.color_range = color.transfer, 2 if color.full_range else 1
