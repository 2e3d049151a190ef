from __future__ import annotations

import hashlib
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from dovetail_client import (
    ChecksumMismatchError,
    Dovetail,
    NotFoundError,
    NotReadyError,
    TransferError,
    UnavailableError,
)
from tests.client.conftest import Time
from tests.client.fake_service import KEY, FakeService
from tests.client.faults import Fault, FaultyProxy, refusal

MEGABYTE = 2**20
ROOT = Path(__file__).parents[2]


def part_of(path: Path, data: bytes) -> Path:
    return path.with_name(f"{path.name}.{hashlib.sha256(data).hexdigest()[:12]}.part")


def finished(client: Any, service: FakeService, source: Path) -> str:
    job_id = str(client.submit(source).id)
    service.finish(job_id)
    return job_id


def test_an_upload_goes_on_after_its_connection_broke_in_the_middle(
    client: Any, service: FakeService, network: FaultyProxy, video: Path, time: Time
) -> None:
    network.faults = [Fault("cut_request", "PATCH", after_bytes=700_000)]
    told: list[int] = []
    upload = client.upload(video, chunk_size=MEGABYTE, on_progress=lambda done, _: told.append(done))
    assert upload.status == "completed"
    assert service.uploads[upload.id]["path"].read_bytes() == video.read_bytes()
    assert network.faults == []
    assert service.num_requests("HEAD", "/v1/uploads/") == 1
    assert len(time.slept) == 1
    # The chunk that broke was the first; from then on they are half as large.
    assert told[:3] == [0, MEGABYTE // 2, MEGABYTE]


def test_a_chunk_whose_answer_is_lost_is_not_sent_twice(
    client: Any, service: FakeService, network: FaultyProxy, video: Path
) -> None:
    network.faults = [Fault("cut_answer", "PATCH")]
    upload = client.upload(video, chunk_size=2 * MEGABYTE)
    assert service.uploads[upload.id]["path"].read_bytes() == video.read_bytes()
    assert service.num_requests("PATCH", "/v1/uploads/") == 2


def test_an_upload_goes_on_in_another_process(client: Any, service: FakeService, video: Path) -> None:
    saved: list[str] = []

    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done:
            raise StoppedError

    with pytest.raises(StoppedError):
        client.upload(video, chunk_size=MEGABYTE, on_created=saved.append, on_progress=stop)
    told: list[int] = []
    upload = client.upload(video, resume=saved[0], on_progress=lambda done, _: told.append(done))
    assert told == [MEGABYTE, video.stat().st_size]
    assert service.uploads[upload.id]["path"].read_bytes() == video.read_bytes()
    again = client.upload(video, resume=upload)
    assert again.id == upload.id
    assert service.num_requests("PATCH", "/v1/uploads/") == 2


def test_another_file_does_not_continue_an_upload(client: Any, video: Path, tmp_path: Path) -> None:
    upload = client.upload(video)
    other = tmp_path / "other"
    other.write_bytes(b"other")
    with pytest.raises(TransferError, match="was begun with a file of 3012000 bytes, other has 5"):
        client.upload(other, resume=upload.id)


def test_a_chunk_that_arrives_changed_is_sent_again(
    client: Any, service: FakeService, network: FaultyProxy, video: Path
) -> None:
    network.faults = [Fault("change_request", "PATCH", after_bytes=100_000)]
    upload = client.upload(video)
    assert network.faults == []
    assert service.uploads[upload.id]["path"].read_bytes() == video.read_bytes()
    assert service.num_requests("PATCH", "/v1/uploads/") == 2


def test_a_way_that_changes_every_chunk_is_given_up(
    client: Any, network: FaultyProxy, video: Path, time: Time
) -> None:
    network.faults = [Fault("change_request", "PATCH", after_bytes=100_000) for _ in range(20)]
    with pytest.raises(ChecksumMismatchError, match="from 0 on arrive changed"):
        client.upload(video)
    assert len(time.slept) == 5


def test_an_upload_waits_as_long_as_the_service_wants(
    client: Any, network: FaultyProxy, video: Path, time: Time
) -> None:
    network.faults = [refusal("PATCH", "/v1/uploads/", 503, retry_after="9")]
    assert client.upload(video).offset == video.stat().st_size
    assert 9 <= time.slept[0] < 10


def test_an_upload_that_is_gone_is_an_error_at_once(
    client: Any, network: FaultyProxy, video: Path, time: Time
) -> None:
    upload = client.upload(video)
    assert client.get_upload(upload).size_bytes == video.stat().st_size
    client.delete_upload(upload)
    with pytest.raises(NotFoundError):
        client.upload(video, resume=upload)
    assert time.slept == []


def test_names_in_any_script_arrive(client: Any, tmp_path: Path) -> None:
    path = tmp_path / "Ünïcode фильм.mp4"
    path.write_bytes(b"x" * 10)
    assert client.upload(path).filename == path.name
    assert client.submit(path).input.filename == path.name


def test_memory_does_not_grow_with_an_upload(tmp_path: Path) -> None:
    path = tmp_path / "large.mov"
    with path.open("wb") as file:
        file.truncate(200 * MEGABYTE)
    command = [sys.executable, "-m", "tests.client.fake_service", str(tmp_path)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with Dovetail(url, api_key=KEY) as client:
            tracemalloc.start()
            try:
                upload = client.upload(path)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        process.communicate()
    assert upload.offset == 200 * MEGABYTE
    assert peak < 3 * 8 * MEGABYTE  # less than three chunks


def test_a_download_is_the_result_and_nothing_else_is_left(
    client: Any, service: FakeService, video: Path, tmp_path: Path
) -> None:
    job_id = finished(client, service, video)
    folder = tmp_path / "out"
    folder.mkdir()
    told: list[tuple[int, int]] = []
    path = client.download(job_id, folder, on_progress=lambda *moment: told.append(moment))
    assert path == folder / "clip-upscaled.mp4"
    assert path.read_bytes() == video.read_bytes()
    assert list(folder.iterdir()) == [path]
    assert told[-1] == (video.stat().st_size,) * 2
    assert client.download(job_id, folder / "named.mp4").read_bytes() == video.read_bytes()


def test_a_download_goes_on_after_its_connection_broke_in_the_middle(
    client: Any, service: FakeService, network: FaultyProxy, video: Path, tmp_path: Path
) -> None:
    job_id = finished(client, service, video)
    content = f"/v1/jobs/{job_id}/content"
    network.faults = [Fault("cut_answer", "GET", content, after_bytes=2_500_000)]
    path = client.download(job_id, tmp_path / "out.mp4")
    assert path.read_bytes() == video.read_bytes()
    again = service.headers[-1]
    start = int(again["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 2_500_000
    assert again["if-range"] == f'"{hashlib.sha256(video.read_bytes()).hexdigest()}"'


def test_a_download_goes_on_in_another_process(
    client: Any, service: FakeService, video: Path, tmp_path: Path
) -> None:
    job_id = finished(client, service, video)
    path = tmp_path / "out.mp4"
    part_of(path, video.read_bytes()).write_bytes(video.read_bytes()[:2_000_000])
    told: list[int] = []
    client.download(job_id, path, on_progress=lambda done, _: told.append(done))
    assert service.headers[-1]["range"] == "bytes=2000000-"
    assert path.read_bytes() == video.read_bytes()
    assert told[0] > 2_000_000


def test_a_part_with_other_bytes_is_begun_again(
    client: Any, service: FakeService, video: Path, tmp_path: Path
) -> None:
    job_id = finished(client, service, video)
    path = tmp_path / "out.mp4"
    part_of(path, video.read_bytes()).write_bytes(b"\0" * 2_000_000)
    assert client.download(job_id, path).read_bytes() == video.read_bytes()


def test_a_changed_byte_is_noticed_and_fetched_again(
    client: Any, service: FakeService, network: FaultyProxy, video: Path, tmp_path: Path
) -> None:
    job_id = finished(client, service, video)
    content = f"/v1/jobs/{job_id}/content"
    network.faults = [Fault("change_answer", "GET", content, after_bytes=1_000_000)]
    assert client.download(job_id, tmp_path / "out.mp4").read_bytes() == video.read_bytes()
    assert service.num_requests("GET", content) == 2


def test_bytes_that_are_wrong_twice_are_no_result(
    client: Any, service: FakeService, network: FaultyProxy, video: Path, tmp_path: Path
) -> None:
    job_id = finished(client, service, video)
    content = f"/v1/jobs/{job_id}/content"
    network.faults = [Fault("change_answer", "GET", content, after_bytes=1_000_000) for _ in range(2)]
    path = tmp_path / "out.mp4"
    path.write_bytes(b"of yesterday")
    with pytest.raises(ChecksumMismatchError, match="which has 3012000 bytes with"):
        client.download(job_id, path)
    assert path.read_bytes() == b"of yesterday"


def test_a_result_that_is_not_there_yet_leaves_no_file(client: Any, video: Path, tmp_path: Path) -> None:
    job = client.submit(video)
    with pytest.raises(NotReadyError, match="is queued"):
        client.download(job, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_download_waits_for_a_service_that_is_away(
    client: Any, service: FakeService, network: FaultyProxy, video: Path, tmp_path: Path, time: Time
) -> None:
    job_id = finished(client, service, video)
    content = f"/v1/jobs/{job_id}/content"
    network.faults = [refusal("GET", content, 503, retry_after="4")]
    client.download(job_id, tmp_path / "out.mp4")
    assert 4 <= time.slept[0] < 5
    network.faults = [refusal("GET", content, 503) for _ in range(9)]
    with pytest.raises(UnavailableError):
        client.download(job_id, tmp_path / "again.mp4")
    assert len(time.slept) == 6


def test_transfers_do_not_wait_for_an_hour(
    client: Any, service: FakeService, network: FaultyProxy, video: Path, tmp_path: Path, time: Time
) -> None:
    job_id = finished(client, service, video)
    network.faults = [
        refusal("PATCH", "/v1/uploads/", 503, retry_after="3600"),
        refusal("GET", f"/v1/jobs/{job_id}/content", 503, retry_after="3600"),
        refusal("GET", f"/v1/jobs/{job_id}/events", 503, retry_after="3600"),
    ]
    for transfer in (
        lambda: client.upload(video),
        lambda: client.download(job_id, tmp_path / "out.mp4"),
        lambda: list(client.events(job_id)),
    ):
        with pytest.raises(UnavailableError) as caught:
            transfer()
        assert caught.value.retry_after_seconds == 3600
    assert time.slept == []


def test_a_file_that_shrinks_while_it_is_uploaded_is_told(client: Any, video: Path) -> None:
    def shrink(done: int, _: int) -> None:
        if done == MEGABYTE:
            with video.open("r+b") as file:
                file.truncate(MEGABYTE + 5)

    with pytest.raises(TransferError, match="has become shorter than 2097152 bytes"):
        client.upload(video, chunk_size=MEGABYTE, on_progress=shrink)


def test_a_source_cannot_choose_the_folder_of_its_result(
    client: Any, service: FakeService, video: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("../../evil.mp4", r"..\..\evil.mp4", "/etc/evil.mp4"):
        job = client.submit("https://example.org/a", filename=name)
        service.finish(job.id)
        assert client.download(job, folder) == folder / "evil-upscaled.mp4"
