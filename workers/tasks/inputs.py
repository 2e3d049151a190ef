"""From a job record to something that can be read: the source as a file, its options, a sandboxed reader."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import NamedTuple

from jobs.errors import ObjectNotFoundError
from jobs.options import JobOptions
from jobs.settings import WorkerSettings
from jobs.storage import Storage
from media import EncodeOptions, InputLimits, MediaInfo
from media.sandbox import (
    Cancellation,
    Sandbox,
    SandboxedReader,
    SandboxLimits,
    decode,
    encode,
    sandboxed_picture,
    sandboxed_probe,
)
from media.sizes import SizeRequest
from media.stills import Picture
from workers.input_cache import CachedInput, InputCache
from workers.run.decisions import keeps_alpha
from workers.run.options import UpscaleOptions

# Jobs take turns, so the next task is often one of another job.
_MAX_KEPT = 3
# Where inputs are for the sandbox that lie on no disk; nothing is there.
_ELSEWHERE = Path("/elsewhere")
_numbers = count()
# All packets are read to find breaks in their time stamps; a slow disk gives so much.
_PROBED_BYTES_PER_SECOND = 20e6
# Decoders use several threads; the time by the clock is what a hang is noticed by.
_CPU_SECONDS_PER_SECOND = 8


class InputShelf:
    """Sources of the last few jobs, ready to be read: what is known of them, and a path for the sandbox.

    Where the storage is a folder, that is the file itself. Elsewhere it is no file: as much of the object is
    fetched as is read.

    Args:
        storage: Where they are.
        sandbox: In which they are read.
        settings: Limits.
        cache: For what is fetched.
    """

    def __init__(
        self, storage: Storage, sandbox: Sandbox, settings: WorkerSettings, cache: InputCache
    ) -> None:
        self._storage, self._sandbox, self._settings, self._cache = storage, sandbox, settings, cache
        self._kept: OrderedDict[_Way, _Kept] = OrderedDict()

    def get(
        self,
        key: str,
        *,
        info_key: str,
        video_stream: int | None = None,
        keep_gaps: bool = False,
        cancellation: Cancellation | None = None,
    ) -> MediaInfo:
        """What is known of an input. The sandbox reads its `path` until a few other inputs were asked for.

        Args:
            key: Of the input.
            info_key: Of the object that keeps what is known for all tasks of a job: looking into a
                film of some containers takes reading all of it.
            video_stream: As for `media.probe`.
            keep_gaps: As for `media.probe`.
            cancellation: What may end the probing.

        Raises:
            ObjectNotFoundError: If there is none.
            StorageError: If it cannot be read.
            MediaError: If it is no video.
        """
        way = _Way(key, info_key, video_stream, keep_gaps)
        size_bytes, version = self._storage.identify(key)
        if way in self._kept:
            self._kept.move_to_end(way)
            if self._kept[way].version == version:
                return self._kept[way].info
            self._kept.pop(way).stack.close()
        while len(self._kept) >= _MAX_KEPT:
            self._drop_oldest()
        with ExitStack() as stack:
            path = self._path(key, stack)
            info = self._described(way, version, path)
            if info is None:
                info = self._probe(way, path, size_bytes, cancellation)
                self._storage.put_bytes(info_key, encode((version, info)))
            self._kept[way] = _Kept(info, version, stack.pop_all())
            return info

    def clear(self) -> None:
        """Lets go of all of them."""
        while self._kept:
            self._drop_oldest()

    def _path(self, key: str, stack: ExitStack) -> Path:
        if self._storage.folder is not None:
            return self._storage.folder / key
        path = _ELSEWHERE / str(next(_numbers)) / key
        stack.enter_context(self._sandbox.mounted(path, CachedInput(self._storage, key, self._cache)))
        return path

    def _described(self, way: _Way, version: str, path: Path) -> MediaInfo | None:
        """What another task has found out; None where that is nothing, or of another object."""
        try:
            found = decode(self._storage.get_bytes(way.info_key))
        except (ObjectNotFoundError, ValueError):  # or it is of another version of this program
            return None
        match found:
            case (str() as described, MediaInfo() as info) if described == version:
                return replace(info, path=path)
        return None

    def _probe(self, way: _Way, path: Path, size_bytes: int, cancellation: Cancellation | None) -> MediaInfo:
        idle = max(30.0, self._settings.decode_idle_seconds)
        return sandboxed_probe(
            path,
            limits=input_limits(self._settings),
            video_stream=way.video_stream,
            keep_gaps=way.keep_gaps,
            timeout=idle + size_bytes / _PROBED_BYTES_PER_SECOND,
            sandbox=self._sandbox,
            cancellation=cancellation,
        )

    def _drop_oldest(self) -> None:
        self._kept.popitem(last=False)[1].stack.close()


class _Way(NamedTuple):
    """An input and how it is read."""

    key: str
    info_key: str
    video_stream: int | None
    keep_gaps: bool


@dataclass
class _Kept:
    info: MediaInfo
    version: str
    stack: ExitStack


def input_limits(settings: WorkerSettings) -> InputLimits:
    """What an input may ask for."""
    return InputLimits(max_pixels=settings.max_input_pixels, max_seconds=settings.max_input_seconds)


def open_reader(
    info: MediaInfo, options: UpscaleOptions, *, settings: WorkerSettings, sandbox: Sandbox
) -> SandboxedReader:
    """A reader for the part of the source that the options ask for."""
    return SandboxedReader(
        info,
        start_seconds=options.start_seconds,
        duration_seconds=options.duration_seconds,
        deinterlace=options.deinterlace,
        keep_alpha=keeps_alpha(info, options),
        limits=input_limits(settings),
        timeout=settings.decode_idle_seconds,
        sandbox_limits=_decode_limits(settings),
        sandbox=sandbox,
    )


def read_still(
    info: MediaInfo, *, settings: WorkerSettings, sandbox: Sandbox, cancellation: Cancellation
) -> Picture:
    """The source as a still, upright and whole.

    Raises:
        MediaError: If it cannot be read.
    """
    return sandboxed_picture(
        info.path,
        limits=input_limits(settings),
        timeout=settings.decode_idle_seconds,
        sandbox_limits=_decode_limits(settings),
        sandbox=sandbox,
        cancellation=cancellation,
    )


def _decode_limits(settings: WorkerSettings) -> SandboxLimits:
    return SandboxLimits(
        memory_bytes=settings.decode_memory_bytes,
        cpu_seconds=max(1, round(_CPU_SECONDS_PER_SECOND * settings.decode_idle_seconds)),
    )


def upscale_options(options: JobOptions, *, segment_seconds: float) -> UpscaleOptions:
    """A customer's options as those of a run.

    Raises:
        MediaError: If the encoder knows no such option.
    """
    return UpscaleOptions(
        size=SizeRequest(scale=_exact(options.scale), height=options.height, width=options.width),
        start_seconds=_exact(options.start_seconds),
        duration_seconds=_exact(options.duration_seconds),
        deinterlace=options.deinterlace,
        detect_cuts=options.detect_cuts,
        video_stream=options.video_stream,
        keep_gaps=options.keep_gaps,
        force=options.force,
        encode=EncodeOptions(
            codec="av1" if (options.container, options.codec) == ("webm", "auto") else options.codec,
            crf=options.crf,
            preset=options.preset,
            pix_fmt=options.pix_fmt,
            encoder=options.encoder,
            keep_matrix=options.keep_matrix,
        ),
        segment_seconds=Fraction(str(segment_seconds)),
    )


def _exact(value: float | None) -> Fraction | None:
    """As it was written: 0.1 is a tenth here as on the command line."""
    return None if value is None else Fraction(str(value))
