"""Servers that prove who they are, and those that do not."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.store import ModelStore
from pipelines.store.errors import DownloadError
from tests.certificates import self_signed
from tests.pipelines.store.conftest import pull_here, weights
from tests.pipelines.store.web import Web, running_web


@pytest.fixture
def secure_web(tmp_path: Path) -> Iterator[Web]:
    """Its certificate is for "localhost"."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*self_signed(tmp_path, "localhost"))
    with running_web(tls=tls) as running:
        running.url = running.url.replace("127.0.0.1", "localhost")
        yield running


@pytest.fixture
def is_trusted(tmp_path: Path, secure_web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))


@pytest.mark.usefixtures("is_trusted")
def test_trusted_server_is_used(secure_web: Web, web: Web, store: ModelStore) -> None:
    assert pull_here(secure_web.put("/net.safetensors", weights()), store, web).name == "net"


def test_server_that_nobody_vouches_for_is_refused(secure_web: Web, web: Web, store: ModelStore) -> None:
    with pytest.raises(DownloadError, match=r"cannot prove that it is that host: self.signed certificate"):
        pull_here(secure_web.put("/net.safetensors", weights()), store, web)
    assert secure_web.asked == []


@pytest.mark.usefixtures("is_trusted")
def test_redirect_from_https_to_http_is_refused_even_to_this_machine(
    secure_web: Web, web: Web, store: ModelStore
) -> None:
    target = web.put("/net.safetensors", weights())
    url = secure_web.put("/net.safetensors", status=307, headers={"Location": target})
    with pytest.raises(DownloadError, match="refused: not https"):
        pull_here(url, store, web)
    assert web.asked == []
