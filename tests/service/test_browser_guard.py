"""Pages of strangers cannot use a server without keys."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from service.browser_guard import check_page
from service.errors import ForbiddenError


def request(**headers: str) -> Request:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/v1/jobs", "headers": raw})


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "dovetail.localhost"])
def test_local_names_and_our_own_page_are_accepted(host: str) -> None:
    check_page(request(host=host), allowed_origins=(), own_host="127.0.0.1")
    check_page(request(host=host, origin=f"http://{host}"), allowed_origins=(), own_host="127.0.0.1")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""])
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    with pytest.raises(ForbiddenError, match="local names"):
        check_page(request(host=host), allowed_origins=(), own_host="127.0.0.1")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9999"])
def test_another_page_is_refused_unless_it_is_listed(origin: str) -> None:
    with pytest.raises(ForbiddenError, match="pages of"):
        check_page(request(host="127.0.0.1:8000", origin=origin), allowed_origins=(), own_host="127.0.0.1")
    check_page(request(host="127.0.0.1:8000", origin=origin), allowed_origins=(origin,), own_host="127.0.0.1")
