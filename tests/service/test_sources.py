"""Sources by address: what is fetched, and above all what is not."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

from jobs.settings import ServiceSettings
from service.outgoing import PinnedTransport, SourceRefusedError, check_url, is_public, resolve
from service.sources.fetching import check_source_url, open_bucket
from service.webhooks.targets import check_target
from tests.certificates import self_signed
from tests.service.conftest import Api, running_api
from tests.service.origin import Answer, Asked, Origin, running_origin


@pytest.fixture
def origin(clip: Path) -> Iterator[Origin]:
    """Serves the clip as /clip.mp4, and other things under other names."""

    def answer(asked: Asked) -> Answer:
        name = asked.path.strip("/").partition("?")[0]
        if name == "clip.mp4":
            return Answer(body=clip.read_bytes())
        if name == "notes.txt":
            return Answer(body=b"no video " * 100)
        if name.startswith("hop"):
            left = int(name.removeprefix("hop"))
            return Answer(302, headers={"Location": f"/hop{left - 1}" if left else "/clip.mp4"})
        if name == "away":
            return Answer(302, headers={"Location": "http://127.0.0.2/clip.mp4"})
        if name == "file":
            return Answer(302, headers={"Location": "file:///etc/hostname"})
        if name == "loop":
            return Answer(302, headers={"Location": "/loop"})
        if name == "gzip":
            return Answer(body=b"x", headers={"Content-Encoding": "gzip"})
        return Answer(404)

    with running_origin(answer) as server:
        yield server


def submit(api: Api, url: str) -> httpx.Response:
    return api.http.post("/v1/jobs", json={"source": {"type": "url", "url": url}})


def test_a_video_is_fetched_from_an_allowed_host(api: Api, origin: Origin, clip: Path) -> None:
    answer = submit(api, f"{origin.url}/clip.mp4?token=abc")
    assert answer.status_code == 202, answer.text
    job = api.context.store.get(answer.json()["id"])
    assert job.spec.input.filename == "clip.mp4"
    assert api.context.storage.get_bytes(job.spec.input_key) == clip.read_bytes()
    assert [p for p in api.context.incoming_dir.iterdir() if p.is_file()] == []


def test_up_to_three_redirects_are_followed(api: Api, origin: Origin) -> None:
    assert submit(api, f"{origin.url}/hop2").status_code == 202
    refused = submit(api, f"{origin.url}/hop3")
    assert refused.status_code == 422
    assert refused.json()["code"] == "source_failed"
    assert submit(api, f"{origin.url}/loop").json()["code"] == "source_failed"


@pytest.mark.parametrize("name", ["away", "file"])
def test_redirects_are_checked_like_the_address(api: Api, origin: Origin, name: str) -> None:
    answer = submit(api, f"{origin.url}/{name}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "source_refused"


@pytest.mark.parametrize(
    ("name", "code"), [("missing", "source_failed"), ("gzip", "source_failed"), ("notes.txt", None)]
)
def test_what_is_no_video_makes_no_job(api: Api, origin: Origin, name: str, code: str | None) -> None:
    answer = submit(api, f"{origin.url}/{name}")
    assert answer.status_code in (415, 422)
    assert code is None or answer.json()["code"] == code
    assert api.http.get("/v1/jobs").json()["data"] == []
    assert [p for p in api.context.incoming_dir.iterdir() if p.is_file()] == []


def test_sources_larger_than_accepted_are_not_fetched(settings: ServiceSettings, clip: Path) -> None:
    content = clip.read_bytes()

    def answer(asked: Asked) -> Answer:
        if asked.path == "/announced.mp4":
            return Answer(body=content)
        return Answer(body=content, headers={"Content-Length": ""})  # ends with the connection

    small = settings.model_copy(update={"max_upload_bytes": len(content) - 1})
    with running_origin(answer) as origin, running_api(small) as api:
        assert submit(api, f"{origin.url}/announced.mp4").status_code == 413
        assert submit(api, f"{origin.url}/silent.mp4").status_code == 413


def test_an_address_that_does_not_answer_is_the_senders_problem(api: Api) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = submit(api, f"http://127.0.0.1:{unused.getsockname()[1]}/clip.mp4")
    assert answer.status_code == 422
    assert answer.json()["code"] == "source_failed"


def test_hosts_are_allowed_by_name_or_wildcard(settings: ServiceSettings) -> None:
    settings = settings.model_copy(
        update={"source_hosts": ("videos.example.com", "*.cdn.example.com"), "allow_private_targets": False}
    )
    for url in (
        "https://videos.example.com/a",
        "https://a.cdn.example.com/a",
        "https://A.B.cdn.Example.com./a",
    ):
        check_source_url(settings, url)
    for url in (
        "https://example.com/a",
        "https://cdn.example.com/a",
        "https://evilcdn.example.com/a",
        "https://videos.example.com.evil.net/a",
        "https://evil.net/?videos.example.com",
        "https://videos.example.com@evil.net/a",
        "https://evil.net\\@videos.example.com/a",
        "https://videos.example.com:x/a",
        "http://videos.example.com/a",
        "ftp://videos.example.com/a",
        "//videos.example.com/a",
        "s3://bucket/key",
        "",
    ):
        with pytest.raises(SourceRefusedError):
            check_source_url(settings, url)


def test_no_host_is_allowed_unless_the_operator_says_so(settings: ServiceSettings) -> None:
    with pytest.raises(SourceRefusedError, match="not allowed here"):
        check_source_url(settings.model_copy(update={"source_hosts": ()}), "https://example.com/a.mp4")


@pytest.mark.parametrize("url", ["https://example.com/a.mp4", "s3://anything/a.mp4"])
def test_a_refusal_tells_strangers_nothing_of_what_is_allowed(settings: ServiceSettings, url: str) -> None:
    secretive = settings.model_copy(
        update={"source_hosts": ("dam.corp.example",), "source_buckets": ("acme-masters",)}
    )
    with running_api(secretive) as api:
        answer = api.http.post("/v1/jobs", json={"source": {"type": "url", "url": url}})
    assert (answer.status_code, answer.json()["code"]) == (422, "source_refused")
    assert not any(word in answer.text for word in ("corp.example", "acme", "DOVETAIL_"))


@pytest.mark.parametrize("storage", ["s3://own", "s3://own/prefix"])
def test_sources_may_not_lie_in_the_storages_own_bucket(storage: str) -> None:
    with pytest.raises(ValueError, match="must not name 'own'"):
        ServiceSettings(storage_url=storage, source_buckets=("others", "own"))
    assert ServiceSettings(storage_url=storage, source_buckets=("others",)).source_buckets == ("others",)
    assert ServiceSettings(storage_url="/own", source_buckets=("own",)).source_buckets == ("own",)


PRIVATE = [
    "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.0.1",
    "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    # Of clouds: Azure, Oracle, Alibaba, AWS, Google; and tunnels and translators to them.
    "168.63.129.16", "192.0.0.192", "100.100.100.200", "fd20:ce::254", "fd00:ec2::23", "::ffff:168.63.129.16",
    "2002:a83f:8110::", "64:ff9b::a83f:8110", "64:ff9b:1::a83f:8110", "2606:4700::5efe:7f00:1",
    "2606:4700::200:5efe:a83f:8110", "192.88.99.1", "3fff::1", "2001:0:7f00:1::", "::ffff:0:127.0.0.1",
    "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "2001::1", "fec0::1", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(SourceRefusedError):
        check_target(f"https://{host}/hook", allow_private=False)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_accepted(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "printer.local", "db.internal", "user:pw@example.com"]
)
def test_local_names_and_credentials_are_refused(host: str) -> None:
    with pytest.raises(SourceRefusedError):
        check_url(f"https://{host}/", allow_private=False)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.0.0.1", "017700000001"])
def test_odd_spellings_of_loopback_are_refused_when_they_are_resolved(host: str) -> None:
    with pytest.raises(SourceRefusedError):
        asyncio.run(resolve(host, 443, allow_private=False))


def answers(*addresses: str) -> list[Any]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers("8.8.8.8", "10.0.0.1"))
    with pytest.raises(SourceRefusedError, match="private network"):
        asyncio.run(resolve("mixed.example.com", 443, allow_private=False))


def test_the_connection_goes_to_the_address_that_was_checked(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = []

    def rebinding(host: str, *_: object, **__: object) -> list[Any]:
        looked_up.append(host)
        return answers("127.0.0.1" if len(looked_up) == 1 else "203.0.113.1")

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)

    async def fetch() -> int:
        async with httpx.AsyncClient(transport=PinnedTransport(allow_private=True)) as client:
            return (await client.get(f"http://videos.example.test:{origin.port}/clip.mp4")).status_code

    assert asyncio.run(fetch()) == 200
    assert looked_up == ["videos.example.test"]
    assert origin.asked[0].headers["Host"] == f"videos.example.test:{origin.port}"


def test_tls_is_checked_against_the_name_and_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate, key = self_signed(tmp_path, "videos.example.test")
    tls.load_cert_chain(certificate, key)
    tls.sni_callback = lambda _, name, __: names.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr("service.outgoing._tls_context", httpx.create_ssl_context)  # read anew
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers("127.0.0.1"))

    async def fetch(host: str) -> bytes:
        async with httpx.AsyncClient(transport=PinnedTransport(allow_private=True)) as client:
            return (await client.get(f"https://{host}:{server.port}/")).content

    with running_origin(lambda _: Answer(body=b"hello"), tls=tls) as server:
        assert asyncio.run(fetch("videos.example.test")) == b"hello"
        with pytest.raises(httpx.ConnectError, match="certificate"):
            asyncio.run(fetch("other.example.test"))
    assert names == ["videos.example.test", "other.example.test"]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch, clip: Path) -> Iterator[None]:
    """An S3 server with the bucket "films" and the clip in it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    for bucket in ("films", "secrets"):
        httpx.put(f"http://{host}:{port}/{bucket}", trust_env=False)
        open_bucket(bucket).put("old/clip.mp4", clip.read_bytes())
    yield
    server.stop()


def test_s3_sources_come_from_allowed_buckets_only(settings: ServiceSettings, s3: None) -> None:
    with running_api(settings.model_copy(update={"source_buckets": ("films",)})) as api:
        answer = submit(api, "s3://films/old/clip.mp4")
        assert answer.status_code == 202, answer.text
        assert answer.json()["input"]["filename"] == "clip.mp4"
        assert submit(api, "s3://secrets/old/clip.mp4").json()["code"] == "source_refused"
        assert submit(api, "s3://films/").json()["code"] == "source_refused"
        assert submit(api, "s3://films/missing.mp4").json()["code"] == "source_failed"


def test_uploads_that_are_unfinished_or_of_others_make_no_job(api_with_keys: Api) -> None:
    api = api_with_keys
    (_, mine), (_, theirs) = api.make_key(), api.make_key()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    upload_id = api.http.post("/v1/uploads", headers={**headers, **mine}).headers["Location"].rsplit("/")[-1]
    body = {"source": {"type": "upload", "upload_id": upload_id}}
    unfinished = api.http.post("/v1/jobs", json=body, headers=mine)
    assert (unfinished.status_code, unfinished.json()["code"]) == (409, "upload_incomplete")
    assert api.http.post("/v1/jobs", json=body, headers=theirs).status_code == 404
