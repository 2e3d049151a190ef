"""Still pictures: reading one upright with its transparency and colour profile, and writing one.

Pixels go through Pillow. Where a channel has 16 bits, which Pillow knows for gray alone, FFmpeg reads them
and writes PNG, and tifffile writes TIFF.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
from PIL import Image, ImageCms, UnidentifiedImageError
from torch import Tensor

from media.derived_names import beside
from media.errors import EncodeError, InputLimitError, UnreadableInputError
from media.limits import DEFAULT_LIMITS, InputLimits
from media.picture_files import PILLOW_FORMATS
from media.picture_opening import READABLE_KINDS, open_picture, read_deep_heif
from media.transparency import unmultiply

# Of the picture as it is kept: a lossy file that is a little larger than needed beats one that shows it.
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4, "exact": True},
    "AVIF": {"quality": 90},
    "TIFF": {"compression": "tiff_adobe_deflate"},
}
# Further pictures of a TIFF are pages; those of an MPO, as cameras name some JPEGs, or of HEIF, other views.
_OF_PAGES = ("TIFF", "MPO", "HEIF")
_NO_ALPHA = ("JPEG", "BMP")
_ORIENTATION = 0x0112
_GRAY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I", "F")
_DEEP_FFMPEG_FORMATS = {
    "rgb48be": 3, "rgb48le": 3, "rgba64be": 4, "rgba64le": 4, "gray16be": 1, "gray16le": 1, "ya16be": 2,
    "ya16le": 2,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as a viewer shows it.

    Attributes:
        image: (3, H, W), float32, [0, 1], R'G'B' code values in the space of `icc_profile`.
        alpha: (1, H, W), float32, [0, 1], straight; None for opaque pictures.
        bit_depth: Bits of a channel, 8 or 16.
        is_gray: Whether the file has one channel, which all three of `image` repeat.
        icc_profile: Of the file; None means sRGB.
        exif: Of the file, without the orientation, which is applied.
    """

    image: Tensor
    alpha: Tensor | None = None
    bit_depth: int = 8
    is_gray: bool = False
    icc_profile: bytes | None = None
    exif: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[-2], self.image.shape[-1]


def read_picture(path: Path, *, limits: InputLimits = DEFAULT_LIMITS) -> Picture:
    """Reads a still.

    Args:
        path: JPEG, PNG, WebP, AVIF, HEIF, TIFF or BMP; its first picture if it has several pages.
        limits: What to refuse.

    Raises:
        UnreadableInputError: If it is none of them, damaged, or an animation.
        InputLimitError: If it has more pixels than are allowed.
    """
    try:
        with open_picture(path) as file:
            if file.width * file.height > limits.max_pixels:
                raise InputLimitError(
                    f"'{path.name}' has {file.width}x{file.height} pixels; at most {limits.max_pixels} are "
                    "accepted"
                )
            if getattr(file, "is_animated", False) and file.format not in _OF_PAGES:
                raise UnreadableInputError(
                    f"'{path.name}' is an animation of {getattr(file, 'n_frames', 2)} pictures; give the "
                    "output the name of a video (.mp4)"
                )
            return _read(path, file)
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        Image.DecompressionBombError,
    ) as error:
        raise UnreadableInputError(
            f"'{path.name}' is not a picture we can read ({error}); accepted are {READABLE_KINDS}"
        ) from error


def _read(path: Path, file: Image.Image) -> Picture:
    profile = file.info.get("icc_profile")
    is_gray = file.mode in _GRAY_MODES
    deep = _read_deep(path, file)
    exif = file.getexif()
    orientation = exif.pop(_ORIENTATION, 1)
    if deep is not None:
        pixels = turn(torch.from_numpy(deep).permute(2, 0, 1).float() / 65535, orientation)
    else:
        if file.mode in ("CMYK", "LAB"):
            file, profile = _to_srgb(file, profile), None
        has_alpha = "A" in file.getbands() or "transparency" in file.info
        levels = np.array(file.convert("RGBA" if has_alpha else "RGB"))
        pixels = turn(torch.from_numpy(levels).permute(2, 0, 1).float() / 255, orientation)
    if pixels.shape[0] in (1, 2):
        pixels = torch.cat([pixels[:1].expand(3, -1, -1), pixels[1:]])
    alpha = pixels[3:].contiguous() if pixels.shape[0] == 4 else None
    image = pixels[:3].contiguous()
    if alpha is not None and deep is not None and _is_premultiplied(file):  # Pillow divides 8 bits itself
        image = unmultiply(image, alpha)
    return Picture(
        image=image,
        # A plane that hides nothing is not worth a larger file.
        alpha=None if alpha is None or bool((alpha == 1).all()) else alpha,
        bit_depth=8 if deep is None else 16,
        is_gray=is_gray,
        icc_profile=profile,
        exif=exif.tobytes() if len(exif) else b"",
    )


def _read_deep(path: Path, file: Image.Image) -> np.ndarray | None:
    """(h, w, channels), uint16, if the file is a PNG or TIFF of 16-bit channels, or HEIF of more than 8."""
    if file.format == "HEIF":
        return read_deep_heif(path) if file.info["bit_depth"] > 8 else None
    if file.format == "TIFF":
        bits = cast(Any, file).tag_v2.get(258, (1,))
        if max(bits) != 16:
            return None
    elif file.format != "PNG" or _png_bit_depth(path) != 16:
        return None
    with av.open(str(path.absolute()), format=f"{file.format.lower()}_pipe") as container:
        frame = next(container.decode(video=0))
    channels = _DEEP_FFMPEG_FORMATS.get(frame.format.name)
    if channels is None:
        return None
    wanted = {1: "gray16le", 2: "rgba64le", 3: "rgb48le", 4: "rgba64le"}[channels]
    return frame.reformat(format=wanted, threads=1).to_ndarray().reshape(frame.height, frame.width, -1)


def _is_premultiplied(file: Image.Image) -> bool:
    """Whether colours are multiplied by their opacity ("associated alpha" of TIFF 6.0)."""
    return file.format == "TIFF" and 1 in cast(Any, file).tag_v2.get(338, ())


def _png_bit_depth(path: Path) -> int:
    """Of a channel, as the header says (ISO/IEC 15948, 11.2.1); Pillow does not tell."""
    with path.open("rb") as file:
        return file.read(25)[24]


def _to_srgb(file: Image.Image, profile: bytes | None) -> Image.Image:
    """Print colours as screens show them."""
    if profile is None:
        return file.convert("RGB")
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(file, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert converted is not None
    return converted


def turn(pixels: Tensor, orientation: int) -> Tensor:
    """Turns and mirrors (C, h, w) as an EXIF orientation of 1 to 8 says; others change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(-1, -2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels.flip(-1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels.flip(-2)
    return pixels


def write_picture(picture: Picture, path: Path) -> list[str]:
    """Writes a picture in the format that its name says, all or nothing.

    Args:
        picture: The picture. 16 bits are kept in PNG and TIFF.
        path: Ends in one of `media.picture_files.PICTURE_SUFFIXES`. An existing file is replaced.

    Returns:
        What the format cannot hold, in words for the user.

    Raises:
        EncodeError: If it cannot be written.
    """
    format_name = PILLOW_FORMATS[path.suffix.lower()]
    warnings: list[str] = []
    alpha = picture.alpha
    if alpha is not None and format_name in _NO_ALPHA:
        warnings.append(f"{format_name} has no transparency: what was transparent is shown on white")
        picture = replace(picture, image=picture.image * alpha + (1 - alpha), alpha=None)
    is_deep = picture.bit_depth > 8 and format_name in ("PNG", "TIFF")
    if picture.bit_depth > 8 and not is_deep:
        warnings.append(f"{format_name} has 8 bits, the source {picture.bit_depth}: PNG and TIFF keep them")
    if picture.is_gray and (format_name == "WEBP" or (is_deep and picture.alpha is not None)):
        # WebP knows no gray, and few programs read deep gray with transparency. A gray profile does not fit
        # colours.
        picture = replace(picture, is_gray=False, icc_profile=None)
    part = beside(path, ".part")
    try:
        if is_deep:
            _write_deep(picture, format_name, part)
        else:
            _write_with_pillow(picture, format_name, part)
        part.replace(path)
    except (OSError, ValueError, av.FFmpegError) as error:
        raise EncodeError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return warnings


def _levels(picture: Picture, maximum: int) -> np.ndarray:
    """(H, W, channels) code values: gray or colour, then transparency if there is any."""
    planes = picture.image[:1] if picture.is_gray else picture.image
    if picture.alpha is not None:
        planes = torch.cat([planes, picture.alpha])
    scaled = (planes.clamp(0, 1) * maximum).round().permute(1, 2, 0).contiguous().numpy()
    return scaled.astype(np.uint8 if maximum == 255 else np.uint16)


def _write_with_pillow(picture: Picture, format_name: str, part: Path) -> None:
    levels = _levels(picture, 255)
    image = Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    options = dict(_SAVE_OPTIONS.get(format_name, {}))
    if picture.icc_profile:
        options["icc_profile"] = picture.icc_profile
    if picture.exif and format_name != "BMP":
        options["exif"] = picture.exif
    image.save(part, format=format_name, **options)


def _write_deep(picture: Picture, format_name: str, part: Path) -> None:
    levels = _levels(picture, 65535)
    if format_name == "TIFF":
        import tifffile

        tifffile.imwrite(
            part,
            levels[..., 0] if levels.shape[-1] == 1 else levels,
            photometric="minisblack" if picture.is_gray else "rgb",
            extrasamples=["unassalpha"] if picture.alpha is not None else None,
            compression="zlib",
            predictor=True,
            iccprofile=picture.icc_profile,
            metadata=None,
        )
        return
    chunks = []
    if picture.icc_profile:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc_profile)))
    if picture.exif:
        chunks.append((b"eXIf", picture.exif.removeprefix(b"Exif\0\0")))
    part.write_bytes(_with_chunks(_encode_png(levels), chunks))


def _encode_png(levels: np.ndarray) -> bytes:
    """(H, W, channels), uint16, as a PNG."""
    formats = {1: ("gray16le", "gray16be"), 3: ("rgb48le", "rgb48be"), 4: ("rgba64le", "rgba64be")}
    native, stored = formats[levels.shape[-1]]
    plain = levels[..., 0] if levels.shape[-1] == 1 else levels
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(plain), format=native)
    context = av.CodecContext.create("png", "w")
    context.width, context.height = frame.width, frame.height
    context.pix_fmt = stored
    context.time_base = Fraction(1, 25)
    packets = context.encode(frame.reformat(format=stored, threads=1)) + context.encode(None)
    return b"".join(bytes(packet) for packet in packets)


def _with_chunks(png: bytes, chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG with more chunks behind its header (ISO/IEC 15948, 5.3)."""
    header_end = 8 + 25
    parts = [png[:header_end]]
    for name, data in chunks:
        checksum = zlib.crc32(name + data)
        parts.append(struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum))
    return b"".join([*parts, png[header_end:]])
