"""What customers get back: whole, in ranges, growing, and a clear answer while it is not there."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

import av
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import keys
from media import MediaInfo
from media.probing import probe
from service.results.files import content_disposition
from service.results.ranges import BadRangeError, parse_ranges
from service.results.service import download_name, media_type_of
from tests.media.sources import Sound, make_source
from tests.media.test_growing_stream import Growing, frames_in, grow
from tests.service.conftest import Api, wait_until
from tests.service.made import INPUT, HandMade, brightness, fail, folder_of, make_job


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> MediaInfo:
    """Fourteen seconds with sound."""
    folder = tmp_path_factory.mktemp("spoken")
    return probe(make_source(folder / "source.mp4", seconds=14, sounds=[Sound("aac")]))


@pytest.fixture(scope="module")
def growing(tmp_path_factory: pytest.TempPathFactory, spoken: MediaInfo) -> Growing:
    """Four segments and their sound."""
    return grow(tmp_path_factory.mktemp("growing"), spoken)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """Four segments without sound."""
    folder = tmp_path_factory.mktemp("silent")
    return grow(folder, probe(make_source(folder / "source.mp4", seconds=14)))


@pytest.fixture
def made(api: Api, growing: Growing) -> HandMade:
    return HandMade(api.context, growing)


@pytest.fixture
def completed(made: HandMade) -> HandMade:
    made.plan()
    made.publish_all()
    made.join()
    return made


class Listener:
    """Reads a stream in the background.

    Args:
        api: Where.
        path: What.
    """

    def __init__(self, api: Api, path: str) -> None:
        self.received = bytearray()
        self.error: Exception | None = None
        self._api, self._path = api, path
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> bytes:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return bytes(self.received)

    def _run(self) -> None:
        try:
            with httpx.stream("GET", self._api.url + self._path, timeout=30, trust_env=False) as response:
                for piece in response.iter_raw():
                    self.received += piece
        except httpx.HTTPError as error:
            self.error = error


@pytest.fixture
def completed_before(api: Api, completed: HandMade) -> HandMade:
    """A job as the version before kept it: all names of objects in the record, and the sound."""
    key = f"dv:job:{completed.id}"
    content = api.context.client.hget(key, "output")
    assert isinstance(content, bytes)
    kept = json.loads(content)
    output = api.context.store.get(completed.id).output
    assert output is not None
    del kept["token"], kept["preview_token"]
    for name in ("key", "report_key", "segments_key", "preview_key"):
        kept[name] = getattr(output, name)
    plays = json.loads(api.context.storage.get_bytes(output.segments_key))
    stream = json.dumps({"sound": plays["sound"]})
    spec = api.context.store.get(completed.id).spec.model_dump_json(exclude_none=True)
    api.context.client.hset(key, mapping={"spec": spec, "output": json.dumps(kept), "stream": stream})
    api.context.storage.put_bytes(output.segments_key, json.dumps(plays["segments"]).encode())
    return completed


# The file


def test_what_the_version_before_has_made_is_still_there(api: Api, completed_before: HandMade) -> None:
    path = completed_before.path
    assert api.http.get(f"{path}/content").content == completed_before.growing.joined.read_bytes()
    assert api.http.get(f"{path}/report").json() == {"frames": 27}
    for name in ("preview.jpg", "hls/playlist.m3u8", "hls/audio.m3u8", "hls/audio.mp4", "hls/segments/3.mp4"):
        assert api.http.get(f"{path}/{name}").status_code == 200, name


def test_result_comes_whole_with_its_digest_as_etag(api: Api, completed: HandMade) -> None:
    response = api.http.get(f"{completed.path}/content")
    assert response.status_code == 200
    assert response.content == completed.growing.joined.read_bytes()
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["etag"] == f'"{hashlib.sha256(response.content).hexdigest()}"'
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "last-modified" in response.headers
    name = "filename=\"holiday-upscaled.mp4\"; filename*=UTF-8''holiday-upscaled.mp4"
    assert response.headers["content-disposition"] == f"inline; {name}"


def test_download_is_saved_instead_of_played(api: Api, completed: HandMade) -> None:
    response = api.http.get(f"{completed.path}/content", params={"download": "1"})
    assert response.headers["content-disposition"].startswith("attachment; ")


def test_head_tells_everything_but_the_content(api: Api, completed: HandMade) -> None:
    for path in ("content", "source", "hls/segments/0.mp4", "hls/audio.mp4"):
        head = api.http.head(f"{completed.path}/{path}")
        whole = api.http.get(f"{completed.path}/{path}")
        ignored = {"date", "x-request-id"}
        assert head.status_code == 200
        assert head.content == b""
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in whole.headers.items() if k not in ignored
        }


def test_range_gives_those_bytes(api: Api, completed: HandMade) -> None:
    content = completed.growing.joined.read_bytes()
    size = len(content)
    for header, part in {
        "bytes=0-0": content[:1],
        "bytes=100-": content[100:],
        "bytes=-10": content[-10:],
        f"bytes=-{size + 5}": content,
        f"bytes=5-{size + 100}": content[5:],
    }.items():
        response = api.http.get(f"{completed.path}/content", headers={"Range": header})
        assert response.status_code == 206, header
        assert response.content == part
        assert response.headers["content-length"] == str(len(part))
    assert response.headers["content-range"] == f"bytes 5-{size - 1}/{size}"


def test_several_ranges_come_as_parts(api: Api, completed: HandMade) -> None:
    content = completed.growing.joined.read_bytes()
    response = api.http.get(f"{completed.path}/content", headers={"Range": "bytes=10-19, 0-4, 15-29"})
    assert response.status_code == 206
    head = f"Content-Type: {response.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + response.content).get_payload()
    assert [(part["content-range"], part.get_payload(decode=True)) for part in parts] == [
        (f"bytes 0-4/{len(content)}", content[:5]),
        (f"bytes 10-29/{len(content)}", content[10:30]),
    ]
    assert {part["content-type"] for part in parts} == {"video/mp4"}


def test_range_behind_the_end_is_refused_with_the_size(api: Api, completed: HandMade) -> None:
    size = completed.growing.joined.stat().st_size
    response = api.http.get(f"{completed.path}/content", headers={"Range": f"bytes={size}-"})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{size}"
    assert response.json()["code"] == "bad_range"


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=a-b", "bytes=", "frames=0-1", "bytes", "bytes=-"])
def test_range_that_means_nothing_is_ignored(api: Api, completed: HandMade, header: str) -> None:
    response = api.http.get(f"{completed.path}/content", headers={"Range": header})
    assert response.status_code == 200
    assert response.content == completed.growing.joined.read_bytes()


def test_if_range_sends_the_part_only_of_the_same_file(api: Api, completed: HandMade) -> None:
    path = f"{completed.path}/content"
    headers = api.http.head(path).headers
    for known, status in {
        headers["etag"]: 206,
        headers["last-modified"]: 206,
        '"another"': 200,
        f"W/{headers['etag']}": 200,
        "Mon, 01 Jan 2001 00:00:00 GMT": 200,
    }.items():
        response = api.http.get(path, headers={"Range": "bytes=0-9", "If-Range": known})
        assert response.status_code == status, known


def test_unchanged_file_is_not_sent_again(api: Api, completed: HandMade) -> None:
    path = f"{completed.path}/content"
    headers = api.http.head(path).headers
    for sent, status in [
        ({"If-None-Match": headers["etag"]}, 304),
        ({"If-None-Match": f'"x", W/{headers["etag"]}'}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-Modified-Since": headers["last-modified"]}, 304),
        ({"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}, 200),
        ({"If-Modified-Since": "nonsense"}, 200),
        # The tag decides where both are there.
        ({"If-None-Match": '"x"', "If-Modified-Since": headers["last-modified"]}, 200),
    ]:
        response = api.http.get(path, headers=sent)
        assert response.status_code == status, sent
    assert api.http.get(path, headers={"If-None-Match": headers["etag"]}).content == b""


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120)), min_size=1, max_size=20))
def test_ranges_cover_exactly_the_wanted_bytes_once(pairs: list[tuple[int, int]]) -> None:
    size = 100
    header = "bytes=" + ",".join(f"{min(pair)}-{max(pair)}" for pair in pairs)
    wanted = {byte for pair in pairs for byte in range(min(pair), max(pair) + 1) if byte < size}
    if not wanted:
        with pytest.raises(BadRangeError):
            parse_ranges(header, size)
        return
    covered = [byte for start, end in parse_ranges(header, size) for byte in range(start, end)]
    assert covered == sorted(wanted)


@given(st.text(max_size=60))
def test_no_header_breaks_the_ranges(header: str) -> None:
    try:
        found = parse_ranges(header, 1000)
    except BadRangeError:
        return
    assert all(0 <= start < end <= 1000 for start, end in found)


def test_very_many_ranges_are_answered_with_the_whole_file() -> None:
    assert parse_ranges("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 200, 2)), 1000) == []


def test_names_in_any_script_survive_and_nothing_breaks_the_header() -> None:
    value = content_disposition("inline", 'Ünïcode "video"\r\nX: y 日本.mp4')
    assert value.isascii()
    assert "\r" not in value
    assert "\n" not in value
    assert value.endswith(
        "filename*=UTF-8''%C3%9Cn%C3%AFcode%20%22video%22%0D%0AX%3A%20y%20%E6%97%A5%E6%9C%AC.mp4"
    )
    assert download_name("ferien.2024.mov", "mp4") == "ferien.2024-upscaled.mp4"
    assert download_name("video", "mkv") == "video-upscaled.mkv"


def test_unfinished_job_says_when_to_come_again(api: Api, made: HandMade) -> None:
    for path in ("content", "report", "preview.jpg", "hls/playlist.m3u8", "hls/video.m3u8", "hls/audio.m3u8"):
        response = api.http.get(f"{made.path}/{path}")
        assert response.status_code == 409, path
        assert response.json()["code"] == "not_ready"
        assert int(response.headers["retry-after"]) > 0


def test_failed_or_cancelled_job_has_no_result_and_says_why(api: Api, growing: Growing) -> None:
    failed, cancelled = HandMade(api.context, growing), HandMade(api.context, growing)
    fail(api.context, failed.id)
    api.http.post(f"{cancelled.path}/cancel")
    for made in (failed, cancelled):
        for path in ("content", "report", "stream", "preview.jpg", "hls/playlist.m3u8"):
            response = api.http.get(f"{made.path}/{path}")
            assert response.status_code == 410, path
            assert response.json()["code"] == "gone"
    assert "nothing to see" in api.http.get(f"{failed.path}/content").json()["detail"]


def test_removed_result_is_gone(api: Api, completed: HandMade) -> None:
    job = api.context.store.get(completed.id)
    assert job.output is not None
    api.context.storage.delete(job.output.key)
    api.context.storage.delete(job.output.report_key)
    for path in ("content", "stream", "report"):
        assert api.http.get(f"{completed.path}/{path}").status_code == 410
    assert api.http.get(f"{completed.path}/content", headers={"Range": "bytes=0-1"}).status_code == 410


def test_report_is_json(api: Api, completed: HandMade) -> None:
    response = api.http.get(f"{completed.path}/report")
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"frames": 27}


def test_upload_can_be_played_and_does_nothing_else(api: Api, made: HandMade) -> None:
    response = api.http.get(f"{made.path}/source", headers={"Range": "bytes=6-11"})
    assert response.status_code == 206
    assert response.content == b"source"
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert response.headers["content-disposition"].startswith('inline; filename="holiday.mov"')


def test_type_of_an_upload_is_that_of_its_container() -> None:
    def type_of(format_name: str, codec: str) -> str:
        return media_type_of(INPUT.model_copy(update={"format_name": format_name, "codec": codec}))

    assert type_of("matroska,webm", "vp9") == "video/webm"
    assert type_of("matroska,webm", "hevc") == "video/x-matroska"
    assert type_of("mpegts", "h264") == "video/mp2t"
    assert type_of("something new", "h264") == "application/octet-stream"


def test_results_of_others_are_not_found(api_with_keys: Api, growing: Growing) -> None:
    made = HandMade(api_with_keys.context, growing)
    _, stranger = api_with_keys.make_key()
    paths = ["content", "source", "report", "stream", "preview.jpg", "hls/playlist.m3u8", "hls/video.m3u8"]
    for path in [*paths, "hls/audio.m3u8", "hls/audio.mp4", "hls/segments/0.mp4"]:
        assert api_with_keys.http.get(f"{made.path}/{path}").status_code == 401
        response = api_with_keys.http.get(f"{made.path}/{path}", headers=stranger)
        assert response.status_code == 404, path
        assert response.json()["code"] == "not_found"


# The growing stream


def num_frames_in(received: bytes) -> int:
    """Frames that can be played now; 0 while the beginning is incomplete."""
    try:
        return len(frames_in(received))
    except (av.FFmpegError, IndexError):
        return 0


def test_stream_grows_with_the_job_and_ends_with_its_last_segment(api: Api, made: HandMade) -> None:
    listener = Listener(api, f"{made.path}/stream")
    made.plan()
    made.publish(1)  # not the first: nothing can be played yet
    made.publish(0)
    wait_until(lambda: num_frames_in(bytes(listener.received)) == 16)
    beginning = bytes(listener.received)
    made.publish(2, 3)
    whole = listener.join()
    assert listener.error is None
    assert whole.startswith(beginning)
    assert whole == made.growing.whole()
    assert frames_in(whole) == frames_in(made.growing.joined.read_bytes())


def test_stream_without_sound_has_one_track(api: Api, silent: Growing) -> None:
    made = HandMade(api.context, silent)
    made.plan()
    made.publish_all()
    response = api.http.get(f"{made.path}/stream")
    assert response.headers["content-type"] == "video/mp4"
    assert response.headers["accept-ranges"] == "none"
    assert response.content == silent.whole()


def test_late_listener_gets_the_same_bytes(api: Api, made: HandMade) -> None:
    made.plan()
    made.publish_all()
    assert api.http.get(f"{made.path}/stream").content == made.growing.whole()


def test_stream_of_a_plan_that_is_not_complete_waits_for_more(api: Api, made: HandMade) -> None:
    made.plan(num_segments=1, is_complete=False)
    made.publish(0)
    listener = Listener(api, f"{made.path}/stream")
    wait_until(lambda: len(listener.received) > made.growing.indices[0].num_bytes)
    assert listener.error is None
    fail(api.context, made.id)
    listener.join()


@pytest.mark.parametrize("ending", ["fail", "cancel", "delete"])
def test_stream_of_a_job_that_ends_early_is_cut_so_that_clients_notice(
    api: Api, made: HandMade, ending: str
) -> None:
    made.plan()
    made.publish(0)
    listener = Listener(api, f"{made.path}/stream")
    wait_until(lambda: len(listener.received) > made.growing.indices[0].num_bytes)
    if ending == "fail":
        fail(api.context, made.id)
    elif ending == "cancel":
        api.http.post(f"{made.path}/cancel")
    else:
        api.http.delete(made.path)
    received = listener.join()
    assert isinstance(listener.error, httpx.RemoteProtocolError)
    assert len(frames_in(received)) == 8


def test_stream_of_a_completed_job_is_the_file_even_without_segments(api: Api, completed: HandMade) -> None:
    completed.sweep_segments()
    response = api.http.get(f"{completed.path}/stream", headers={"Range": "bytes=0-99"})
    assert response.status_code == 206
    assert response.content == completed.growing.joined.read_bytes()[:100]


def test_polls_and_lists_say_the_same_of_a_job(api: Api, completed: HandMade) -> None:
    waiting = make_job(api.context, labels={"shelf": "1"}, metadata={"own": [1.5, None]})
    fail(api.context, make_job(api.context).id)
    listed = api.http.get("/v1/jobs").json()["data"]
    assert {job["id"] for job in listed} > {waiting.id, completed.id}
    assert [api.http.get(f"/v1/jobs/{job['id']}").json() for job in listed] == listed


def test_listener_that_goes_away_is_forgotten(api: Api, made: HandMade) -> None:
    waiting, channel = api.context.events._watches, keys.EVENTS(made.id)
    with httpx.stream("GET", f"{api.url}{made.path}/stream", timeout=30, trust_env=False) as response:
        assert response.status_code == 200
        wait_until(lambda: channel in waiting)
    wait_until(lambda: channel not in waiting)


# HLS


def test_playlists_play_the_whole_video(api: Api, completed: HandMade, tmp_path: Path) -> None:
    for name in ("playlist.m3u8", "video.m3u8", "audio.m3u8", "audio.mp4"):
        response = api.http.get(f"{completed.path}/hls/{name}")
        assert response.status_code == 200, response.text
        (tmp_path / name).write_bytes(response.content)
    (tmp_path / "segments").mkdir()
    for number in range(4):
        content = api.http.get(f"{completed.path}/hls/segments/{number}.mp4").content
        assert content == completed.growing.segments[number].read_bytes()
        (tmp_path / "segments" / f"{number}.mp4").write_bytes(content)
    with av.open(str(tmp_path / "playlist.m3u8"), options={"allowed_extensions": "ALL"}) as container:
        assert len(container.streams.audio) == 1
        assert sum(1 for _ in container.decode(video=0)) == 27


def test_playlists_grow_without_holes_and_end_with_the_plan(api: Api, made: HandMade) -> None:
    made.plan()
    made.publish(0, 2)
    response = api.http.get(f"{made.path}/hls/video.m3u8")
    assert response.headers["content-type"] == "application/vnd.apple.mpegurl"
    assert "no-cache" in response.headers["cache-control"]
    assert "segments/0.mp4" in response.text
    assert "segments/2.mp4" not in response.text
    assert "ENDLIST" not in response.text
    again = {"If-None-Match": response.headers["etag"]}
    assert api.http.get(f"{made.path}/hls/video.m3u8", headers=again).status_code == 304
    made.publish(1, 3)
    grown = api.http.get(f"{made.path}/hls/video.m3u8", headers=again)
    assert grown.status_code == 200
    assert grown.text.rstrip().endswith("#EXT-X-ENDLIST")
    for number in range(4):
        assert f"segments/{number}.mp4" in grown.text
    assert api.http.get(f"{made.path}/hls/audio.m3u8").text.rstrip().endswith("#EXT-X-ENDLIST")


def test_segments_never_change_and_can_be_read_in_ranges(api: Api, completed: HandMade) -> None:
    index = completed.growing.indices[1]
    fragment = index.fragments[0]
    header = f"bytes={fragment.offset}-{fragment.offset + fragment.size - 1}"
    response = api.http.get(f"{completed.path}/hls/segments/1.mp4", headers={"Range": header})
    assert response.status_code == 206
    assert response.content[4:8] == b"moof"
    assert "immutable" in response.headers["cache-control"]


def test_video_without_sound_has_no_audio_playlist(api: Api, silent: Growing) -> None:
    made = HandMade(api.context, silent)
    made.plan()
    made.publish_all()
    assert "AUDIO" not in api.http.get(f"{made.path}/hls/playlist.m3u8").text
    assert api.http.get(f"{made.path}/hls/audio.m3u8").status_code == 404
    assert api.http.get(f"{made.path}/hls/audio.mp4").status_code == 404


def test_missing_segment_is_not_found_and_a_swept_one_is_gone(api: Api, completed: HandMade) -> None:
    assert api.http.get(f"{completed.path}/hls/segments/9.mp4").status_code == 404
    assert api.http.get(f"{completed.path}/hls/segments/-1.mp4").status_code == 422
    completed.sweep_segments()
    assert api.http.get(f"{completed.path}/hls/segments/0.mp4").status_code == 410
    assert api.http.get(f"{completed.path}/hls/video.m3u8").status_code == 410


# Pictures


def test_preview_is_of_the_newest_segment_and_comes_in_halves(api: Api, made: HandMade) -> None:
    made.plan()
    made.publish(2, 0)
    both = api.http.get(f"{made.path}/preview.jpg")
    assert both.headers["content-type"] == "image/jpeg"
    assert brightness(both.content) == ((40, 10), 70)
    before = api.http.get(f"{made.path}/preview.jpg", params={"side": "before"})
    after = api.http.get(f"{made.path}/preview.jpg", params={"side": "after"})
    assert brightness(before.content) == ((20, 10), 0)
    assert brightness(after.content) == ((20, 10), 140)
    assert len({both.headers["etag"], before.headers["etag"], after.headers["etag"]}) == 3
    again = {"If-None-Match": both.headers["etag"]}
    assert api.http.get(f"{made.path}/preview.jpg", headers=again).status_code == 304
    made.publish(3)
    assert api.http.get(f"{made.path}/preview.jpg", headers=again).status_code == 200
    assert api.http.get(f"{made.path}/preview.jpg", params={"side": "top"}).status_code == 422


# Large files


@pytest.fixture
def large(api: Api) -> Iterator[str]:
    """Address of an upload of 256 MiB, which takes no room on the disk."""
    job = make_job(api.context, source=b"x")
    path = folder_of(api.context) / job.spec.input_key
    size = 256 << 20
    os.truncate(path, size)
    key = f"dv:job:{job.id}"
    spec = job.spec.model_copy(update={"input": job.spec.input.model_copy(update={"size_bytes": size})})
    api.context.client.hset(key, "spec", spec.model_dump_json())
    yield f"/v1/jobs/{job.id}/source"
    path.unlink()


def test_large_file_is_not_held_in_memory(api: Api, large: str) -> None:
    peak = 0
    with api.http.stream("GET", large) as response:
        before = resident_bytes()
        received = 0
        for piece in response.iter_raw():
            received += len(piece)
            peak = max(peak, resident_bytes() - before)
    assert received == 256 << 20
    assert peak < 64 << 20


def resident_bytes() -> int:
    """Memory of this process, which is also the server's."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
