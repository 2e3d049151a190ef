"""The web page at `/`: plain files from `static/`, read once and served with strict headers. And the API's
description at `/docs`: Swagger UI, from the files that fastapi-offline brings.

There is no build and nothing is fetched from elsewhere, so the content security policies can forbid
everything that is not one of these files or this API. A script of another site on either page could use the
API with the visitor's cookie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response

__all__ = ["CONTENT_SECURITY_POLICY", "DOCS_CONTENT_SECURITY_POLICY", "mount", "router"]

_STATIC_DIR: Final = Path(__file__).parent / "static"
_PAGE: Final = "index.html"
_DOCS_DIR: Final = Path(__file__).parent / "docs"
_DOCS_PAGE: Final = "docs.html"
_SWAGGER_FILES: Final = ("swagger-ui-bundle.js", "swagger-ui.css")
_MEDIA_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# blob: is for what the page made itself: pictures it fetched (both sides of a still are swapped at once), the
# growing stream, and the size of a video that was just chosen. Where results come straight from S3, media may
# come from there too (`app.state.media_origin`). Nothing inline and no trusted types: text of others cannot
# become markup or code even by a mistake.
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

# Swagger UI sets styles inline and has its icons in data: addresses; its scripts are files.
DOCS_CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)

_HEADERS: Final = {
    # Names carry no digest, so browsers ask each time; unchanged files cost a 304.
    "Cache-Control": "no-cache",
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
    """Let the app serve `/`, `/static/{name}`, `/docs` and `/docs/{name}`."""
    app.include_router(router)


@router.api_route("/", methods=["GET", "HEAD"])
def get_page(request: Request) -> Response:
    """The page."""
    return _respond(request, _page_files(), _PAGE)


@router.api_route("/static/{name}", methods=["GET", "HEAD"])
def get_static_file(request: Request, name: str) -> Response:
    """One of its files."""
    return _respond(request, _page_files(), name)


@router.api_route("/docs", methods=["GET", "HEAD"])
def get_docs_page(request: Request) -> Response:
    """The API's description."""
    return _respond(request, _docs_files(), _DOCS_PAGE, policy=DOCS_CONTENT_SECURITY_POLICY)


@router.api_route("/docs/{name}", methods=["GET", "HEAD"])
def get_docs_file(request: Request, name: str) -> Response:
    """One of its files."""
    return _respond(request, _docs_files(), name, policy=DOCS_CONTENT_SECURITY_POLICY)


def _respond(
    request: Request, files: Mapping[str, _StaticFile], name: str, *, policy: str = CONTENT_SECURITY_POLICY
) -> Response:
    file = files.get(name)
    if file is None:
        raise HTTPException(404, f"the web page has no file {name!r}")
    media_origin = getattr(request.app.state, "media_origin", None)
    if media_origin is not None:
        policy = policy.replace("media-src 'self'", f"media-src 'self' {media_origin}")
    headers = {**_HEADERS, "Content-Security-Policy": policy, "ETag": file.etag}
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
def _page_files() -> dict[str, _StaticFile]:
    return _load_files(sorted(_STATIC_DIR.iterdir()))


@cache
def _docs_files() -> dict[str, _StaticFile]:
    # Not imported: only its files are wanted.
    package = find_spec("fastapi_offline")
    assert package is not None
    assert package.origin is not None
    swagger = Path(package.origin).parent / "static"
    return _load_files([*sorted(_DOCS_DIR.iterdir()), *(swagger / name for name in _SWAGGER_FILES)])


def _load_files(paths: Iterable[Path]) -> dict[str, _StaticFile]:
    """Files by their names. Held in memory, so that a request's path never becomes a path on the disk."""
    files: dict[str, _StaticFile] = {}
    for path in paths:
        if path.suffix in _MEDIA_TYPES:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:32]
            files[path.name] = _StaticFile(content, _MEDIA_TYPES[path.suffix], f'"{digest}"')
    return files
