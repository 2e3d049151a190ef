"""Multipart bodies of any size: files go to the disk while they arrive, fields are kept, nothing else is."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from fastapi import Request
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from jobs.errors import StorageFullError
from service.auth import Caller, effective_limit
from service.context import ServiceContext
from service.errors import InvalidRequestError, MalformedRequestError, TooLargeError
from service.quotas import check_stored_bytes
from service.room import GuardedFile, check_incoming_room, reported_full

# Parsing and writing happen in a thread; smaller pieces would spend more on changing threads.
_BLOCK_BYTES = 1 << 20
_MAX_FIELD_BYTES = 1 << 20
_MAX_HEADER_BYTES = 16_384
FILE_FIELD = "file"


@dataclass(frozen=True)
class ReceivedFile:
    """A file of a form.

    Attributes:
        path: Where it is; removed when the request ends, unless it was moved away.
        filename: What the customer calls it.
    """

    path: Path
    filename: str | None


@dataclass(frozen=True)
class Form:
    """A form that has arrived.

    Attributes:
        files: In order.
        fields: By name; of equal names the last.
    """

    files: list[ReceivedFile] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def receive_form(
    request: Request, context: ServiceContext, caller: Caller, *, field_names: frozenset[str], max_files: int
) -> AsyncIterator[Form]:
    """Takes in a multipart body. Files are removed at the end of the block.

    Args:
        request: Its body.
        context: Of the process.
        caller: Who sends it.
        field_names: Fields that may come besides `file`.
        max_files: How many files may come.

    Raises:
        MalformedRequestError: If it cannot be read or breaks off.
        InvalidRequestError: If there is a field of another name, or there are too many files.
        TooLargeError: If a file or field is too large.
        QuotaError: If the caller sends too much at a time, or has no room left.
        StorageFullError: If there is no room.
    """
    # A body in chunks does not say how long it is; what comes is looked at then.
    announced = int(request.headers.get("content-length") or 0)
    max_at_once = effective_limit(context, caller, "max_uploads_at_once")
    max_bytes = effective_limit(context, caller, "max_upload_bytes")
    with context.in_flight.hold("uploads", caller.owner, max_at_once):
        await run_in_threadpool(check_stored_bytes, context, caller, announced)
        await run_in_threadpool(check_incoming_room, context, announced)
        folder = context.incoming_dir / uuid4().hex
        await run_in_threadpool(folder.mkdir, parents=True)
        receiver = _Receiver(
            context, folder, field_names=field_names, max_files=max_files, max_bytes=max_bytes
        )
        try:
            yield await _receive(request, receiver, context, caller)
        finally:
            receiver.close()
            await run_in_threadpool(shutil.rmtree, folder, ignore_errors=True)


def is_form(request: Request) -> bool:
    """Whether the body says that it is a multipart form."""
    kind, _ = parse_options_header(request.headers.get("content-type", ""))
    return kind == b"multipart/form-data"


async def _receive(request: Request, receiver: _Receiver, context: ServiceContext, caller: Caller) -> Form:
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise MalformedRequestError("the Content-Type of the form has no boundary")
    try:
        parser = receiver.make_parser(boundary)
        block = bytearray()
        async for piece in request.stream():
            block += piece
            if len(block) >= _BLOCK_BYTES:
                await context.lanes.storage.run(caller.owner, parser.write, bytes(block))
                block.clear()
        await context.lanes.storage.run(caller.owner, parser.write, bytes(block))
        parser.finalize()
    except ClientDisconnect as error:
        raise MalformedRequestError("the upload broke off; send it again, or use /v1/uploads") from error
    except (FormParserError, UnicodeError) as error:
        raise MalformedRequestError(f"the multipart body cannot be read: {error}") from error
    if not receiver.is_complete:
        raise MalformedRequestError("the multipart body ends before its last boundary")
    return receiver.form


class _Receiver:
    """What the parser calls, in the order of the body."""

    def __init__(
        self,
        context: ServiceContext,
        folder: Path,
        *,
        field_names: frozenset[str],
        max_files: int,
        max_bytes: int,
    ) -> None:
        self.form = Form()
        self.is_complete = False
        self._context = context
        self._folder, self._field_names = folder, field_names
        self._max_files, self._max_bytes = max_files, max_bytes
        self._header_name, self._header_value = b"", b""
        self._disposition = b""
        self._name = ""
        self._num_bytes = 0
        self._file: GuardedFile | None = None
        self._value = bytearray()

    def make_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._take_header_name,
                "on_header_value": self._take_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._take_content,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def close(self) -> None:
        """Closes a file that was not finished."""
        if self._file is not None:
            with suppress(OSError, StorageFullError):  # it is thrown away
                self._file.close()
            self._file = None

    def _begin_part(self) -> None:
        self._disposition = b""
        self._header_name, self._header_value = b"", b""
        self._num_bytes = 0

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._check_header()

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _MAX_HEADER_BYTES:
            raise MalformedRequestError(f"a header in the form has more than {_MAX_HEADER_BYTES} bytes")

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name, self._header_value = b"", b""

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode()
        if self._name == FILE_FIELD:
            number = len(self.form.files)
            if number >= self._max_files:
                raise InvalidRequestError(f"at most {self._max_files} files are accepted at once")
            path = self._folder / f"{number:05d}"
            filename = options.get(b"filename")
            self.form.files.append(ReceivedFile(path, None if filename is None else filename.decode()))
            with reported_full():
                self._file = GuardedFile(self._context, path.open("wb"))
        elif self._name not in self._field_names:
            known = ", ".join([FILE_FIELD, *sorted(self._field_names)])
            raise InvalidRequestError(
                f"the form has a field {self._name!r}; known are {known}",
                errors=[{"loc": ["body", self._name], "message": f"one of {known}", "received": self._name}],
            )

    def _take_content(self, data: bytes, start: int, end: int) -> None:
        self._num_bytes += end - start
        limit = _MAX_FIELD_BYTES if self._file is None else self._max_bytes
        if self._num_bytes > limit:
            what = "file" if self._file is not None else f"field {self._name!r}"
            raise TooLargeError(f"the {what} has more than the {limit} bytes that are accepted")
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
        else:
            self._value += data[start:end]

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        else:
            self.form.fields[self._name] = self._value.decode()
            self._value.clear()

    def _end(self) -> None:
        self.is_complete = True
