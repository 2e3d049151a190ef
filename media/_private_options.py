"""The options that only one encoder has, spelled as FFmpeg and that encoder's library take them."""

from collections.abc import Callable
from fractions import Fraction

from media._codecs import Codec, software_preset
from media._plane_layouts import ChromaSite, keeps_alpha
from media.info import ContentLight, MasteringDisplay
from media.video_format import VideoFormat

# Up to this width x265 works without its tree: with it, 4.2 writes past the end of its memory where a picture
# is 33 to 48 pixels wide, and the process dies.
_X265_NARROW = 64


def software_options(
    codec: Codec,
    preset: str | None,
    crf: float,
    site: ChromaSite,
    video_format: VideoFormat,
    num_threads: int,
    pix_fmt: str,
) -> dict[str, str]:
    """All of the codec's software encoder."""
    builders = {"h264": x264_options, "h265": x265_options, "av1": svtav1_options}
    if codec in builders:
        options = builders[codec](crf, site, video_format, num_threads)
        return {"preset": software_preset(preset, codec), **options}
    if codec == "vp9":
        return libvpx_options(crf, software_preset(preset, codec))
    if codec == "prores":
        if pix_fmt == "yuv422p10le":
            return {"profile": "hq", "vendor": "apl0"}
        alpha = {"alpha_bits": "16"} if keeps_alpha(pix_fmt) else {}
        return {"profile": "4444", "vendor": "apl0", **alpha}
    return {}


def x264_options(crf: float, site: ChromaSite, video_format: VideoFormat, num_threads: int) -> dict[str, str]:
    params = []
    if site == "topleft":
        params.append("chromaloc=2")
    if video_format.color.is_hdr:
        if video_format.mastering_display is not None:
            params.append(f"mastering-display={_mastering_display_integers(video_format.mastering_display)}")
        if video_format.content_light is not None:
            params.append(f"cll={_content_light(video_format.content_light)}")
    # crf 0 of 10-bit x264 is not lossless (its scale goes down to -12); qp 0 is, at both depths.
    quality = {"qp": "0"} if crf == 0 else {"crf": f"{crf:g}"}
    extra = {"x264-params": ":".join(params)} if params else {}
    return {**quality, "bf": "0", "forced-idr": "1", **extra}


def x265_options(crf: float, site: ChromaSite, video_format: VideoFormat, num_threads: int) -> dict[str, str]:
    params = [
        "log-level=error",
        "info=0",  # else 2.4 KB of settings as text in the header and in every keyframe
        "open-gop=0",  # a segment must not refer to what came before it
        f"pools={num_threads}",  # the pool defaults to all cores, and its size changes the result
    ]
    if video_format.width <= _X265_NARROW:
        params.append("cutree=0")
    if crf == 0:
        params.append("lossless=1")
    if site == "topleft":
        params.append("chromaloc=2")
    if video_format.color.is_hdr:
        if video_format.mastering_display is not None:
            params.append(f"master-display={_mastering_display_integers(video_format.mastering_display)}")
        if video_format.content_light is not None:
            params.append(f"max-cll={_content_light(video_format.content_light)}")
        if video_format.color.transfer == 16:
            params.append("hdr10=1")
    return {"crf": f"{crf:g}", "bf": "0", "forced-idr": "1", "x265-params": ":".join(params)}


def svtav1_options(
    crf: float, site: ChromaSite, video_format: VideoFormat, num_threads: int
) -> dict[str, str]:
    params = [
        f"lp={min(num_threads, 6)}",  # the encoder's own scale of parallelism ends at 6
        f"chroma-sample-position={'colocated' if site == 'topleft' else 'vertical'}",
    ]
    if crf == 0:
        params.append("lossless=1")  # FFmpeg reads crf 0 as "not given"
    if video_format.color.is_hdr:
        if video_format.mastering_display is not None:
            params.append(f"mastering-display={_mastering_display_decimals(video_format.mastering_display)}")
        if video_format.content_light is not None:
            params.append(f"content-light={_content_light(video_format.content_light)}")
    quality = {} if crf == 0 else {"crf": f"{crf:g}"}
    return {**quality, "svtav1-params": ":".join(params)}


def libvpx_options(crf: float, cpu_used: str) -> dict[str, str]:
    """Constant quality in one pass. There the encoder makes no hidden frames, each frame is a packet, and the
    number of threads changes no byte."""
    return {
        "deadline": "good",
        "cpu-used": cpu_used,
        "crf": f"{crf:g}",
        "b": "0",  # else it is a ceiling for the quality's bits
        "auto-alt-ref": "0",
        "lag-in-frames": "0",  # 25 frames would wait for what one pass does not do; the bytes are the same
        "row-mt": "0",  # with it, they depend on the number of threads
        **({"lossless": "1"} if crf == 0 else {}),
    }


def _content_light(light: ContentLight) -> str:
    return f"{light.max_content},{light.max_average}"


def _mastering_display_integers(display: MasteringDisplay) -> str:
    """As x264 and x265 take it, which is as H.264 and H.265 store it: 0.00002 for chromaticity, 0.0001
    cd/m2."""

    def point(xy: tuple[Fraction, Fraction]) -> str:
        return f"({round(xy[0] * 50_000)},{round(xy[1] * 50_000)})"

    luminance = f"({round(display.max_luminance * 10_000)},{round(display.min_luminance * 10_000)})"
    return _mastering_display(display, point, luminance)


def _mastering_display_decimals(display: MasteringDisplay) -> str:
    """As SVT-AV1 takes it; AV1 stores 16 binary fraction digits for chromaticity, 8 and 14 for luminance."""

    def point(xy: tuple[Fraction, Fraction]) -> str:
        return f"({float(xy[0]):.6f},{float(xy[1]):.6f})"

    luminance = f"({float(display.max_luminance):.4f},{float(display.min_luminance):.6f})"
    return _mastering_display(display, point, luminance)


def _mastering_display(
    display: MasteringDisplay, point: Callable[[tuple[Fraction, Fraction]], str], luminance: str
) -> str:
    return (
        f"G{point(display.green)}B{point(display.blue)}R{point(display.red)}"
        f"WP{point(display.white_point)}L{luminance}"
    )
