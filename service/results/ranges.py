"""Byte ranges and preconditions of HTTP (RFC 9110, sections 13 and 14), as pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

from service.errors import ServiceError

# More are an attack on the disk or a broken client; the whole file is always a right answer.
MAX_RANGES = 20

_SPEC = re.compile(r"(\d{1,18})-(\d{0,18})|-(\d{1,18})", re.ASCII)
_NONE_FIT = "the file has {} bytes, the range {!r} lies outside of it"


class ByteRange(NamedTuple):
    """Bytes of a file, the end not included."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class BadRangeError(ServiceError):
    """Raised when a range lies outside the file."""

    status, code, title = 416, "bad_range", "Range not satisfiable"

    def __init__(self, header: str, size: int) -> None:
        super().__init__(_NONE_FIT.format(size, header[:100]), headers={"Content-Range": f"bytes */{size}"})


def parse_ranges(header: str | None, size: int) -> list[ByteRange]:
    """The ranges that a `Range` header asks for, merged where they overlap, in the file's order.

    Args:
        header: Its value.
        size: Of the file in bytes.

    Returns:
        No range where the whole file is meant: without a header, with another unit, with bad syntax (which
        is to be ignored) and with very many ranges.

    Raises:
        BadRangeError: If none of them lies in the file.
    """
    unit, _, specs = (header or "").partition("=")
    if header is None or unit.strip().lower() != "bytes":
        return []
    parts = [part.strip() for part in specs.split(",") if part.strip()]
    found = [_parse_spec(part, size) for part in parts]
    if not found or len(found) > MAX_RANGES or any(item is None for item in found):
        return []
    inside = sorted(item for item in found if item is not None and item.size > 0)
    if not inside:
        raise BadRangeError(header, size)
    merged = [inside[0]]
    for item in inside[1:]:
        if item.start <= merged[-1].end:
            merged[-1] = ByteRange(merged[-1].start, max(merged[-1].end, item.end))
        else:
            merged.append(item)
    return merged


def _parse_spec(spec: str, size: int) -> ByteRange | None:
    """One range, empty where it lies outside the file; None for bad syntax."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return ByteRange(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    return ByteRange(int(first), min(size, int(last) + 1) if last else size)


def http_date(at: datetime) -> str:
    """A time as HTTP writes it, in whole seconds."""
    return format_datetime(at.astimezone(UTC), usegmt=True)


def is_unchanged(
    if_none_match: str | None, if_modified_since: str | None, *, etag: str, modified_at: datetime
) -> bool:
    """Whether what a client has is what there is (304)."""
    if if_none_match is not None:
        return "*" in if_none_match or etag in [
            tag.strip().removeprefix("W/") for tag in if_none_match.split(",")
        ]
    since = _parse_date(if_modified_since)
    return since is not None and modified_at.replace(microsecond=0) <= since


def may_use_range(if_range: str | None, *, etag: str, modified_at: datetime) -> bool:
    """Whether a part may be sent: what a client has of the file must be of this very file."""
    return if_range is None or if_range.strip() in (etag, http_date(modified_at))


def _parse_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        found = parsedate_to_datetime(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
