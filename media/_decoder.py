"""One video stream from packets to frames; damage costs the damaged packets and is counted."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from media._mpeg_headers import sequence_geometry
from media._notes import Notes
from media._open import open_input
from media._packed_frames import DecodingOrderClock, has_decoding_order_only
from media._time_line import VideoFollower, has_decoding_times, packet_time
from media.errors import UnsupportedCodecError
from media.info import Stretch
from media.limits import InputLimits

VideoPacket: TypeAlias = "Packet[VideoStream]"  # PyAV's class is generic in its type stubs only

# A demuxer that fails this often without giving one packet in between has nothing more to give: a cut MP4
# fails for every sample that lies behind the end.
_MAX_DEMUX_FAILURES = 8

_MPEG_CODECS = frozenset({"mpeg1video", "mpeg2video"})
# With more threads FFmpeg leaves in damaged parts of a picture what an earlier one had there, without a word.
_CONCEALED_BY_ONE_THREAD = _MPEG_CODECS | {"h264"}
# Pictures are stored this much before others that are shown earlier, at most: 16 of 24 a second.
_REORDERED_SECONDS = Fraction(2, 3)

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class StreamDecoder:
    """An open file and the decoder of its video stream. Close it; not thread-safe.

    Args:
        path: The file.
        index: The stream's position in the container.
        num_threads: Decoder threads, at least 1.
        limits: Frames larger than `max_pixels` fail to decode.
        notes: Where damage is reported.
        on_packet: Called for each packet that is read.
        stretches: Of the file's time line. Packets and frames have their times on that line.
        gap: As for `open_input`.

    Raises:
        UnreadableInputError: The file cannot be opened.
        UnsupportedCodecError: There is no decoder for the stream.
    """

    def __init__(
        self,
        path: Path,
        index: int,
        *,
        num_threads: int,
        limits: InputLimits,
        notes: Notes,
        on_packet: Callable[[], None] | None = None,
        stretches: Sequence[Stretch] = (),
        gap: tuple[int, int] | None = None,
    ) -> None:
        self.num_skipped = 0 if gap is None else gap[1] - gap[0]
        """Bytes of the file that are not there for this decoder: its packets lie so much further in it."""
        self._notes, self._on_packet = notes, on_packet
        self._follower = VideoFollower(stretches)
        self._is_closed = False
        self.is_cut_off = False
        """Whether reading ended with an error instead of the end of the file."""
        self.container: InputContainer = open_input(path, limits=limits, gap=gap)
        for stream in self.container.streams:
            if stream.index != index:
                stream.discard = Discard.all  # lets seeking formats skip the data of other streams
        self.stream: VideoStream = _decodable(self.container, index)
        self.codec_name: str = self.stream.codec_context.codec.canonical_name
        """"av1", "h264", ...: the codec, not the decoder in use."""
        self.has_stepped_back = False
        """Whether the times of packets have gone back in the order of the file, as behind a joint."""
        self._latest_time: Fraction | None = None
        self.first_error: Exception | None = None
        """Why the first damaged packet could not be decoded."""
        self._geometry: tuple[bytes, bool] | None = None
        self._has_decoding_times = has_decoding_times(self.container.format.name)
        self._order_clock = (
            DecodingOrderClock() if has_decoding_order_only(self.container, self.codec_name) else None
        )
        context = self._context = _alpha_context(self.stream) or self.stream.codec_context
        # The options given when a file is opened do not reach its decoders.
        context.options = {"max_pixels": str(limits.max_pixels)}
        # Slices, not frames: with frame threads FFmpeg does not conceal errors, reports a damaged packet some
        # packets late, and frames still in flight at an error are lost.
        context.thread_type = "SLICE"
        context.thread_count = 1 if self.codec_name in _CONCEALED_BY_ONE_THREAD else num_threads

    @property
    def has_passed_break(self) -> bool:
        """Whether the last packet lies behind a break in the file's time stamps."""
        return self._follower.has_passed_break

    def packets(self) -> Iterator[VideoPacket]:
        """All packets with data from the present position on."""
        failures = 0
        self.has_stepped_back, self._latest_time = False, None
        while failures < _MAX_DEMUX_FAILURES:
            try:
                for packet in self.container.demux(self.stream):
                    if packet.size > 0:
                        refuse_encrypted(packet, Path(self.container.name))
                        failures = 0
                        self.is_cut_off = False
                        if self._on_packet is not None:
                            self._on_packet()
                        self._put_on_line(packet)
                        yield packet
                    if self._is_closed:  # to go on reading a closed container crashes the process
                        return
                return
            except IndexError:
                # PyAV gives one empty packet per stream at the end of the file, and stumbles over streams
                # that appeared after the file was opened (MPEG-TS). Nothing is missing.
                return
            except (av.FFmpegError, OSError):
                failures += 1
                self.is_cut_off = True

    def _put_on_line(self, packet: VideoPacket) -> None:
        time = packet_time(packet, has_decoding_times=self._has_decoding_times)
        seconds = None if time is None else time * packet.time_base
        shift = self._follower.shift(seconds, packet.pos)
        if shift:
            shift_packet(packet, shift)
        if seconds is not None:
            on_line, latest = seconds + (shift or 0), self._latest_time
            allowed = 0 if self._has_decoding_times else _REORDERED_SECONDS
            self.has_stepped_back |= latest is not None and on_line < latest - allowed
            self._latest_time = on_line if latest is None else max(latest, on_line)

    def decode(self, packets: Iterator[VideoPacket]) -> Iterator[VideoFrame]:
        """Frames of the packets in the order they are shown, then what the decoder still holds."""
        for packet in packets:
            if self._changes_geometry(packet):
                # FFmpeg forgets the frame it holds when it makes room for the new size.
                yield from self._decode(None)
                self._context.flush_buffers()
            yield from self._decode(packet)
        yield from self._decode(None)

    def _changes_geometry(self, packet: VideoPacket) -> bool:
        if not packet.is_keyframe or self.codec_name not in _MPEG_CODECS:
            return False
        before, after = self._geometry, sequence_geometry(bytes(packet))
        if after is None:
            return False
        self._geometry = after
        return before is not None and after != before

    def frames(self) -> Iterator[VideoFrame]:
        """All frames from the present position on."""
        return self.decode(self.packets())

    def _decode(self, packet: "VideoPacket | None") -> list[VideoFrame]:
        try:
            if self._order_clock is not None:
                return self._order_clock.decode(self._context, packet)
            return self._context.decode(packet)
        except av.error.EOFError:
            return []
        except (av.FFmpegError, ValueError) as error:
            self.first_error = self.first_error or error
            self._notes.add("corrupt", lambda n: f"{n} damaged video packets were skipped")
            return []

    def close(self) -> None:
        """Close the file and end the decoder's threads. Harmless a second time."""
        self._is_closed = True
        self.container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def refuse_encrypted(packet: "Packet[Any]", path: Path) -> None:
    """Refuse what is encrypted, perhaps from some packet on.

    Raises:
        UnsupportedCodecError: It is.
    """
    if packet.has_sidedata("encryption_info"):
        raise UnsupportedCodecError(encryption_message(path))


def encryption_message(path: Path) -> str:
    """What is said of a film that cannot be decoded on purpose."""
    return (
        f"'{path.name}' is encrypted (DRM) and can be played by its own player only; give a copy without it"
    )


def shift_packet(packet: "Packet[Any]", seconds: Fraction) -> None:
    """Move a packet's time stamps."""
    ticks = round(seconds / packet.time_base)
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks


def _alpha_context(stream: VideoStream) -> VideoCodecContext | None:
    """A decoder that sees the transparency WebM keeps beside VP8 and VP9; FFmpeg's own decoders do not."""
    name = _ALPHA_DECODERS.get(stream.codec_context.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return None
    try:
        context = av.CodecContext.create(name, "r")
    except av.codec.codec.UnknownCodecError:
        return None
    assert isinstance(context, VideoCodecContext)
    return context


def has_decoder(stream: Stream) -> bool:
    """Whether this build can decode a stream; where not, it has no codec context, whatever the type says."""
    return getattr(stream, "codec_context", None) is not None


def _decodable(container: InputContainer, index: int) -> VideoStream:
    stream = container.streams[index]
    assert isinstance(stream, VideoStream)
    if not has_decoder(stream):
        name = Path(container.name).name
        container.close()
        raise UnsupportedCodecError(
            f"the video of '{name}' is in a codec this build cannot decode; convert it to H.264, H.265, AV1 "
            "or VP9 first"
        )
    return stream
