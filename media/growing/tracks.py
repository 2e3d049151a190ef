"""Two files, one stream: their inits merged, their fragments renumbered. Everything keeps its length."""

import struct

from media.growing.boxes import Box, children, descend, make_box, only, read_boxes, unpack
from media.growing.errors import MalformedSegmentError

VIDEO_TRACK_ID, AUDIO_TRACK_ID = 1, 2

# Offsets in the bodies of version 0; in version 1 two times of four bytes have eight.
_MVHD_TIMESCALE, _MVHD_NEXT_TRACK = 12, 96
_TKHD_TRACK = 12


def merge_inits(video_init: bytes, audio_init: bytes) -> bytes:
    """One init with both tracks: the video's with id 1, the audio's with id 2.

    Args:
        video_init: ftyp and moov of a segment.
        audio_init: Of the file from `extract_audio`.

    Raises:
        MalformedSegmentError: One is damaged, or they count the edit lists' times differently.
    """
    ftyp, video_moov = _top(video_init)
    _, audio_moov = _top(audio_init)
    video, audio = children(video_init, video_moov), children(audio_init, audio_moov)
    mvhd = only(video, "mvhd")
    scales = [_movie_timescale(video_init, mvhd), _movie_timescale(audio_init, only(audio, "mvhd"))]
    if scales[0] != scales[1]:
        raise MalformedSegmentError(
            f"the video's edit list counts {scales[0]} ticks per second, the audio's {scales[1]}; "
            "they must be equal"
        )
    moov = make_box(
        "moov",
        _set(video_init, mvhd, _later(video_init, mvhd, _MVHD_NEXT_TRACK), AUDIO_TRACK_ID + 1),
        _renumbered_trak(video_init, only(video, "trak"), VIDEO_TRACK_ID),
        _renumbered_trak(audio_init, only(audio, "trak"), AUDIO_TRACK_ID),
        make_box(
            "mvex",
            _renumbered_trex(video_init, video_moov, VIDEO_TRACK_ID),
            _renumbered_trex(audio_init, audio_moov, AUDIO_TRACK_ID),
        ),
        *(video_init[box.offset : box.end] for box in video if box.kind == "udta"),
    )
    return video_init[ftyp.offset : ftyp.end] + moov


def retrack(fragment: bytes, track_id: int, sequence_number: int) -> bytes:
    """A fragment (moof and mdat) with another track id and number in the stream, else the same.

    Raises:
        MalformedSegmentError: It does not begin with a whole moof of one track.
    """
    if len(fragment) < 8 or fragment[4:8] != b"moof":
        raise MalformedSegmentError(f"a fragment begins with {fragment[4:8]!r}, expected b'moof'")
    moof = read_boxes(fragment, 0, min(len(fragment), struct.unpack_from(">I", fragment)[0]))[0]
    mfhd = descend(fragment, moof, "mfhd")
    tfhd = descend(fragment, moof, "traf", "tfhd")
    unpack("II", fragment, mfhd)
    unpack("II", fragment, tfhd)
    changed = bytearray(fragment)
    struct.pack_into(">I", changed, mfhd.body + 4, sequence_number)
    struct.pack_into(">I", changed, tfhd.body + 4, track_id)
    return bytes(changed)


def _top(init: bytes) -> tuple[Box, Box]:
    boxes = read_boxes(init)
    return only(boxes, "ftyp"), only(boxes, "moov")


def _movie_timescale(init: bytes, mvhd: Box) -> int:
    return unpack("I", init, mvhd, 20 if unpack("B", init, mvhd)[0] == 1 else _MVHD_TIMESCALE)[0]


def _later(init: bytes, box: Box, offset: int) -> int:
    """Where a field of version 0 lies in this box: version 1 has three fields of eight bytes before it."""
    return offset + (12 if unpack("B", init, box)[0] == 1 else 0)


def _renumbered_trak(init: bytes, trak: Box, track_id: int) -> bytes:
    tkhd = descend(init, trak, "tkhd")
    offset = 20 if unpack("B", init, tkhd)[0] == 1 else _TKHD_TRACK
    renumbered = _set(init, tkhd, offset, track_id)
    return init[trak.offset : tkhd.offset] + renumbered + init[tkhd.end : trak.end]


def _renumbered_trex(init: bytes, moov: Box, track_id: int) -> bytes:
    return _set(init, descend(init, moov, "mvex", "trex"), 4, track_id)


def _set(data: bytes, box: Box, offset: int, value: int) -> bytes:
    """The box with one number of 32 bits replaced, `offset` bytes into its body."""
    unpack("I", data, box, offset)
    position = box.body + offset
    return data[box.offset : position] + struct.pack(">I", value) + data[position + 4 : box.end]
