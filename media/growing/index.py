"""The index of a segment: where its fragments lie and when they play. A worker makes it once."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from media.growing._moof import SampleDefaults, read_moof
from media.growing._same_init import digest_of
from media.growing.boxes import Box, children, descend, only, read_boxes, scan_file, unpack
from media.growing.errors import MalformedSegmentError
from media.growing.formats import TrackFormat, read_format

# Between and behind the fragments; players need none of it, and indices with offsets would be wrong.
_DROPPED = frozenset(["styp", "sidx", "mfra", "free", "skip"])

# Far above what a header needs (a moof holds 16 bytes per frame); keeps nonsense out of memory.
_MAX_HEADER_BYTES = 1 << 24


class Fragment(NamedTuple):
    """One moof with its mdat. Times are in ticks of the index."""

    offset: int
    """Bytes from the segment file's start."""
    size: int
    """Bytes of moof and mdat."""
    start: int
    """Decode time (tfdt), at least 0."""
    duration: int
    num_samples: int
    """Frames, or audio packets."""
    is_key: bool
    """Whether playing can begin here."""

    @property
    def end(self) -> int:
        """Where the next fragment may begin, in ticks."""
        return self.start + self.duration


@dataclass(frozen=True, kw_only=True)
class SegmentIndex:
    """What a server has to know of a segment file, without opening it."""

    format: TrackFormat
    init_size: int
    """The file begins with this many bytes of ftyp and moov."""
    init_digest: str
    """Equal for segments that may follow one another behind one init."""
    timescale: int
    """Ticks per second."""
    edit_start: int
    """Decode time that is shown at 0 (priming of an audio decoder), in ticks."""
    fragments: tuple[Fragment, ...]
    """At least one, in order of bytes and of time."""

    @property
    def start_seconds(self) -> Fraction:
        """When the first sample is shown; below 0 for an audio decoder's priming."""
        return self.seconds(self.fragments[0].start)

    @property
    def end_seconds(self) -> Fraction:
        """When the last sample ends."""
        return self.seconds(self.fragments[-1].end)

    @property
    def num_samples(self) -> int:
        """Frames, or audio packets."""
        return sum(fragment.num_samples for fragment in self.fragments)

    @property
    def num_bytes(self) -> int:
        """Of all fragments, without the init."""
        return sum(fragment.size for fragment in self.fragments)

    @property
    def end_offset(self) -> int:
        """Bytes of the file up to the end of the last fragment."""
        return self.fragments[-1].offset + self.fragments[-1].size

    def seconds(self, ticks: int) -> Fraction:
        """When a decode time is shown."""
        return Fraction(ticks - self.edit_start, self.timescale)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON, some 20 bytes per fragment.

        A fragment is [size, duration, samples]; where it is no key or does not follow directly on the one
        before, its gaps in bytes and in ticks and whether it is a key come behind.
        """
        rows: list[list[int]] = []
        offset, start = self.init_size, 0
        for fragment in self.fragments:
            row = [fragment.size, fragment.duration, fragment.num_samples]
            extra = [fragment.offset - offset, fragment.start - start, int(fragment.is_key)]
            rows.append(row if extra == [0, 0, 1] else row + extra)
            offset, start = fragment.offset + fragment.size, fragment.end
        return {
            "format": self.format.to_dict(),
            "init_size": self.init_size,
            "init_digest": self.init_digest,
            "timescale": self.timescale,
            "edit_start": self.edit_start,
            "fragments": rows,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The index that `to_dict` was called on.

        Raises:
            MalformedSegmentError: The values are not from `to_dict`.
        """
        try:
            return cls(
                format=TrackFormat(**values["format"]),
                init_size=values["init_size"],
                init_digest=values["init_digest"],
                timescale=values["timescale"],
                edit_start=values["edit_start"],
                fragments=tuple(_fragments_of(values["fragments"], values["init_size"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedSegmentError(f"this is no index of a segment: {error!r}") from error


def index_segment(source: Path | BinaryIO | bytes) -> SegmentIndex:
    """Index a file written by `SegmentWriter` or `extract_audio`, reading its headers only.

    Raises:
        MalformedSegmentError: It is not a whole fragmented MP4 with one track and absolute times.
        OSError: The file cannot be read.
    """
    if isinstance(source, bytes):
        return _index(io.BytesIO(source))
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _index(file)
    return _index(source)


def _index(file: BinaryIO) -> SegmentIndex:
    boxes = [box for box in scan_file(file) if box.kind not in _DROPPED]
    kinds = [box.kind for box in boxes]
    if kinds[:2] != ["ftyp", "moov"] or boxes[0].offset != 0 or boxes[1].offset != boxes[0].end:
        raise MalformedSegmentError(f"the file begins with {kinds[:2]}, expected ['ftyp', 'moov']")
    init = _read(file, boxes[0].offset, boxes[1].end)
    track = read_init(init)
    fragments = tuple(_read_fragments(file, boxes[2:], track.defaults))
    return SegmentIndex(
        format=track.format,
        init_size=len(init),
        init_digest=track.digest,
        timescale=track.timescale,
        edit_start=track.edit_start,
        fragments=fragments,
    )


def _read_fragments(file: BinaryIO, boxes: list[Box], defaults: SampleDefaults) -> Iterator[Fragment]:
    if not boxes:
        raise MalformedSegmentError("the file has no fragments; it was probably cut off")
    previous = -1
    for moof, mdat in zip(boxes[0::2], [*boxes[1::2], None][: len(boxes[0::2])], strict=True):
        if mdat is None or (moof.kind, mdat.kind) != ("moof", "mdat") or mdat.offset != moof.end:
            raise MalformedSegmentError(
                f"at byte {moof.offset} stands {moof.kind!r} and then {mdat.kind if mdat else 'nothing'!r}, "
                "expected 'moof' and then 'mdat'"
            )
        head = _read(file, moof.offset, moof.end)
        run = read_moof(head, read_boxes(head)[0], defaults, mdat.end - mdat.body)
        if run.start <= previous:
            raise MalformedSegmentError(f"a fragment at {run.start} ticks follows one at {previous}")
        previous = run.start
        yield Fragment(moof.offset, mdat.end - moof.offset, *run)


class InitTrack(NamedTuple):
    """What an init says about its only track."""

    format: TrackFormat
    digest: str
    timescale: int
    edit_start: int
    defaults: SampleDefaults


def read_init(init: bytes) -> InitTrack:
    """Read ftyp and moov.

    Raises:
        MalformedSegmentError: They are damaged, or not those of a fragmented file with one track.
    """
    top = read_boxes(init)
    moov = only(top, "moov")
    parts = children(init, moov)
    trak, trex = only(parts, "trak"), descend(init, moov, "mvex", "trex")
    mdia = descend(init, trak, "mdia")
    handler = descend(init, mdia, "hdlr")
    stsd = descend(init, mdia, "minf", "stbl", "stsd")
    entries = children(init, stsd, 8)
    if len(entries) != 1:
        raise MalformedSegmentError(f"the track has {len(entries)} sample entries, expected 1")
    kind = bytes(unpack("4B", init, handler, 8)).decode("latin-1")
    _, duration, size, flags = unpack("4I", init, trex, 8)
    return InitTrack(
        read_format(init, entries[0], kind),
        digest_of(init, [only(top, "ftyp"), moov]),
        _timescale(init, descend(init, mdia, "mdhd")),
        _edit_start(init, trak),
        SampleDefaults(duration, size, flags),
    )


def _timescale(init: bytes, mdhd: Box) -> int:
    is_long = unpack("I", init, mdhd)[0] >> 24 == 1
    (timescale,) = unpack("I", init, mdhd, 20 if is_long else 12)
    if timescale == 0:
        raise MalformedSegmentError("the track has 0 ticks per second")
    return timescale


def _edit_start(init: bytes, trak: Box) -> int:
    edits = [box for box in children(init, trak) if box.kind == "edts"]
    if not edits:
        return 0
    elst = descend(init, edits[0], "elst")
    version_and_flags, count = unpack("II", init, elst)
    # A delay would be an empty edit in front; MSE players ignore it, so delays have to be in the times.
    layout = "Qqhh" if version_and_flags >> 24 == 1 else "Iihh"
    _, media_time, rate, _ = unpack(layout, init, elst, 8) if count else (0, 0, 1, 0)
    if count > 1 or media_time < 0 or rate != 1:
        raise MalformedSegmentError(
            f"the track has {count} edits, the first at {media_time}; accepted is one at 0 or later"
        )
    return media_time


def _fragments_of(rows: list[list[int]], offset: int) -> Iterator[Fragment]:
    start = 0
    for size, duration, num_samples, *extra in rows:
        byte_gap, tick_gap, is_key = extra or (0, 0, 1)
        offset, start = offset + byte_gap, start + tick_gap
        yield Fragment(offset, size, start, duration, num_samples, bool(is_key))
        offset, start = offset + size, start + duration


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    if end - start > _MAX_HEADER_BYTES:
        raise MalformedSegmentError(f"a header of {end - start} bytes; at most {_MAX_HEADER_BYTES} are read")
    file.seek(start)
    return file.read(end - start)
