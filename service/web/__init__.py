"""The web page at `/`: plain files from `static/`, read once and served with strict headers.

There is no build and nothing is fetched from elsewhere, so the content security policy can forbid everything
that is not one of these files or this API.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

__all__ = ["CONTENT_SECURITY_POLICY", "mount", "router"]

_STATIC_DIR: Final = Path(__file__).parent / "static"
_PAGE: Final = "index.html"
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# blob: is for what the page made itself: pictures it fetched (both sides of a still are swapped at once), the
# growing stream, and the size of a video that was just chosen. Nothing inline and no trusted types: text of
# others cannot become markup or code even by a mistake.
CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)

_HEADERS: Final = {
    # Names carry no digest, so browsers ask each time; unchanged files cost a 304.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _StaticFile:
    content: bytes
    media_type: str
    etag: str


def mount(app: FastAPI) -> None:
    """Let the app serve `/` and `/static/{name}`."""
    app.include_router(router)


@router.api_route("/", methods=["GET", "HEAD"])
def get_page(request: Request) -> Response:
    """The page."""
    return _respond(request, _PAGE)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def get_static_file(request: Request, name: str) -> Response:
    """One of its files."""
    return _respond(request, name)


def _respond(request: Request, name: str) -> Response:
    file = _load_files().get(name)
    if file is None:
        raise HTTPException(404, f"the web page has no file {name!r}")
    headers = {**_HEADERS, "ETag": file.etag}
    if _is_known(request.headers.get("If-None-Match"), file.etag):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the browser has this version: the weak comparison of RFC 9110, section 13.1.2."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


@cache
def _load_files() -> dict[str, _StaticFile]:
    """Every file by its name. Held in memory, so that a request's path never becomes a path on the disk."""
    files: dict[str, _StaticFile] = {}
    for path in sorted(_STATIC_DIR.iterdir()):
        if path.suffix in _MEDIA_TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:32]
            files[path.name] = _StaticFile(content, _MEDIA_TYPES[path.suffix], f'"{digest}"')
    return files
