"""Uploads whose parts go straight to the service's storage, where that is S3 and can be reached."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from dovetail_client._answers import parse, to_error
from dovetail_client._calls import Call
from dovetail_client._http import Http
from dovetail_client._retries import backoff_seconds
from dovetail_client._sources import LocalFile
from dovetail_client.errors import ConflictError, ConnectionFailedError, DovetailError, TransferError
from dovetail_client.models import Upload, UploadPart, UploadParts

_PROBE_SECONDS = 10.0


class DirectSending:
    """One file on its way.

    Args:
        http: The way to the service.
        file: What is sent.
        upload_id: Of an upload of which no byte has come in another way.
        tell: Is told the bytes that are there.
    """

    def __init__(self, http: Http, file: LocalFile, upload_id: str, tell: Callable[[int], None]) -> None:
        self._http, self._file, self._tell = http, file, tell
        self._path = f"/v1/uploads/{upload_id}"

    async def offer(self) -> UploadParts | None:
        """The parts that are missing; None where the service takes none. From then on it takes bytes of this
        upload in no other way.

        Raises:
            APIError: If the service refuses.
        """
        try:
            return await self._missing()
        except ConflictError as error:
            if error.code == "no_direct_uploads":
                return None
            # All of them are there, and not put together yet.
            return UploadParts(part_size_bytes=1)

    async def can_reach(self, parts: UploadParts) -> bool:
        """Whether the storage answers: it may lie in a network of the service's own."""
        if not parts.parts:
            return True
        try:
            opened = await self._http.open(Call("HEAD", parts.parts[0].url), _PROBE_SECONDS)
        except ConnectionFailedError:
            return False
        await opened.close()
        return True

    async def run(self, parts: UploadParts) -> Upload:
        """Sends what is missing, and has the upload made of it.

        Raises:
            DovetailError: The last of several failures in a row.
        """
        num_failures = 0
        while parts.parts:
            num_arrived, failure = len(parts.arrived), await self._send_all(parts)
            # The addresses may have ended, and the storage says best what it has.
            parts = await self._missing()
            if failure is not None:
                num_failures = 1 if len(parts.arrived) > num_arrived else num_failures + 1
                if num_failures > self._http.patience:
                    raise failure
                await self._http.sleep(backoff_seconds(num_failures))
        call = Call("POST", f"{self._path}/complete", json={}, is_repeatable=True)
        return parse(await self._http.send(call), Upload)

    async def _missing(self) -> UploadParts:
        call = Call("POST", f"{self._path}/parts", json={}, is_repeatable=True)
        return parse(await self._http.send(call), UploadParts)

    async def _send_all(self, parts: UploadParts) -> DovetailError | None:
        """What went wrong, if anything did."""
        size, total = parts.part_size_bytes, self._file.size_bytes
        num_bytes = sum(min(size, total - size * (number - 1)) for number in parts.arrived)
        self._tell(num_bytes)
        for part in parts.parts:
            try:
                await self._send(part)
            except DovetailError as error:
                if isinstance(error, TransferError):
                    raise
                return error
            num_bytes += part.size_bytes
            self._tell(num_bytes)
        return None

    async def _send(self, part: UploadPart) -> None:
        content, digest = await self._http.work(self._read, part)
        # The storage compares it, and refuses what has changed on the way.
        call = Call("PUT", part.url, headers={"Content-MD5": digest}, content=content, is_repeatable=False)
        try:
            answer = await self._http.send(call)
        finally:
            content.clear()
        if not 200 <= answer.status < 300:
            raise to_error(answer)

    def _read(self, part: UploadPart) -> tuple[bytearray, str]:
        content = self._file.read_at(part.offset, part.size_bytes)
        if len(content) < part.size_bytes:
            end = part.offset + part.size_bytes
            raise TransferError(f"{self._file.filename} has become shorter than {end} bytes meanwhile")
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        return bytearray(content), base64.b64encode(digest).decode()
