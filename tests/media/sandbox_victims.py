"""Preloaded, it makes the sandbox's children die of files whose name says at which step."""

import os
from collections.abc import Callable
from typing import Any

import media.join
import media.probing
from media.sandbox import _frames, _pictures


def _dying(step: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if f"dies-in-{step}" in f"{arguments} {options}":
            os.abort()
        return function(*arguments, **options)

    return call


media.probing.probe = _dying("probe", media.probing.probe)
media.join.join_segments = _dying("join", media.join.join_segments)
_frames.RingReader = _dying("reading", _frames.RingReader)  # type: ignore[assignment, misc]
_pictures.read_picture = _dying("picture", _pictures.read_picture)  # type: ignore[attr-defined]
