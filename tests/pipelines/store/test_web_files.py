"""Files of web servers, good and bad ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pipelines.store import ModelStore, find_pulled
from pipelines.store.errors import (
    ContentError,
    DigestMismatchError,
    DownloadError,
    LicenceError,
    ModelExistsError,
    ModelNameError,
    ModelTooLargeError,
    SourceError,
    StoreFolderError,
    StoreFullError,
)
from pipelines.store.folders import files_in
from pipelines.store.parts import SPARE_BYTES
from tests.pipelines.store.conftest import Listener, pull_here, weights
from tests.pipelines.store.web import Resource, Web

BODY = weights()
SHA256 = hashlib.sha256(BODY).hexdigest()
PATH = "/nets/4x_net.safetensors"


def part_of(store: ModelStore, name: str = "4x_net") -> Path:
    """The one file that has come in part."""
    (part,) = (store.folder / ".partial" / name).rglob("*.part")
    return part


def test_file_is_pulled_recorded_and_found(web: Web, store: ModelStore) -> None:
    listener = Listener()
    record = pull_here(web.put(PATH, BODY) + "?token=secret", store, web, listener=listener)
    assert (record.name, record.kind, record.licence) == ("4x_net", "network", None)
    assert record.source == web.url + PATH
    assert (record.files[0].size_bytes, record.files[0].sha256) == (len(BODY), SHA256)
    found = find_pulled("4x_net", folder=store.folder)
    assert found == store.folder / "4x_net" / "4x_net.safetensors"
    assert found.read_bytes() == BODY
    assert json.loads((store.folder / "4x_net" / "store.json").read_text())["files"][0]["sha256"] == SHA256
    assert files_in(store.folder / "4x_net") == {"4x_net.safetensors", "store.json"}
    assert store.unfinished() == {}
    assert listener.progress[-1] == (len(BODY), len(BODY))
    assert "secret" not in repr(listener.offers[0].source)


def test_broken_connections_are_continued(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, cut_after=90_000)
    listener = Listener()
    assert pull_here(url, store, web, listener=listener).files[0].sha256 == SHA256
    assert web.ranges() == [None, "bytes=90000-", "bytes=180000-"]
    assert [failure.partition(" after ")[2] for failure in listener.failures] == [
        f"90000 of {len(BODY)} bytes",
        f"180000 of {len(BODY)} bytes",
    ]
    assert web.asked[1]["if-range"] == '"one"'


def test_another_command_goes_on_where_one_ended(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, cut_after=60_000, has_ranges=False)
    with pytest.raises(DownloadError, match="breaks off after 60000 of") as caught:
        pull_here(url, store, web)
    assert "the same command goes on" in caught.value.__notes__[0]
    assert part_of(store).stat().st_size == 60_000
    assert store.unfinished()["4x_net"] > 60_000
    assert store.names() == []
    assert find_pulled("4x_net", folder=store.folder) is None
    web.change(PATH, cut_after=None, has_ranges=True)
    assert pull_here(url, store, web).files[0].sha256 == SHA256
    assert web.ranges()[-1] == "bytes=60000-"


def test_fresh_signature_in_the_address_does_not_lose_what_came(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, cut_after=60_000, has_ranges=False)
    with pytest.raises(DownloadError):
        pull_here(url + "?signature=1", store, web)
    web.change(PATH, cut_after=None, has_ranges=True)
    pull_here(url + "?signature=2", store, web)
    assert web.ranges()[-1] == "bytes=60000-"


def test_changed_file_starts_anew(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, cut_after=60_000, has_ranges=False)
    with pytest.raises(DownloadError):
        pull_here(url, store, web)
    other = weights(1)
    web.put(PATH, other, etag='"two"')
    assert pull_here(url, store, web).files[0].sha256 == hashlib.sha256(other).hexdigest()
    assert (web.ranges()[-1], web.asked[-1]["if-range"]) == ("bytes=60000-", '"one"')


def test_file_that_became_shorter_starts_anew(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, cut_after=150_000, has_ranges=False)
    with pytest.raises(DownloadError):
        pull_here(url, store, web)
    other = weights(1, num_values=10_000)
    web.put(PATH, other)  # with the same ETag: 416
    assert pull_here(url, store, web).files[0].size_bytes == len(other)


@pytest.mark.parametrize("etag", ["", 'W/"weak"', '"folded\r\n line"'])
def test_server_that_cannot_tell_states_apart_is_never_continued(
    etag: str, web: Web, store: ModelStore
) -> None:
    url = web.put(PATH, BODY, etag=etag, cut_after=90_000)
    with pytest.raises(DownloadError, match="breaks off"):
        pull_here(url, store, web)
    assert set(web.ranges()) == {None}


def test_date_of_the_last_change_tells_states_apart_too(web: Web, store: ModelStore) -> None:
    date = "Sat, 01 Nov 2025 10:00:00 GMT"
    url = web.put(PATH, BODY, etag="", cut_after=150_000, headers={"Last-Modified": date})

    def answer() -> Resource:
        # As a server that compares dates: this one of the tests only knows ETags.
        return Resource(BODY, etag=date if len(web.asked) > 1 else "", headers={"Last-Modified": date})

    pull_cut = web.resources[PATH]
    assert isinstance(pull_cut, Resource)
    web.resources[PATH] = lambda: pull_cut if len(web.asked) == 1 else answer()
    assert pull_here(url, store, web).files[0].sha256 == SHA256
    assert (web.ranges()[1], web.asked[1]["if-range"]) == ("bytes=150000-", date)


def test_expected_digest_is_enough_to_go_on(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, etag="", cut_after=150_000)
    assert pull_here(url, store, web, sha256=SHA256).files[0].sha256 == SHA256
    assert web.ranges() == [None, "bytes=150000-"]


def test_busy_server_is_asked_again(web: Web, store: ModelStore) -> None:
    busy = Resource(status=503, headers={"Retry-After": "0"})
    url = web.put(PATH, BODY)
    web.resources[PATH] = lambda: busy if len(web.asked) < 3 else Resource(BODY)
    assert pull_here(url, store, web).files[0].sha256 == SHA256


def test_server_that_stays_busy_is_given_up(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, status=503)
    with pytest.raises(DownloadError, match="503 Service Unavailable"):
        pull_here(url, store, web)
    assert len(web.asked) == 3


@pytest.mark.parametrize(("status", "says"), [(404, "404 Not Found"), (410, "410 Gone"), (204, "204")])
def test_absent_file_is_an_error_at_once(status: int, says: str, web: Web, store: ModelStore) -> None:
    url = web.put(PATH, status=status)
    with pytest.raises(DownloadError, match=says):
        pull_here(url, store, web)
    assert len(web.asked) == 1


def test_file_behind_a_login_says_what_to_do(web: Web, store: ModelStore) -> None:
    with pytest.raises(DownloadError, match="403 Forbidden") as caught:
        pull_here(web.put(PATH, status=403), store, web)
    assert "--model" in caught.value.__notes__[0]


def test_nobody_at_the_address(store: ModelStore, web: Web) -> None:
    with pytest.raises(DownloadError, match=r"no connection to 127\.0\.0\.1:1: Connection refused"):
        pull_here("http://127.0.0.1:1/net.pth", store, web)


def test_redirects_are_followed(web: Web, store: ModelStore) -> None:
    target = web.put("/elsewhere/blob", BODY, cut_after=120_000)
    url = web.put(PATH, status=302, headers={"Location": target})
    assert pull_here(url, store, web).files[0].sha256 == SHA256
    assert web.ranges() == [None, None, "bytes=120000-", "bytes=120000-"]


@pytest.mark.parametrize(
    "target", ["http://example.com/a.pth", "file:///etc/passwd", "ftp://example.com/a.pth"]
)
def test_redirects_to_anything_but_https_are_refused(target: str, web: Web, store: ModelStore) -> None:
    url = web.put(PATH, status=302, headers={"Location": target})
    with pytest.raises(DownloadError, match=r"which is refused: not https|answered 302"):
        pull_here(url, store, web)
    assert store.names() == []


@pytest.mark.parametrize("target", ["https://[::1/net.pth", "https://\u00fc..example:x/net.pth", "https://"])
def test_redirects_to_what_is_no_address_are_an_error(target: str, web: Web, store: ModelStore) -> None:
    url = web.put(PATH, status=302, headers={"Location": target.encode().decode("latin-1")})
    with pytest.raises(DownloadError):
        pull_here(url, store, web)


def test_redirects_without_end_are_given_up(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, status=302, headers={"Location": web.url + PATH})
    with pytest.raises(DownloadError, match="answered 302"):
        pull_here(url, store, web)


def test_other_digest_keeps_nothing_and_says_both(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY)
    with pytest.raises(DigestMismatchError, match=f"{SHA256}.*{'0' * 64}"):
        pull_here(url, store, web, sha256="0" * 64)
    assert store.names() == []
    assert list(store.folder.rglob("*.safetensors*")) == []


def test_digest_is_accepted_as_people_write_it(web: Web, store: ModelStore) -> None:
    pull_here(web.put(PATH, BODY), store, web, sha256=f" sha256:{SHA256.upper()} ")
    with pytest.raises(SourceError, match="64 hexadecimal digits"):
        pull_here(web.url + PATH, store, web, sha256="abc")


@pytest.mark.parametrize("has_length", [True, False])
def test_size_limit_is_kept_whether_or_not_the_server_tells_the_size(
    has_length: bool, web: Web, store: ModelStore
) -> None:
    url = web.put(PATH, BODY, has_length=has_length)
    with pytest.raises(ModelTooLargeError):
        pull_here(url, store, web, max_bytes=100_000)
    assert store.names() == []


def test_file_without_a_size_is_whole_when_its_header_fits(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, has_length=False)
    assert pull_here(url, store, web).files[0].size_bytes == len(BODY)
    web.change(PATH, cut_after=100_000)
    with pytest.raises(ContentError, match="no whole file of weights"):
        pull_here(url, store, web, name="cut")


def test_packed_answer_is_refused(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match="packed"):
        pull_here(url, store, web)


def saved(*, is_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt"])
def test_files_of_torch_are_pulled_as_they_are(
    is_zip: bool, suffix: str, web: Web, store: ModelStore
) -> None:
    body = saved(is_zip=is_zip)
    pull_here(web.put(f"/net.{suffix}", body), store, web)
    found = find_pulled("net", folder=store.folder)
    assert found is not None
    assert found.read_bytes() == body


@pytest.mark.parametrize(
    ("filename", "body", "says"),
    [
        ("net.pth", b"<!DOCTYPE html><html>log in</html>", "web page"),
        ("net.safetensors", b"\n <html>" + b"x" * 100, "web page"),
        ("net.safetensors", BODY[:-10], "no whole file"),
        ("net.safetensors", b"", "no whole file"),
        ("net.pth", saved(is_zip=True)[:-30], "its end is missing"),
        ("net.pth", b"import os", "torch did not write it"),
    ],
)
def test_what_is_no_file_of_weights_is_not_kept(
    filename: str, body: bytes, says: str, web: Web, store: ModelStore
) -> None:
    with pytest.raises(ContentError, match=says):
        pull_here(web.put(f"/{filename}", body), store, web)
    assert store.names() == []
    assert list(store.folder.rglob(filename)) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_says_so(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY, cut_after=60_000, has_ranges=False)
    with pytest.raises(DownloadError):
        pull_here(url, store, web)
    part = part_of(store)
    part.unlink()
    part.symlink_to("/dev/full")
    web.change(PATH, cut_after=None)
    with pytest.raises(StoreFullError, match="is full; what was received is kept"):
        pull_here(url, store, web)
    assert store.names() == []


def test_what_came_before_the_disk_refused_more_is_kept(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(StoreFolderError, match="File too large"):
            pull_here(url, store, web)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert part_of(store).stat().st_size == 100_000
    assert pull_here(url, store, web).files[0].sha256 == SHA256
    assert web.ranges() == [None, "bytes=100000-"]


def test_lack_of_room_is_known_before_anything_comes(
    web: Web, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web.put(PATH, BODY, cut_after=100_000, has_ranges=False)
    with pytest.raises(DownloadError):
        pull_here(url, store, web)
    web.change(PATH, cut_after=None, has_ranges=True)
    free = SPARE_BYTES + 1000
    monkeypatch.setattr("pipelines.store.parts.shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(StoreFullError, match="more are needed"):
        pull_here(url, store, web)
    assert part_of(store).stat().st_size == 100_000
    free += len(BODY) - 100_000
    assert pull_here(url, store, web).files[0].sha256 == SHA256


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_cannot_be_written_says_so(web: Web, store: ModelStore) -> None:
    store.folder.mkdir(mode=0o500)
    with pytest.raises(StoreFolderError, match="Permission denied"):
        pull_here(web.put(PATH, BODY), store, web)


def test_store_that_is_a_file_says_so(web: Web, store: ModelStore) -> None:
    store.folder.write_text("a file")
    with pytest.raises(StoreFolderError, match="cannot use"):
        pull_here(web.put(PATH, BODY), store, web)
    with pytest.raises(StoreFolderError, match="Not a directory"):
        store.names()


def test_existing_name_is_replaced_only_when_asked_for(web: Web, store: ModelStore) -> None:
    url, other = web.put(PATH, BODY), weights(1)
    pull_here(url, store, web)
    with pytest.raises(ModelExistsError, match="--overwrite"):
        pull_here(url, store, web)
    web.put(PATH, other, etag='"two"')
    pull_here(url, store, web, name="other")
    pull_here(url, store, web, use_overwrite=True)
    found = find_pulled("4x_net", folder=store.folder)
    assert found is not None
    assert found.read_bytes() == other
    assert not list((store.folder / ".replaced").iterdir())


def test_failed_replacement_leaves_the_old_model(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY)
    pull_here(url, store, web)
    web.put(PATH, BODY[:100])
    with pytest.raises(ContentError):
        pull_here(url, store, web, use_overwrite=True)
    assert store.verify("4x_net") == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a b", "x" * 101, "a\nb", "..", "~x", "C:x"])
def test_names_cannot_leave_the_folder(name: str, web: Web, store: ModelStore, tmp_path: Path) -> None:
    with pytest.raises(ModelNameError, match="cannot be named"):
        pull_here(web.put(PATH, BODY), store, web, name=name)
    assert list(tmp_path.rglob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/4x UltraSharp (v2).pth", "4x-UltraSharp-v2"),
        ("/%2e%2e%2f%2e%2e%2fevil.pth", "evil"),
        ("/..hidden.pth", "hidden"),
        ("/RealESRGAN_x4plus+.pth", "RealESRGAN_x4plus+"),
    ],
)
def test_derived_names_are_safe(path: str, name: str, web: Web, store: ModelStore) -> None:
    web.resources["/" + path.lstrip("/")] = Resource(saved(is_zip=True))
    web.resources["/../../evil.pth"] = Resource(saved(is_zip=True))
    assert pull_here(web.url + path, store, web).name == name
    assert store.names() == [name]


def test_names_of_other_models_are_reserved(web: Web, store: ModelStore) -> None:
    with pytest.raises(ModelNameError, match="needs no pull"):
        pull_here(web.put("/bicubic.safetensors", BODY), store, web, reserved=["bicubic"])


@pytest.mark.parametrize(
    "text",
    [
        "http://example.com/net.pth",
        "ftp://example.com/net.pth",
        "file:///etc/net.pth",
        "https://user:password@example.com/net.pth",
        "https://example.com/net.py",
        "https://example.com/net.bin",
        "https://example.com/",
        "https://example.com/a%0Ab.pth",
        "https://example.com/a%5Cb.pth",
        "https:///net.pth",
        "https://example.com:port/net.pth",
        "https://[::1/net.pth",
        "hf://owner/name/model.py",
        "hf://owner/name/../../net.pth",
        "hf://owner",
        "owner/name/file.pth",
        "net",
        "./net.pth",
        "/models/net.pth",
        "",
    ],
)
def test_what_cannot_be_pulled_is_refused_without_asking_anybody(
    text: str, web: Web, store: ModelStore
) -> None:
    with pytest.raises(SourceError):
        pull_here(text, store, web)
    assert web.asked == []
    assert not store.folder.exists()


def test_licence_is_asked_for_before_anything_comes(web: Web, store: ModelStore) -> None:
    url = web.put(PATH, BODY)
    listener = Listener(answer=False)
    with pytest.raises(LicenceError, match=r"\(unknown\) was not accepted"):
        pull_here(url, store, web, listener=listener)
    assert (web.asked, store.names()) == ([], [])
    assert pull_here(url, store, web, name="agreed").accepted_at is not None


@pytest.mark.parametrize(
    ("licence", "recorded", "is_asked"),
    [
        ("mit", "MIT", False),
        ("apache-2.0", "Apache-2.0", False),
        ("MIT OR GPL-3.0-only", "MIT OR GPL-3.0-only", False),
        ("MIT AND CC-BY-NC-4.0", "MIT AND CC-BY-NC-4.0", True),
        ("CC-BY-NC-4.0", "CC-BY-NC-4.0", True),
    ],
)
def test_licence_of_the_user_counts_where_none_is_declared(
    licence: str, recorded: str, is_asked: bool, web: Web, store: ModelStore
) -> None:
    listener = Listener()
    record = pull_here(web.put(PATH, BODY), store, web, listener=listener, licence=licence)
    assert (record.licence, record.licence_from) == (recorded, "user")
    assert bool(listener.questions) == is_asked == (record.accepted_at is not None)


def test_licence_must_look_like_one(web: Web, store: ModelStore) -> None:
    with pytest.raises(LicenceError, match="no SPDX identifier"):
        pull_here(web.put(PATH, BODY), store, web, licence="do\x1b[2J what you want")


def test_two_pulls_of_one_name_wait_for_each_other(web: Web, store: ModelStore) -> None:
    gate = threading.Event()
    url = web.put(PATH, BODY, gate=gate)
    first, second = Listener(), Listener()
    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(pull_here, url, store, web, listener=first)
        while not first.progress:
            time.sleep(0.005)
        two = threads.submit(pull_here, url, store, web, listener=second)
        while not second.waited_for:
            time.sleep(0.005)
        assert store.names() == []
        gate.set()
        assert one.result().files[0].sha256 == SHA256
        with pytest.raises(ModelExistsError):
            two.result()
    assert len(web.asked) == 1
    assert store.verify("4x_net") == []


def test_pulls_of_two_names_do_not_wait(web: Web, store: ModelStore) -> None:
    gate = threading.Event()
    url = web.put(PATH, BODY, gate=gate)
    other = web.put("/other.safetensors", BODY)
    listener = Listener()
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(pull_here, url, store, web, listener=listener)
        while not listener.progress:
            time.sleep(0.005)
        pull_here(other, store, web)
        assert store.names() == ["other"]
        gate.set()
        slow.result()
    assert store.names() == ["4x_net", "other"]
