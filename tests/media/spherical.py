"""Sources with spherical and stereoscopic pictures, written without the code under test."""

import struct
from pathlib import Path
from typing import Any

import av

from tests.media.boxes import read_boxes
from tests.media.clips import moving_pictures, write_clip

_V1 = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")  # the UUID of Spherical Video V1


def box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def full_box(kind: bytes, *parts: bytes) -> bytes:
    return box(kind, bytes(4), *parts)


def st3d(mode: int) -> bytes:
    """1 is top and bottom, 2 left and right."""
    return full_box(b"st3d", bytes([mode]))


def sv3d(projection: bytes, pose: tuple[int, int, int] = (0, 0, 0)) -> bytes:
    """The pose is yaw, pitch and roll in degrees."""
    header = full_box(b"prhd", struct.pack(">3i", *(angle << 16 for angle in pose)))
    return box(b"sv3d", full_box(b"svhd", b"test\0"), box(b"proj", header, projection))


def equi(*bounds: int) -> bytes:
    """Top, bottom, left and right."""
    return full_box(b"equi", struct.pack(">4I", *(bounds or (0, 0, 0, 0))))


def cbmp(padding: int) -> bytes:
    return full_box(b"cbmp", struct.pack(">2I", 0, padding))


def vexu(projection: bytes, packing: bytes | None = None) -> bytes:
    packed = box(b"eyes", full_box(b"stri", b"\3")) + box(b"pack", full_box(b"pkin", packing or b""))
    return box(b"vexu", packed if packing else b"", box(b"proj", full_box(b"prji", projection)))


def v1_uuid(stereo: str) -> bytes:
    xml = (
        '<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" '
        'xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/">'
        "<GSpherical:Spherical>true</GSpherical:Spherical><GSpherical:Stitched>true</GSpherical:Stitched>"
        "<GSpherical:StitchingSoftware>test</GSpherical:StitchingSoftware>"
        "<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType>"
        f"<GSpherical:StereoMode>{stereo}</GSpherical:StereoMode></rdf:SphericalVideo>"
    )
    return box(b"uuid", _V1, xml.encode())


def write_with_box(path: Path, new: bytes, *, at: str = "moov/trak/mdia/minf/stbl/stsd/avc1") -> Path:
    """A film of three frames with a box at the end of another; its moov lies behind the pictures."""
    data = bytearray(write_clip(path, moving_pictures(3)).read_bytes())
    boxes = {found.path: found for found in read_boxes(bytes(data))}
    assert boxes["mdat"].offset < boxes["moov"].offset
    parts = at.split("/")
    for depth in range(len(parts)):
        parent = boxes["/".join(parts[: depth + 1])]
        struct.pack_into(">I", data, parent.offset, parent.size + len(new))
    end = boxes[at].offset + boxes[at].size
    path.write_bytes(data[:end] + new + data[end:])
    return path


def said_of(path: Path) -> dict[str, bytes]:
    """What FFmpeg reads of the picture's sphere and views, as it comes with the first frame."""
    with av.open(str(path)) as container:
        kinds: Any = next(container.decode(video=0)).side_data
        return {k.type.name: bytes(k) for k in kinds if k.type.name in ("SPHERICAL", "STEREO3D")}
