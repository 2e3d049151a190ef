"""Uploads whose parts go straight to the service's storage, where that is S3 and can be reached."""

from __future__ import annotations

from collections.abc import Callable

from dovetail_client._api import Api
from dovetail_client._sources import LocalFile
from dovetail_client.errors import (
    APIError,
    ConflictError,
    ConnectionFailedError,
    DovetailError,
    TransferError,
)
from dovetail_client.models import Upload, UploadPart, UploadParts

_PROBE_SECONDS = 10.0


class DirectSending:
    """One file on its way.

    Args:
        api: The way to the service.
        file: What is sent.
        upload_id: Of an upload of which no byte has come in another way.
        tell: Is told the bytes that are there.
    """

    def __init__(self, api: Api, file: LocalFile, upload_id: str, tell: Callable[[int], None]) -> None:
        self._api, self._file, self._tell = api, file, tell
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
            async with self._api.open("HEAD", parts.parts[0].url, read_seconds=_PROBE_SECONDS):
                return True
        except APIError:  # it answers, if only that its address is for another method
            return True
        except ConnectionFailedError:
            return False

    async def run(self, parts: UploadParts) -> Upload:
        """Sends what is missing, and has the upload made of it.

        Raises:
            DovetailError: The last of several failures in a row.
        """
        patience = self._api.patience()
        while parts.parts:
            num_arrived, failure = len(parts.arrived), await self._send_all(parts)
            # The addresses may have ended, and the storage says best what it has.
            parts = await self._missing()
            if failure is not None:
                if len(parts.arrived) > num_arrived:
                    patience.renew()
                await patience.bear(failure)
        return await self._api.post(Upload, f"{self._path}/complete", {}, is_repeatable=True)

    async def _missing(self) -> UploadParts:
        return await self._api.post(UploadParts, f"{self._path}/parts", {}, is_repeatable=True)

    async def _send_all(self, parts: UploadParts) -> DovetailError | None:
        """What went wrong, if anything did."""
        size, total = parts.part_size_bytes, self._file.size_bytes
        num_bytes = sum(min(size, total - size * (number - 1)) for number in parts.arrived)
        self._tell(num_bytes)
        for part in parts.parts:
            try:
                await self._send(part)
            except TransferError:
                raise
            except DovetailError as error:
                return error
            num_bytes += part.size_bytes
            self._tell(num_bytes)
        return None

    async def _send(self, part: UploadPart) -> None:
        content, digest = await self._api.work(self._file.piece, part.offset, part.size_bytes, "md5")
        try:
            # The storage compares it, and refuses what has changed on the way.
            headers = {"Content-MD5": digest}
            await self._api.send("PUT", part.url, headers=headers, content=content, is_repeatable=False)
        finally:
            content.clear()
