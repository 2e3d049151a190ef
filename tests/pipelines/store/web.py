"""A web server on this machine that serves files as well or as badly as a test says, also as the hub does."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

COMMIT = "c" * 40


@dataclass(frozen=True)
class Resource:
    """What is at a path.

    Attributes:
        body: The file.
        etag: Changes with the file; "" for none.
        has_ranges: Whether parts of it can be asked for.
        has_length: Whether the answer says its size.
        cut_after: Bytes after which each connection breaks off.
        headers: More of them.
        status: Of the answer.
        gate: Waited for before the last byte is sent.
    """

    body: bytes = b""
    etag: str = '"one"'
    has_ranges: bool = True
    has_length: bool = True
    cut_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    gate: threading.Event | None = None


@dataclass
class Web:
    """A running server.

    Attributes:
        url: Its address.
        resources: By path; a function is asked each time. May be changed while it runs.
        asked: Headers of the requests so far, with their path as "path".
    """

    url: str
    resources: dict[str, Resource | Callable[[], Resource]]
    asked: list[dict[str, str]]

    def put(self, path: str, body: bytes = b"", **details: Any) -> str:
        """Puts a file there.

        Returns:
            Its address.
        """
        self.resources[path] = Resource(body, **details)
        return self.url + path

    def change(self, path: str, **details: Any) -> None:
        """Changes what is there."""
        found = self.resources[path]
        assert isinstance(found, Resource)
        self.resources[path] = replace(found, **details)

    def ranges(self) -> list[str | None]:
        """The `Range` of each request so far."""
        return [headers.get("range") for headers in self.asked]


@contextmanager
def running_web(*, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """Runs one on a free port while the block does."""
    resources: dict[str, Resource | Callable[[], Resource]] = {}
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        timeout = 30

        def do_GET(self) -> None:
            asked.append({"path": self.path, **{name.lower(): text for name, text in self.headers.items()}})
            found = resources.get(unquote(self.path.partition("?")[0]), Resource(status=404))
            resource = found() if callable(found) else found
            start = self.first_byte(resource)
            body = resource.body[start:] if start < len(resource.body) or not start else b""
            is_beyond = start > 0 and not body
            status = 416 if is_beyond else 206 if start else resource.status
            self.send_response(status)
            if resource.etag:
                self.send_header("ETag", resource.etag)
            if start:
                end = len(resource.body)
                sent = f"bytes */{end}" if is_beyond else f"bytes {start}-{end - 1}/{end}"
                self.send_header("Content-Range", sent)
            if resource.has_length:
                self.send_header("Content-Length", str(len(body)))
            for name, text in resource.headers.items():
                self.send_header(name, text)
            self.end_headers()
            try:
                self.send_body(body if resource.cut_after is None else body[: resource.cut_after], resource)
            except OSError:
                return  # the other side had enough

        def first_byte(self, resource: Resource) -> int:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            is_same = self.headers.get("If-Range", resource.etag) == resource.etag
            has_part = resource.has_ranges and resource.status == 200 and is_same
            return int(match[1]) if match and has_part else 0

        def send_body(self, body: bytes, resource: Resource) -> None:
            if resource.gate is None:
                self.wfile.write(body)
                return
            self.wfile.write(body[:-1])
            assert resource.gate.wait(20)
            self.wfile.write(body[-1:])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    scheme = "http" if tls is None else "https"
    try:
        yield Web(f"{scheme}://127.0.0.1:{server.server_address[1]}", resources, asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def put_repository(
    web: Web,
    repo: str,
    files: dict[str, bytes],
    *,
    card: dict[str, Any] | None = None,
    revision: str = "",
    commit: str = COMMIT,
) -> None:
    """Makes the server answer as the hub does for a repository; weights are LFS files, all others git's."""
    siblings: list[dict[str, Any]] = []
    for path, body in files.items():
        sibling: dict[str, Any] = {"rfilename": path, "size": len(body), "blobId": git_blob(body)}
        if path.endswith((".safetensors", ".pth", ".bin")):
            digest = hashlib.sha256(body).hexdigest()
            sibling["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 130}
        siblings.append(sibling)
        web.put(f"/{repo}/resolve/{commit}/{path}", body, etag=f'"{git_blob(body)}"')
    info = {"id": repo, "sha": commit, "siblings": siblings, "cardData": card, "tags": [], "private": False}
    address = f"/api/models/{repo}" + (f"/revision/{revision}" if revision else "")
    web.put(address, json.dumps(info).encode(), headers={"Content-Type": "application/json"})


def git_blob(body: bytes) -> str:
    """The id of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
