"""Cover art of a joined file: one picture, stored beside the tracks."""

from collections.abc import Iterator

from av.container import OutputContainer

from media._tracks import Peekable, SourceStream, StreamOutcome, TimedPacket


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
