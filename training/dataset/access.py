"""How files are got at, by whoever runs this: in this process, or in one that may die of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any, Protocol

from media.frame import Frame
from media.info import MediaInfo


class FrameReader(AbstractContextManager[Any], Protocol):
    """`media.VideoReader`, or one in another process."""

    @property
    def time_base(self) -> Fraction: ...

    @property
    def rate(self) -> Fraction: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    def frames(self, *, from_pts: int | None = None) -> Iterator[Frame]: ...


class SourceAccess(Protocol):
    """What looks into files and reads them."""

    @property
    def probe(self) -> Callable[..., MediaInfo]: ...

    @property
    def open_reader(self) -> Callable[..., FrameReader]: ...
