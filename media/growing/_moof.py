"""One fragment's description (moof): when it plays, how long, and whether playing can begin there."""

from typing import NamedTuple

from media.growing.boxes import Box, children, only, unpack
from media.growing.errors import MalformedSegmentError

# tfhd
_BASE_DATA_OFFSET, _DESCRIPTION_INDEX = 0x1, 0x2
_DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS = 0x8, 0x10, 0x20
# trun
_DATA_OFFSET, _FIRST_FLAGS = 0x1, 0x4
_DURATIONS, _SIZES, _FLAGS, _OFFSETS = 0x100, 0x200, 0x400, 0x800

_IS_NOT_SYNC = 0x10000


class SampleDefaults(NamedTuple):
    """What holds for samples that say nothing of their own: the fields of trex."""

    duration: int
    size: int
    flags: int


class Run(NamedTuple):
    """The samples of one fragment, in ticks."""

    start: int
    duration: int
    num_samples: int
    is_key: bool


def read_moof(data: bytes, moof: Box, defaults: SampleDefaults, num_data_bytes: int) -> Run:
    """Sum up a fragment with one track.

    Args:
        data: The bytes that `moof` was found in.
        moof: The box.
        defaults: From the init.
        num_data_bytes: Length of the mdat's body behind it.

    Raises:
        MalformedSegmentError: The boxes contradict themselves or the data, or place the data by an absolute
            offset, which is wrong as soon as the fragment stands in another file.
    """
    boxes = children(data, only(children(data, moof), "traf"))
    defaults = _override(data, only(boxes, "tfhd"), defaults)
    start = _decode_time(data, only(boxes, "tfdt"))
    runs = [_read_run(data, box, defaults) for box in boxes if box.kind == "trun"]
    if not runs:
        raise MalformedSegmentError(f"the fragment at byte {moof.offset} has no samples")
    num_used = sum(run.num_bytes for run in runs)
    if num_used != num_data_bytes:
        raise MalformedSegmentError(
            f"the samples of the fragment at byte {moof.offset} have {num_used} bytes, its data "
            f"{num_data_bytes}; the file was probably cut off"
        )
    duration = sum(run.duration for run in runs)
    return Run(start, duration, sum(run.num_samples for run in runs), runs[0].is_key)


class _Samples(NamedTuple):
    num_samples: int
    num_bytes: int
    duration: int
    is_key: bool


def _override(data: bytes, tfhd: Box, defaults: SampleDefaults) -> SampleDefaults:
    flags = unpack("I", data, tfhd)[0] & 0xFFFFFF
    if flags & _BASE_DATA_OFFSET:
        raise MalformedSegmentError("the fragment places its data by an absolute offset; it cannot be moved")
    position = 8 + (4 if flags & _DESCRIPTION_INDEX else 0)
    values = list(defaults)
    for number, flag in enumerate((_DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS)):
        if flags & flag:
            (values[number],) = unpack("I", data, tfhd, position)
            position += 4
    return SampleDefaults(*values)


def _decode_time(data: bytes, tfdt: Box) -> int:
    is_long = unpack("I", data, tfdt)[0] >> 24 == 1
    start = unpack("q" if is_long else "I", data, tfdt, 4)[0]
    if start < 0:
        raise MalformedSegmentError(f"the fragment starts {-start} ticks before 0")
    return start


def _read_run(data: bytes, trun: Box, defaults: SampleDefaults) -> _Samples:
    flags, count = unpack("II", data, trun)
    if count == 0:
        raise MalformedSegmentError(f"the run of samples at byte {trun.offset} is empty")
    position = 8 + (4 if flags & _DATA_OFFSET else 0)
    first_flags: int | None = None
    if flags & _FIRST_FLAGS:
        (first_flags,) = unpack("I", data, trun, position)
        position += 4
    columns = [flag for flag in (_DURATIONS, _SIZES, _FLAGS, _OFFSETS) if flags & flag]
    # Checked before the layout is made: a count of billions would make a layout of billions of numbers.
    if trun.end - trun.body - position < 4 * count * len(columns):
        raise MalformedSegmentError(f"the run at byte {trun.offset} has no room for its {count} samples")
    table = unpack(f"{count * len(columns)}I", data, trun, position)
    by_column = {flag: table[number :: len(columns)] for number, flag in enumerate(columns)}
    duration = sum(by_column[_DURATIONS]) if _DURATIONS in by_column else count * defaults.duration
    num_bytes = sum(by_column[_SIZES]) if _SIZES in by_column else count * defaults.size
    if first_flags is None:
        first_flags = by_column[_FLAGS][0] if _FLAGS in by_column else defaults.flags
    return _Samples(count, num_bytes, duration, not first_flags & _IS_NOT_SYNC)
