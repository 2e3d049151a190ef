"""How much an input may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class InputLimits:
    """How much an input may ask for. The defaults admit 8K video of a day and stop decompression bombs."""

    max_pixels: int = 8192 * 4320
    """Width times height of one frame."""
    max_seconds: float = 24 * 3600
    """Length of the video."""
    max_streams: int = 200
    """Streams of all kinds."""

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_seconds", "max_streams"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


DEFAULT_LIMITS = InputLimits()
