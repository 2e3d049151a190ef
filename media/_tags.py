"""Which tags of a source an output has a place for. Pure."""

from collections.abc import Iterator, Mapping

from media.containers import Container

# Facts about the old file, not its content.
_CONTAINER_METADATA = frozenset({
    "major_brand", "minor_version", "compatible_brands", "encoder", "encoded_by", "software", "duration",
    "handler_name",
})  # fmt: skip


def tags_for(metadata: Mapping[str, str], container: Container) -> dict[str, str]:
    """The tags that are written, in the order of their names."""
    tags = _content(metadata)
    return {key: tags[key] for key in sorted(tags) if key not in _lost(tags, container)}


def describe_lost_tags(metadata: Mapping[str, str], container: Container) -> Iterator[str]:
    """What is said of the tags that the container has no place for, if there are any."""
    lost = _lost(_content(metadata), container)
    if lost:
        yield f"{container.name} has no place for these tags: {', '.join(lost)}"


def _content(metadata: Mapping[str, str]) -> dict[str, str]:
    tags = {key.lower(): value for key, value in metadata.items()}
    return {key: value for key, value in tags.items() if key not in _CONTAINER_METADATA}


def _lost(tags: Mapping[str, str], container: Container) -> list[str]:
    return [] if container.metadata is None else sorted(tags.keys() - container.metadata)
