"""Files inside a Matroska file: fonts and other attachments of the source."""

from collections.abc import Iterator

from av.container import OutputContainer

from media._tracks import SourceStream, StreamOutcome, TimedPacket


class AttachedFile:
    """An attachment of the source, as one of the output."""

    def __init__(self, source: SourceStream) -> None:
        self._source = source
        self._data = bytes(getattr(source.stream, "data", None) or b"")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return not self._data

    def add_to(self, output: OutputContainer) -> None:
        """Add the attachment; it is written with the header."""
        tags = self._source.stream.metadata
        mimetype = tags.get("mimetype") or "application/octet-stream"
        output.add_attachment(tags.get("filename") or "attachment", mimetype, self._data)

    def packets(self) -> Iterator[TimedPacket]:
        """None: an attachment has no time."""
        return iter(())

    def outcome(self) -> StreamOutcome:
        """Copied."""
        name = self._source.stream.metadata.get("filename") or ""
        return StreamOutcome(self._source.index, "attachment", self._source.codec_name, "copied", name)

    def close(self) -> None:
        """Release the source."""
        self._source.close()
