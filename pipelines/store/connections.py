"""Requests for files: https, or http of this machine, and no redirect leads anywhere else."""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from pipelines.store.errors import DownloadError
from pipelines.store.sources import is_allowed_url, is_loopback

MAX_RETRY_AFTER_SECONDS = 60.0
_TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_HEADERS = {"User-Agent": "dovetail", "Accept-Encoding": "identity"}


def open_url(url: str, *, headers: Mapping[str, str], timeout_seconds: float) -> http.client.HTTPResponse:
    """Asks for a file, through redirects.

    Args:
        url: Its address.
        headers: Of the request; `Authorization` is not shown to other hosts that a redirect leads to.
        timeout_seconds: Of silence.

    Returns:
        An answer with status 200 or 206, whose body is still to be read.

    Raises:
        DownloadError: If the server cannot be reached or answers anything else.
    """
    request = Request(url, headers={**_HEADERS, **headers})
    try:
        response: http.client.HTTPResponse = _opener(url).open(request, timeout=timeout_seconds)
    except HTTPError as error:
        with error:
            raise _status_error(url, error) from error
    except (OSError, http.client.HTTPException) as error:
        raise connection_error(url, error) from error
    except ValueError as error:  # of a redirect to what is no address
        raise DownloadError(f"{host_of(url)} cannot be asked: {error}") from error
    if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        response.close()
        raise DownloadError(
            f"{host_of(url)} answered {response.status}, which is no file", status=response.status
        )
    return response


def connection_error(url: str, error: Exception) -> DownloadError:
    """The error that says how a connection failed."""
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(f"{host_of(url)} cannot prove that it is that host: {reason.verify_message}")
    if isinstance(reason, TimeoutError):
        return DownloadError(f"{host_of(url)} does not answer", is_temporary=True)
    is_unknown = isinstance(reason, socket.gaierror) and reason.errno == socket.EAI_NONAME
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return DownloadError(f"no connection to {host_of(url)}: {text}", is_temporary=not is_unknown)


def host_of(url: str) -> str:
    """Host and port of an address, for people."""
    return urlsplit(url).netloc


class _CarefulRedirects(HTTPRedirectHandler):
    max_redirections = 8

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Request | None:
        # A server of the network must not send us to one of this machine.
        is_lured = is_loopback(urlsplit(newurl).hostname) and not is_loopback(urlsplit(req.full_url).hostname)
        is_weaker = urlsplit(req.full_url).scheme == "https" and urlsplit(newurl).scheme != "https"
        if not is_allowed_url(newurl) or is_lured or is_weaker:
            shown = f"{urlsplit(newurl).scheme}://{host_of(newurl)}"
            raise DownloadError(
                f"{host_of(req.full_url)} redirects to {shown!r}, which is refused: not https"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and host_of(newurl) != host_of(req.full_url):
            request.remove_header("Authorization")
        return request


def _opener(url: str) -> OpenerDirector:
    """urllib's own default would open local files and FTP as well."""
    opener = OpenerDirector()
    for handler in (
        # A proxy is another machine: it cannot reach this one's loopback.
        ProxyHandler({} if is_loopback(urlsplit(url).hostname) else None),
        HTTPHandler(),
        HTTPSHandler(),
        _CarefulRedirects(),
        HTTPDefaultErrorHandler(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _status_error(url: str, error: HTTPError) -> DownloadError:
    return DownloadError(
        f"{host_of(error.url or url)} answered {error.code} {http.client.responses.get(error.code, '')}",
        status=error.code,
        is_temporary=error.code in _TEMPORARY_STATUSES,
        retry_after_seconds=_retry_after_seconds(error.headers.get("Retry-After", "")),
    )


def _retry_after_seconds(text: str) -> float | None:
    """Seconds of a Retry-After header, either form of it."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
