"""What to say about an encoding before it begins: what is lost, and where it will not play. Pure."""

from media._codecs import Codec, CodecChoice, size_warnings
from media._plane_layouts import RGB_LAYOUTS, coded_size, layout_of
from media.video_format import VideoFormat


def encoding_warnings(
    video_format: VideoFormat,
    *,
    wanted: CodecChoice,
    codec: Codec,
    pix_fmt: str,
    is_lossless: bool,
    is_hardware: bool,
) -> list[str]:
    """The warnings, in words for the user.

    Args:
        video_format: What is written.
        wanted: The codec that was asked for.
        codec: The one that it became.
        pix_fmt: Of the stored picture.
        is_lossless: Whether a crf of 0 was asked for.
        is_hardware: Whether a graphics processor encodes.
    """
    layout = layout_of(pix_fmt)
    width, height = coded_size(video_format.width, video_format.height, pix_fmt)
    found = size_warnings(wanted, codec, width=width, height=height)
    if (width, height) != (video_format.width, video_format.height):
        found.append(
            f"{video_format.width}x{video_format.height} is stored as {width}x{height}: "
            f"{pix_fmt} needs even sizes, so the last column or row is repeated"
        )
    if pix_fmt in RGB_LAYOUTS and video_format.color.is_hdr:
        found.append("the frames hold HDR code values, and pictures do not say so")
    if codec == "h264" and layout.bit_depth > 8:
        found.append("10-bit H.264 plays in few browsers and devices; h265 or av1 play more widely")
    elif codec == "h264" and is_lossless:
        found.append("lossless H.264 plays in few browsers and devices")
    if codec in ("h264", "h265", "av1", "vp9") and (layout.horizontal == 1 or layout.vertical == 1):
        found.append(f"{pix_fmt} plays in software players only; 4:2:0 plays everywhere")
    if video_format.bit_depth > 8 and layout.bit_depth == 8:
        reason = "which are all that VP9 is written with" if codec == "vp9" else f"as pix_fmt {pix_fmt} asks"
        found.append(f"a {video_format.bit_depth}-bit source is written with 8 bits, {reason}")
    if codec == "prores" and video_format.has_static_metadata:
        found.append("ProRes is written without HDR10 mastering display and light levels")
    if is_hardware and video_format.has_static_metadata:
        found.append("hardware encoders write no HDR10 mastering display and light levels; software does")
    return found
