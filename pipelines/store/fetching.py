"""One file from a server into a folder: goes on where it ended, and is what it should be or is not there."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from pipelines.store.connections import connection_error, host_of, open_url
from pipelines.store.errors import DigestMismatchError, DownloadError, ModelTooLargeError, folder_error
from pipelines.store.parts import PartFile, PartState, check_room
from pipelines.store.records import StoredFile
from pipelines.store.remote import RemoteFile, check_file

CHUNK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (?P<start>\d+)-\d+/(?P<total>\d+|\*)")

# (bytes of this file so far, size or None where the server does not say)
FileProgress = Callable[[int, int | None], None]
# (what failed, seconds until it is tried again)
RetryFunction = Callable[[DownloadError, float], None]


@dataclass(frozen=True)
class Patience:
    """How much is put up with.

    Attributes:
        num_failures: In a row, without a byte that is new, before it is given up.
        first_pause_seconds: After a failure; doubles with each one.
        max_pause_seconds: The longest pause.
        silence_seconds: How long a server may say nothing.
    """

    num_failures: int = 5
    first_pause_seconds: float = 1.0
    max_pause_seconds: float = 20.0
    silence_seconds: float = 30.0

    def pause_seconds(self, num_failures: int) -> float:
        """The pause after so many failures."""
        return min(self.first_pause_seconds * 2.0 ** (num_failures - 1), self.max_pause_seconds)


def fetch_file(
    file: RemoteFile,
    folder: Path,
    *,
    max_bytes: int,
    patience: Patience | None = None,
    on_progress: FileProgress = lambda done, total: None,
    on_retry: RetryFunction = lambda error, pause: None,
) -> StoredFile:
    """Fetches a file, unless it is there already and what it should be.

    Args:
        file: What to fetch.
        folder: The file comes to `file.path` in it.
        max_bytes: Of the file.
        patience: With the server.
        on_progress: Called as bytes come.
        on_retry: Called before a pause after a failure.

    Raises:
        DownloadError: If the server fails too often; what came is kept for the next call.
        DigestMismatchError: If something else came; nothing of it is kept.
        ModelTooLargeError: If it is larger than allowed.
        StoreFolderError: If it cannot be written; what came is kept.
    """
    destination = folder / file.path
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        if file.is_known and destination.is_file():
            try:
                return check_file(file, destination)
            except DigestMismatchError:
                pass  # an older state of the file
        part = PartFile(destination)
    except OSError as error:
        raise folder_error(error, destination) from error
    with closing(part):
        _Fetch(file, part, max_bytes, patience or Patience(), on_progress, on_retry).run()
        return part.finish(file, destination)


class _Fetch:
    """One file on its way."""

    def __init__(
        self,
        file: RemoteFile,
        part: PartFile,
        max_bytes: int,
        patience: Patience,
        on_progress: FileProgress,
        on_retry: RetryFunction,
    ) -> None:
        self._file, self._part, self._max_bytes = file, part, max_bytes
        self._patience, self._on_progress, self._on_retry = patience, on_progress, on_retry

    def run(self) -> None:
        """Asks until all bytes are here."""
        furthest, num_failures = self._part.num_bytes, 0
        begun_for = self._part.state.digest
        if begun_for and self._digest and begun_for != self._digest:
            self._part.restart(PartState(digest=self._digest))
        while not self._is_whole():
            try:
                self._ask()
                return
            except DownloadError as error:
                if not error.is_temporary:
                    raise
                num_failures = 1 if self._part.num_bytes > furthest else num_failures + 1
                furthest = max(furthest, self._part.num_bytes)
                if num_failures > self._patience.num_failures:
                    if self._part.num_bytes:
                        error.add_note(
                            f"{self._part.num_bytes / 1e6:.1f} MB are kept: the same command goes on"
                        )
                    raise
                pause = error.retry_after_seconds or self._patience.pause_seconds(num_failures)
                self._on_retry(error, pause)
                time.sleep(pause)

    @property
    def _digest(self) -> str | None:
        return self._file.sha256 or self._file.git_blob

    def _is_whole(self) -> bool:
        total = self._part.state.total_bytes
        return total is not None and 0 < total == self._part.num_bytes

    def _ask(self) -> None:
        """Asks for what is missing, and takes it.

        Raises:
            DownloadError: If not all of it comes.
        """
        url, part = self._file.url, self._part
        headers = {"Authorization": f"Bearer {self._file.token}"} if self._file.token else {}
        # Without a validator a changed file could be joined to the old one's head, unless the digest tells.
        is_safe = part.state.validator or (self._digest and part.state.digest == self._digest)
        if part.num_bytes and is_safe:
            headers["Range"] = f"bytes={part.num_bytes}-"
            if part.state.validator:
                headers["If-Range"] = part.state.validator
        try:
            response = open_url(url, headers=headers, timeout_seconds=self._patience.silence_seconds)
        except DownloadError as error:
            if error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                part.restart(PartState(digest=self._digest))
                error.is_temporary = True
            raise
        with response:
            total = self._begin(response)
            self._check_size(total or 0)
            check_room(part.path.parent, max((total or 0) - part.num_bytes, 0))
            self._take(response, total)
        if total is not None and part.num_bytes != total:
            raise DownloadError(
                f"{host_of(url)} breaks off after {part.num_bytes} of {total} bytes", is_temporary=True
            )

    def _begin(self, response: http.client.HTTPResponse) -> int | None:
        """Makes the part ready for what comes; the size of the whole, if the server says it."""
        part = self._part
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DownloadError(
                f"{host_of(self._file.url)} sends the file packed, though it was asked not to"
            )
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            known = part.state.total_bytes
            total = int(match["total"]) if match and match["total"] != "*" else known
            if match and int(match["start"]) == part.num_bytes and known in (None, total):
                return total
            part.restart(PartState(digest=self._digest))
            raise DownloadError(
                f"{host_of(self._file.url)} sent another part than asked for", is_temporary=True
            )
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isdecimal() else None
        part.restart(PartState(validator=_validator(response), digest=self._digest, total_bytes=total))
        return total

    def _take(self, response: http.client.HTTPResponse, total: int | None) -> None:
        part = self._part
        while True:
            try:
                chunk = response.read1(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise connection_error(self._file.url, error) from error
            if not chunk:
                return
            part.append(chunk)
            self._check_size(part.num_bytes)
            self._on_progress(part.num_bytes, total)

    def _check_size(self, num_bytes: int) -> None:
        if num_bytes > self._max_bytes:
            raise ModelTooLargeError(
                f"{self._file.path} has {num_bytes / 1e9:.2f} GB or more, the limit is "
                f"{self._max_bytes / 1e9:.2f} GB",
                max_bytes=self._max_bytes,
            )


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What If-Range may be given: a strong ETag, or else the date of the last change."""
    etag: str = response.headers.get("ETag", "")
    validator: str = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return validator if validator and validator.isascii() and validator.isprintable() else None
