"""Sources by address: what is fetched, and above all what is not."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from moto.server import ThreadedMotoServer

from jobs.api_keys import KeyLimits
from jobs.embedded_redis import free_port
from jobs.fleet import Fleet
from jobs.objects import input_key
from jobs.options import JobOptions
from jobs.queue import TaskId
from jobs.records import Job, JobState, Stage
from jobs.settings import ServiceSettings
from jobs.specs import JobSpec, new_id
from jobs.stored_bytes import StoredBytes
from jobs.transfers import FetchedSource
from service import outgoing
from service.outgoing import PinnedTransport, SourceRefusedError, check_url, is_public, resolve
from service.sources import fetching
from service.sources.download import Download
from service.sources.fetching import check_source_url, open_bucket
from service.sources.task import sweep_fetches
from service.webhooks.targets import check_target
from tests.certificates import self_signed
from tests.service.api_process import api_process
from tests.service.conftest import MODELS, Api, running_api, wait_until
from tests.service.made import INPUT, TOKEN, begin
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


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_BACKOFF_SECONDS", 0.01)


def submit(api: Api, url: str) -> httpx.Response:
    return api.http.post("/v1/jobs", json={"source": {"type": "url", "url": url}})


def fetched(api: Api, url: str) -> Job:
    """A job of an address, once it is fetched or has failed."""
    answer = submit(api, url)
    assert answer.status_code == 202, answer.text
    return settled(api, answer.json()["id"])


def settled(api: Api, job_id: str) -> Job:
    wait_until(lambda: api.context.store.get(job_id).stage is not Stage.FETCHING)
    return api.context.store.get(job_id)


def failure(api: Api, url: str) -> str:
    """Why a job of an address failed."""
    error = fetched(api, url).error
    assert error is not None
    return error.code


def address_spec(url: str) -> JobSpec:
    """A job of an address, of which no process has heard."""
    job_id = new_id("job")
    return JobSpec(
        id=job_id,
        owner="local",
        created_at=datetime.now(UTC),
        input_key=input_key(job_id),
        input=None,
        source=FetchedSource(url=url, filename="clip.mp4", max_bytes=1 << 30),
        options=JobOptions(model="bicubic"),
    )


def left_behind(api: Api) -> list[Path]:
    return [path for path in api.context.incoming_dir.iterdir() if path.is_file()]


def test_a_video_is_fetched_from_an_allowed_host(api: Api, origin: Origin, clip: Path) -> None:
    job = fetched(api, f"{origin.url}/clip.mp4?token=abc")
    assert job.spec.input is not None
    assert (job.spec.input.filename, job.spec.input.num_frames, job.total_frames) == ("clip.mp4", 12, 12)
    assert (job.state, job.started_at) == (JobState.QUEUED, None)
    assert api.context.storage.get_bytes(job.spec.input_key) == clip.read_bytes()
    wait_until(lambda: TaskId(job.id, "plan") in api.context.queue.tasks())
    assert left_behind(api) == []


def test_a_job_is_accepted_before_its_source_is_fetched(api: Api, clip: Path) -> None:
    is_open = threading.Event()

    def answer(_: Asked) -> Answer:
        is_open.wait(30)
        return Answer(body=clip.read_bytes())

    with running_origin(answer) as origin:
        job = submit(api, f"{origin.url}/films/clip.mp4").json()
        assert (job["status"], job["stage"]) == ("queued", "fetching")
        assert (job["input"]["filename"], job["input"]["width"]) == ("clip.mp4", None)
        assert api.http.get(f"/v1/jobs/{job['id']}/source").status_code == 409
        assert api.http.get(f"/v1/jobs/{job['id']}").json()["stage"] == "fetching"
        is_open.set()
        settled(api, job["id"])
    assert api.http.get(f"/v1/jobs/{job['id']}").json()["input"]["width"] == 64


def test_a_job_is_cancelled_while_its_source_is_fetched(api: Api) -> None:
    is_over = threading.Event()

    def answer(_: Asked) -> Answer:
        is_over.wait(30)
        return Answer(404)

    with running_origin(answer) as origin:
        job = submit(api, f"{origin.url}/clip.mp4").json()
        wait_until(lambda: api.context.store.leased_tasks(job["id"]) == {"fetch"})
        path = f"/v1/jobs/{job['id']}"
        assert api.http.post(f"{path}/cancel").json()["status"] == "cancelling"
        wait_until(lambda: api.http.get(path).json()["status"] == "cancelled")
        wait_until(lambda: left_behind(api) == [])
        is_over.set()


def test_a_broken_fetch_goes_on_where_it_was(api: Api, clip: Path) -> None:
    content = clip.read_bytes()
    half = len(content) // 2

    def answer(asked: Asked) -> Answer:
        headers = {"ETag": '"1"', "Content-Length": str(len(content))}
        if "Range" not in asked.headers:
            return Answer(body=content[:half], headers=headers)
        assert asked.headers["If-Range"] == '"1"'
        span = f"bytes {half}-{len(content) - 1}/{len(content)}"
        return Answer(206, content[half:], {"ETag": '"1"', "Content-Range": span})

    with running_origin(answer) as origin:
        job = fetched(api, f"{origin.url}/clip.mp4")
        assert [asked.headers.get("Range") for asked in origin.asked] == [None, f"bytes={half}-"]
    assert api.context.storage.get_bytes(job.spec.input_key) == content


@pytest.mark.parametrize("etag", ["", 'W/"1"', '"changes"'])
def test_what_cannot_be_continued_is_fetched_anew(api: Api, clip: Path, etag: str) -> None:
    content = clip.read_bytes()
    count = 0

    def answer(asked: Asked) -> Answer:
        nonlocal count
        count += 1
        assert ("Range" in asked.headers) == (etag == '"changes"' and count > 1)
        body = content if count > 1 else b"x" * (len(content) // 2)
        return Answer(body=body, headers={"ETag": etag, "Content-Length": str(len(content))})

    with running_origin(answer) as origin:
        job = fetched(api, f"{origin.url}/clip.mp4")
    assert api.context.storage.get_bytes(job.spec.input_key) == content


def test_an_origin_that_is_busy_is_asked_again_and_one_that_refuses_is_not(api: Api, clip: Path) -> None:
    statuses = iter([503, 429, 200])

    def answer(asked: Asked) -> Answer:
        if asked.path == "/gone.mp4":
            return Answer(410)
        status = next(statuses)
        return Answer(status, clip.read_bytes() if status == 200 else b"")

    with running_origin(answer) as origin:
        assert fetched(api, f"{origin.url}/clip.mp4").error is None
        assert failure(api, f"{origin.url}/gone.mp4") == "source_failed"
        assert len(origin.asked) == 4


def test_a_failed_fetch_is_tried_again_on_demand(api: Api, clip: Path) -> None:
    statuses = iter([404, 200])
    with running_origin(lambda _: Answer(next(statuses), clip.read_bytes())) as origin:
        job = fetched(api, f"{origin.url}/clip.mp4")
        assert job.state is JobState.FAILED
        again = api.http.post(f"/v1/jobs/{job.id}/retry").json()
        assert (again["status"], again["stage"]) == ("queued", "fetching")
        assert settled(api, job.id).spec.input is not None


def test_a_fetch_goes_on_in_another_process_when_its_own_is_killed(
    settings: ServiceSettings, clip: Path
) -> None:
    content, asked_ranges = clip.read_bytes(), []
    is_stuck, is_over = threading.Event(), threading.Event()

    def answer(asked: Asked) -> Answer:
        asked_ranges.append(asked.headers.get("Range"))
        if len(asked_ranges) == 1:
            is_stuck.set()
            is_over.wait(30)
        return Answer(body=content, headers={"ETag": '"1"'})

    port = free_port()
    with running_origin(answer) as origin:
        with api_process(settings, port) as process:
            with redis.Redis.from_url(settings.redis_url) as client:
                Fleet(client).offer(MODELS)
            source = {"type": "url", "url": f"{origin.url}/clip.mp4"}
            body = {"source": source, "options": {"model": "bicubic"}}
            job = httpx.post(f"http://127.0.0.1:{port}/v1/jobs", json=body, trust_env=False).json()
            assert is_stuck.wait(30)
            process.kill()
        with running_api(settings) as api:
            assert settled(api, job["id"]).spec.input is not None
        is_over.set()
    assert len(asked_ranges) == 2


def test_a_fetch_goes_on_in_another_process_when_its_own_is_stopped(
    settings: ServiceSettings, clip: Path
) -> None:
    content = clip.read_bytes()
    ranges: list[str | None] = []
    is_over = threading.Event()

    def serve(connection: socket.socket) -> None:
        """The first half and then nothing, and only the rest to who asks for it."""
        with connection, connection.makefile("rb") as file:
            lines = iter(file.readline, b"\r\n")
            headers = dict(line.decode().strip().lower().split(": ", 1) for line in lines if b": " in line)
            ranges.append(headers.get("range"))
            start = int(ranges[-1][6:-1]) if ranges[-1] else 0
            end = len(content) if start else len(content) // 2
            status = f"206 Partial\r\nContent-Range: bytes {start}-{len(content) - 1}/{len(content)}"
            head = f'HTTP/1.1 {status if start else "200 OK"}\r\nETag: "1"\r\n'
            head += f"Content-Length: {len(content) - start}\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode() + content[start:end])
            if not start:
                is_over.wait(30)

    def accept() -> None:
        for _ in range(2):
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        with running_api(settings) as api:
            job = submit(api, f"http://127.0.0.1:{listener.getsockname()[1]}/clip.mp4").json()
            path = api.context.incoming_dir / f"fetch-{job['id']}"
            wait_until(lambda: ranges and path.exists())
        assert path.stat().st_size == len(content) // 2
        with running_api(settings) as api:
            fetched = settled(api, job["id"])
            assert api.context.storage.get_bytes(fetched.spec.input_key) == content
        is_over.set()
    assert ranges == [None, f"bytes={len(content) // 2}-"]


def test_one_customers_slow_origins_leave_room_for_others(api_with_keys: Api, origin: Origin) -> None:
    api, is_over = api_with_keys, threading.Event()
    (_, slow), (_, other) = api.make_key(), api.make_key()

    def wait(_: Asked) -> Answer:
        is_over.wait(60)
        return Answer(404)

    def ask(url: str, headers: dict[str, str]) -> str:
        body = {"source": {"type": "url", "url": url}}
        job_id: str = api.http.post("/v1/jobs", json=body, headers=headers).json()["id"]
        return job_id

    with running_origin(wait) as stuck:
        for number in range(20):
            ask(f"{stuck.url}/{number}.mp4", slow)
        wait_until(lambda: len(stuck.asked) == 8)
        assert settled(api, ask(f"{origin.url}/clip.mp4", other)).spec.input is not None
        assert len(stuck.asked) == 8
        is_over.set()


def test_a_fetch_whose_message_is_lost_is_asked_for_again(api: Api, origin: Origin) -> None:
    spec = address_spec(f"{origin.url}/clip.mp4")
    api.context.store.create(spec, max_waiting=10)
    assert settled(api, spec.id).spec.input is not None


def test_an_attempt_that_died_after_storing_is_not_repeated(api: Api, origin: Origin, clip: Path) -> None:
    spec = address_spec(f"{origin.url}/clip.mp4")
    api.context.storage.put_file(spec.input_key, clip)
    api.context.store.create(spec, max_waiting=10)
    api.context.queue.enqueue(spec, "fetch")
    assert settled(api, spec.id).spec.input is not None
    assert origin.asked == []


def test_limits_of_the_key_hold_for_what_is_fetched(api_with_keys: Api, origin: Origin) -> None:
    for limits, code in (
        (KeyLimits(max_output_pixels=1000), "quota_exceeded"),
        (KeyLimits(max_upload_bytes=1000), "too_large"),
        (KeyLimits(max_stored_bytes=1000), "quota_exceeded"),
    ):
        _, headers = api_with_keys.make_key(limits=limits)
        body = {"source": {"type": "url", "url": f"{origin.url}/clip.mp4"}}
        job = api_with_keys.http.post("/v1/jobs", json=body, headers=headers).json()
        error = settled(api_with_keys, job["id"]).error
        assert error is not None
        assert error.code == code


def test_what_is_fetched_counts_as_stored_until_its_job_is_deleted(
    api_with_keys: Api, origin: Origin, clip: Path
) -> None:
    key, headers = api_with_keys.make_key()
    body = {"source": {"type": "url", "url": f"{origin.url}/clip.mp4"}}
    job = api_with_keys.http.post("/v1/jobs", json=body, headers=headers).json()
    stored = StoredBytes(api_with_keys.context.client)
    wait_until(lambda: stored.of(key.id) == clip.stat().st_size)
    api_with_keys.context.store.delete(job["id"])
    assert stored.of(key.id) == 0


def test_a_job_counts_while_its_source_is_fetched(api_with_keys: Api) -> None:
    is_over = threading.Event()

    def wait(_: Asked) -> Answer:
        is_over.wait(30)
        return Answer(404)

    _, headers = api_with_keys.make_key(limits=KeyLimits(max_unfinished_jobs=1))
    with running_origin(wait) as origin:
        body = {"source": {"type": "url", "url": f"{origin.url}/clip.mp4"}}
        assert api_with_keys.http.post("/v1/jobs", json=body, headers=headers).status_code == 202
        refused = api_with_keys.http.post("/v1/jobs", json=body, headers=headers)
        is_over.set()
    assert (refused.status_code, refused.json()["code"]) == (429, "quota_exceeded")


def test_a_host_that_is_not_found_now_is_looked_for_again(
    api: Api, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def forgetful(host: str, port: int, *, allow_private: bool) -> list[outgoing.IPAddress]:
        asked.append(host)
        if len(asked) < 3:
            raise outgoing.HostNotFoundError(f"{host} cannot be found")
        return [ipaddress.ip_address("127.0.0.1")]

    monkeypatch.setattr(outgoing, "resolve", forgetful)
    monkeypatch.setattr(fetching, "check_source_url", lambda settings, url: None)
    assert fetched(api, f"http://videos.example.test:{origin.port}/clip.mp4").error is None
    assert asked == ["videos.example.test"] * 3


def test_what_was_fetched_of_a_cancelled_job_is_removed_by_the_next_message(api: Api, origin: Origin) -> None:
    spec = address_spec(f"{origin.url}/clip.mp4")
    api.context.store.create(spec, max_waiting=10)
    api.context.store.cancel(spec.id, ttl=timedelta(hours=1))
    (api.context.incoming_dir / f"fetch-{spec.id}").write_bytes(b"half")
    api.context.queue.enqueue(spec, "fetch")
    wait_until(lambda: left_behind(api) == [])


def test_what_was_begun_here_goes_when_another_process_has_fetched_it(api: Api) -> None:
    url = f"http://127.0.0.1:{free_port()}/clip.mp4"  # where nobody answers
    wanted, fetched_elsewhere = address_spec(url), address_spec(url)
    for spec in (wanted, fetched_elsewhere):
        api.context.store.create(spec, max_waiting=10)
        path = api.context.incoming_dir / f"fetch-{spec.id}"
        with Download(path, url, max_bytes=100, check_room=lambda _: None) as begun:
            begun.begin(etag='"1"', total=100)
    assert sweep_fetches(api.context) == 0
    begin(api.context, fetched_elsewhere.id, "fetch")
    api.context.store.set_input(fetched_elsewhere.model_copy(update={"input": INPUT}), TOKEN)
    assert sweep_fetches(api.context) == 1
    assert sorted(path.name for path in left_behind(api)) == [f"fetch-{wanted.id}", f"fetch-{wanted.id}.json"]


def test_up_to_three_redirects_are_followed(api: Api, origin: Origin) -> None:
    assert fetched(api, f"{origin.url}/hop2").error is None
    assert failure(api, f"{origin.url}/hop3") == "source_failed"
    assert failure(api, f"{origin.url}/loop") == "source_failed"


@pytest.mark.parametrize("name", ["away", "file"])
def test_redirects_are_checked_like_the_address(api: Api, origin: Origin, name: str) -> None:
    assert failure(api, f"{origin.url}/{name}") == "source_refused"


@pytest.mark.parametrize("name", ["missing", "gzip", "notes.txt"])
def test_a_job_of_what_is_no_video_fails(api: Api, origin: Origin, name: str) -> None:
    code = failure(api, f"{origin.url}/{name}")
    assert (code == "source_failed") == (name != "notes.txt"), code
    wait_until(lambda: left_behind(api) == [])


def test_an_address_that_is_not_allowed_makes_no_job(api: Api) -> None:
    answer = submit(api, "https://elsewhere.example.com/clip.mp4")
    assert (answer.status_code, answer.json()["code"]) == (422, "source_refused")
    assert api.http.get("/v1/jobs").json()["data"] == []


def test_an_estimate_of_an_address_looks_into_it(api: Api, origin: Origin) -> None:
    body = {"source": {"type": "url", "url": f"{origin.url}/clip.mp4"}}
    assert api.http.post("/v1/estimate", json=body).json()["frames"] == 12
    body["source"]["url"] = f"{origin.url}/missing"
    assert api.http.post("/v1/estimate", json=body).json()["code"] == "source_failed"
    assert left_behind(api) == []


def test_sources_larger_than_accepted_are_not_fetched(settings: ServiceSettings, clip: Path) -> None:
    content = clip.read_bytes()

    def answer(asked: Asked) -> Answer:
        if asked.path == "/announced.mp4":
            return Answer(body=content)
        return Answer(body=content, headers={"Content-Length": ""})  # ends with the connection

    small = settings.model_copy(update={"max_upload_bytes": len(content) - 1})
    with running_origin(answer) as origin, running_api(small) as api:
        assert failure(api, f"{origin.url}/announced.mp4") == "too_large"
        assert failure(api, f"{origin.url}/silent.mp4") == "too_large"


def test_an_address_that_does_not_answer_is_the_senders_problem(api: Api) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code = failure(api, f"http://127.0.0.1:{unused.getsockname()[1]}/clip.mp4")
    assert code == "source_failed"


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
        job = fetched(api, "s3://films/old/clip.mp4")
        assert job.spec.input is not None
        assert job.spec.input.filename == "clip.mp4"
        assert submit(api, "s3://secrets/old/clip.mp4").json()["code"] == "source_refused"
        assert submit(api, "s3://films/").json()["code"] == "source_refused"
        assert failure(api, "s3://films/missing.mp4") == "source_failed"


@pytest.mark.parametrize("has_changed", [False, True])
def test_an_object_is_continued_unless_it_has_changed(
    settings: ServiceSettings, s3: None, clip: Path, has_changed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, added = clip.read_bytes(), []
    add = Download.add

    def counting(download: Download, piece: bytes) -> None:
        added.append(len(piece))
        add(download, piece)

    with running_api(settings.model_copy(update={"source_buckets": ("films",)})) as api:
        spec = address_spec("s3://films/old/clip.mp4")
        assert spec.source is not None
        path = api.context.incoming_dir / f"fetch-{spec.id}"
        etag = '"other"' if has_changed else open_bucket("films").head("old/clip.mp4")["e_tag"]
        begun = Download(path, spec.source.url, max_bytes=1 << 30, check_room=api.context.storage.check_room)
        with begun:
            begun.begin(etag=etag or "", total=len(content))
            begun.add(content[:1000])
        monkeypatch.setattr(Download, "add", counting)
        api.context.store.create(spec, max_waiting=10)
        api.context.queue.enqueue(spec, "fetch")
        assert settled(api, spec.id).error is None
        assert api.context.storage.get_bytes(spec.input_key) == content
    assert sum(added) == len(content) - (0 if has_changed else 1000)


def test_uploads_that_are_unfinished_or_of_others_make_no_job(api_with_keys: Api) -> None:
    api = api_with_keys
    (_, mine), (_, theirs) = api.make_key(), api.make_key()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "10"}
    upload_id = api.http.post("/v1/uploads", headers={**headers, **mine}).headers["Location"].rsplit("/")[-1]
    body = {"source": {"type": "upload", "upload_id": upload_id}}
    unfinished = api.http.post("/v1/jobs", json=body, headers=mine)
    assert (unfinished.status_code, unfinished.json()["code"]) == (409, "upload_incomplete")
    assert api.http.post("/v1/jobs", json=body, headers=theirs).status_code == 404
