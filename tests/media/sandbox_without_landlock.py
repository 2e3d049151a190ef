"""Preloaded, it makes the sandbox's children see a kernel without Landlock."""

from media.sandbox import _landlock


def _lacks() -> bool:
    return False


_landlock.is_supported = _lacks
