"""Cover art of a joined file: one picture, beside the tracks or attached."""

from collections.abc import Iterator

from av.container import OutputContainer

from media._tracks import Peekable, SourceStream, StreamOutcome, TimedPacket

_ATTACHED = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}


class CoverArt:
    """An attached picture, copied. The file must not be fragmented: there it would become an empty video
    track."""

    def __init__(self, source: SourceStream) -> None:
        self._source = source
        self._pictures = Peekable(source.packets())

    @property
    def is_empty(self) -> bool:
        """Whether the picture is missing."""
        return self._pictures.is_empty

    def add_to(self, output: OutputContainer) -> None:
        """Add the picture as an attached-picture stream."""
        self._output = output.add_stream_from_template(self._source.stream, opaque=True)
        self._source.copy_properties(self._output)

    def packets(self) -> Iterator[TimedPacket]:
        """The picture."""
        for packet in self._pictures:
            packet.pts = packet.dts = 0
            packet.stream = self._output
            yield TimedPacket(0.0, packet)
            return

    def outcome(self) -> StreamOutcome:
        """Copied."""
        return StreamOutcome(self._source.index, "video", self._source.codec_name, "copied", "cover art")

    def close(self) -> None:
        """Release the source."""
        self._source.close()


class AttachedCover(CoverArt):
    """A cover picture as an attachment, under the name that Matroska's players look for."""

    def add_to(self, output: OutputContainer) -> None:
        """Add the attachment; it is written with the header."""
        name, mimetype = _ATTACHED[self._source.codec_name]
        output.add_attachment(name, mimetype, bytes(next(iter(self._pictures))))

    def packets(self) -> Iterator[TimedPacket]:
        """None: an attachment has no time."""
        return iter(())
