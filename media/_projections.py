"""Spherical and stereoscopic pictures: from what FFmpeg says of them to the boxes of an MP4. Pure.

FFmpeg maps all that sources have to two records: `st3d` and `sv3d` boxes (Spherical Video V2,
https://github.com/google/spatial-media/blob/master/docs/spherical-video-v2-rfc.md), the older XML in a `uuid`
box, Apple's `vexu` (https://developer.apple.com/av-foundation/Stereo-Video-ISOBMFF-Extensions.pdf), what
Matroska calls Projection and StereoMode (RFC 9559, section 5.1.4.1.28), and frame packing inside H.264.
"""

import struct
from dataclasses import replace
from fractions import Fraction

from media._sample_entry import MP4_MUXERS
from media.growing.boxes import make_box
from media.info import Projection, SphericalMapping, StereoLayout, StereoMapping, VideoStreamInfo

# AVSphericalMapping (libavutil/spherical.h): projection; yaw, pitch and roll in 16.16 degrees; bounds left,
# top, right and bottom in 0.32; padding.
_SPHERICAL = struct.Struct("=4i5I")
_PROJECTIONS: tuple[Projection, ...] = (
    "equirectangular",
    "cubemap",
    "equirectangular_tile",
    "half_equirectangular",
    "rectilinear",
    "fisheye",
)
# AVStereo3D (libavutil/stereo3d.h): type, flags, and more that only Apple's boxes have.
_STEREO = struct.Struct("=2i")
_LAYOUTS: tuple[StereoLayout, ...] = ("mono", "side_by_side", "top_bottom")
_IS_INVERTED = 1

_DEGREE, _WHOLE = 1 << 16, 1 << 32

_ST3D_MODES = {"mono": 0, "top_bottom": 1, "side_by_side": 2}
# Projections that Google's boxes have no word for, in Apple's.
_APPLE_PROJECTIONS = {"half_equirectangular": b"hequ", "rectilinear": b"rect", "fisheye": b"fish"}
_APPLE_PACKINGS = {"side_by_side": b"side", "top_bottom": b"over"}
_BOTH_EYES = 3

_OF_ALL_CONTAINERS = frozenset({"equirectangular", "cubemap", "equirectangular_tile"})


def read_spherical(record: bytes | None) -> SphericalMapping | None:
    """What side data of the kind SPHERICAL say; None where there are none."""
    if record is None or len(record) < _SPHERICAL.size:
        return None
    kind, yaw, pitch, roll, left, top, right, bottom, padding = _SPHERICAL.unpack_from(record)
    return SphericalMapping(
        projection=_PROJECTIONS[kind] if 0 <= kind < len(_PROJECTIONS) else "other",
        yaw_degrees=Fraction(yaw, _DEGREE),
        pitch_degrees=Fraction(pitch, _DEGREE),
        roll_degrees=Fraction(roll, _DEGREE),
        bound_left=Fraction(left, _WHOLE),
        bound_top=Fraction(top, _WHOLE),
        bound_right=Fraction(right, _WHOLE),
        bound_bottom=Fraction(bottom, _WHOLE),
        padding=padding,
    )


def read_stereo(record: bytes | None) -> StereoMapping | None:
    """What side data of the kind STEREO3D say; None where there are none."""
    if record is None or len(record) < _STEREO.size:
        return None
    kind, flags = _STEREO.unpack_from(record)
    layout: StereoLayout = _LAYOUTS[kind] if 0 <= kind < len(_LAYOUTS) else "other"
    return StereoMapping(layout=layout, is_inverted=bool(flags & _IS_INVERTED))


def has_place_for_spherical(mapping: SphericalMapping, muxer: str) -> bool:
    """Whether a file of FFmpeg's muxer can say it."""
    is_mp4 = muxer in MP4_MUXERS
    return mapping.projection in _OF_ALL_CONTAINERS or (is_mp4 and mapping.projection in _APPLE_PROJECTIONS)


def has_place_for_stereo(mapping: StereoMapping) -> bool:
    """Whether our files can say it."""
    return mapping.layout in _LAYOUTS and not mapping.is_inverted


def projection_boxes(video: VideoStreamInfo, *, scale: Fraction) -> bytes:
    """The boxes for the sample entry of an output, empty for a flat picture.

    Args:
        video: The source.
        scale: Width of the output over that of the source: the padding of cubemaps is in pixels.
    """
    spherical, stereo = video.spherical, video.stereo
    if stereo is not None and not has_place_for_stereo(stereo):
        stereo = None
    if spherical is not None and spherical.projection in _APPLE_PROJECTIONS:
        return _vexu(spherical, stereo)
    boxes = b"" if stereo is None else _full_box("st3d", bytes([_ST3D_MODES[stereo.layout]]))
    if spherical is not None and spherical.projection in _OF_ALL_CONTAINERS:
        boxes += _sv3d(replace(spherical, padding=round(spherical.padding * scale)))
    return boxes


def _sv3d(mapping: SphericalMapping) -> bytes:
    pose = (mapping.yaw_degrees, mapping.pitch_degrees, mapping.roll_degrees)
    if mapping.projection == "cubemap":
        projection = _full_box("cbmp", struct.pack(">2I", 0, mapping.padding))  # layout 0 is the only one
    else:
        bounds = (mapping.bound_top, mapping.bound_bottom, mapping.bound_left, mapping.bound_right)
        projection = _full_box("equi", struct.pack(">4I", *(round(bound * _WHOLE) for bound in bounds)))
    return make_box(
        "sv3d",
        _full_box("svhd", b"Dovetail\0"),
        make_box(
            "proj",
            _full_box("prhd", struct.pack(">3i", *(round(angle * _DEGREE) for angle in pose))),
            projection,
        ),
    )


def _vexu(mapping: SphericalMapping, stereo: StereoMapping | None) -> bytes:
    parts = []
    if stereo is not None and stereo.layout in _APPLE_PACKINGS:
        parts = [
            make_box("eyes", _full_box("stri", bytes([_BOTH_EYES]))),
            make_box("pack", _full_box("pkin", _APPLE_PACKINGS[stereo.layout])),
        ]
    return make_box(
        "vexu", *parts, make_box("proj", _full_box("prji", _APPLE_PROJECTIONS[mapping.projection]))
    )


def _full_box(kind: str, body: bytes) -> bytes:
    """A box with version and flags, all zero."""
    return make_box(kind, bytes(4), body)
