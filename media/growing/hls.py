"""HLS playlists (RFC 8216) over the segment files as they are: byte ranges, no second copy of the video."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from media.growing.index import Fragment, SegmentIndex
from media.growing.stream import require_same_init

TARGET_SECONDS = 6
"""How long an entry may be. Fragments are 2 s (one group of pictures), so entries are 4 to 6 s, and a client
asks for a growing playlist every 6 s."""

# EXT-X-MAP in playlists of whole frames needs 6, fragmented MP4 as such 7.
_VERSION = 7


@dataclass(frozen=True)
class _Entry:
    """Fragments in a row of one file, at most as long as the target if they are more than one."""

    file: int
    offset: int
    size: int
    seconds: Fraction


def multivariant_playlist(
    segments: Sequence[SegmentIndex], audio: SegmentIndex | None, *, video_uri: str, audio_uri: str
) -> str:
    """The playlist that a player opens first. Bit and frame rates are measured on the segments so far.

    Args:
        segments: The published ones, from the first on without a hole; at least one.
        audio: Index of the audio file, None without sound.
        video_uri: Of the playlist made by `video_playlist`.
        audio_uri: Of the one made by `audio_playlist`; unused without sound.

    Raises:
        SegmentMismatchError: The segments do not fit together.
        ValueError: There is no segment, or a URI would break the playlist.
    """
    _require_segments(segments)
    video = segments[0].format
    entries = _entries_of(segments)
    peak, average = _bit_rates(entries)
    codecs = [video.codec]
    lines = _head()
    attributes = ""
    if audio is not None:
        audio_peak, audio_average = _bit_rates(_entries_of([audio]))
        peak, average = peak + audio_peak, average + audio_average
        codecs.append(audio.format.codec)
        attributes = ',AUDIO="audio"'
        lines.append(
            '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="audio",DEFAULT=YES,AUTOSELECT=YES,'
            f'CHANNELS="{audio.format.channels}",URI="{_checked(audio_uri)}"'
        )
    seconds = sum((entry.seconds for entry in entries), Fraction(0))
    frame_rate = sum(segment.num_samples for segment in segments) / max(seconds, Fraction(1, 1000))
    lines += [
        f"#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},"
        f'CODECS="{",".join(codecs)}",RESOLUTION={video.width}x{video.height},'
        f"FRAME-RATE={float(frame_rate):.3f},VIDEO-RANGE={video.video_range}{attributes}",
        _checked(video_uri),
    ]
    return _text(lines)


def video_playlist(
    segments: Sequence[SegmentIndex], *, uri_of: Callable[[int], str], is_finished: bool
) -> str:
    """The video's playlist. While it grows, lines are only added behind the others.

    Args:
        segments: The published ones, from the first on without a hole; at least one.
        uri_of: The URI of a segment's file, by its number.
        is_finished: Whether there will be no more.

    Raises:
        SegmentMismatchError: The segments do not fit together.
        ValueError: There is no segment, or a URI would break the playlist.
    """
    _require_segments(segments)
    entries = _entries_of(segments)
    return _media_playlist(entries, segments[0].init_size, uri_of, is_finished)


def audio_playlist(audio: SegmentIndex, *, uri: str, available_seconds: Fraction | None) -> str:
    """The audio's playlist, as far as there is video to it.

    Args:
        audio: Index of the audio file.
        uri: Of the file.
        available_seconds: `end_seconds` of the last published segment; None once there will be no more.
            Sound is listed a little beyond it, so that a player never waits for sound when it has pictures.

    Raises:
        ValueError: The URI would break the playlist.
    """
    entries = _entries_of([audio])
    if available_seconds is not None:
        entries = entries[: _num_begun_before(entries, audio.start_seconds, available_seconds)]
    return _media_playlist(entries, audio.init_size, lambda _: uri, available_seconds is None)


def _media_playlist(
    entries: Sequence[_Entry], init_size: int, uri_of: Callable[[int], str], is_finished: bool
) -> str:
    # It must not change while the playlist grows. It would only where a single group of pictures lasts longer
    # than the target (a slide show), which nothing can divide.
    target = max([TARGET_SECONDS, *(_round_half_up(entry.seconds) for entry in entries)])
    lines = _head()
    lines.append(f"#EXT-X-TARGETDURATION:{target}")
    lines.append("#EXT-X-MEDIA-SEQUENCE:0")
    lines.append(f"#EXT-X-PLAYLIST-TYPE:{'VOD' if is_finished else 'EVENT'}")
    if not is_finished:
        # Else players begin at the end of what there is, as in a live broadcast.
        lines.append("#EXT-X-START:TIME-OFFSET=0,PRECISE=YES")
    lines.append(f'#EXT-X-MAP:URI="{_checked(uri_of(0))}",BYTERANGE="{init_size}@0"')
    for entry in entries:
        lines.append(f"#EXTINF:{float(entry.seconds):.6f},")
        lines.append(f"#EXT-X-BYTERANGE:{entry.size}@{entry.offset}")
        lines.append(_checked(uri_of(entry.file)))
    if is_finished:
        lines.append("#EXT-X-ENDLIST")
    return _text(lines)


def _head() -> list[str]:
    return ["#EXTM3U", f"#EXT-X-VERSION:{_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _require_segments(segments: Sequence[SegmentIndex]) -> None:
    if not segments:
        raise ValueError("a playlist needs at least one segment, got none")
    for number, segment in enumerate(segments):
        require_same_init(segments[0], segment, number)


def _entries_of(files: Sequence[SegmentIndex]) -> list[_Entry]:
    """Divide each file for itself, so that entries listed once stay as they are when more files come."""
    return [_entry(number, index, group) for number, index in enumerate(files) for group in _groups_of(index)]


def _groups_of(index: SegmentIndex) -> list[list[Fragment]]:
    """Fragments up to the target; a player can begin at each group."""
    groups: list[list[Fragment]] = []
    for fragment in index.fragments:
        fits = groups and fragment.end - groups[-1][0].start <= TARGET_SECONDS * index.timescale
        if groups and (fits or not fragment.is_key):
            groups[-1].append(fragment)
        else:
            groups.append([fragment])
    return groups


def _entry(number: int, index: SegmentIndex, group: list[Fragment]) -> _Entry:
    first, last = group[0], group[-1]
    size = last.offset + last.size - first.offset
    return _Entry(number, first.offset, size, Fraction(last.end - first.start, index.timescale))


def _num_begun_before(entries: Sequence[_Entry], start: Fraction, end: Fraction) -> int:
    """How many entries begin before a time; at least one, since a playlist of none says nothing."""
    count = 0
    for entry in entries:
        if count and start >= end:
            break
        count += 1
        start += entry.seconds
    return count


def _bit_rates(entries: Sequence[_Entry]) -> tuple[int, int]:
    """Peak and average in bits per second. Short entries do not count as peaks (RFC 8216, section 4.1)."""
    seconds = sum((entry.seconds for entry in entries), Fraction(0))
    average = Fraction(8 * sum(entry.size for entry in entries)) / max(seconds, Fraction(1, 1000))
    long = [entry for entry in entries if 2 * entry.seconds >= TARGET_SECONDS]
    peak = max([average, *(8 * entry.size / entry.seconds for entry in long)])
    return _round_up(peak), _round_up(average)


def _round_up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)


def _round_half_up(value: Fraction) -> int:
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def _checked(uri: str) -> str:
    if not uri or any(character in '"\r\n' for character in uri):
        raise ValueError(f"{uri!r} cannot stand in a playlist: it is empty or has quotes or line breaks")
    return uri
