"""`dovetail submit` and `dovetail jobs` against a service on this machine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from tests.client.fake_service import KEY, FakeService, served

Dovetail = Callable[..., Result]
ROOT = Path(__file__).parents[2]
JOB_ID = re.compile(r"job_[0-9a-z]{26}")


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A service that the environment names; the working folder is empty."""
    folder, here = tmp_path / "service", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    fake = FakeService(folder)
    with served(fake.app) as port:
        monkeypatch.setenv("DOVETAIL_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("DOVETAIL_API_KEY", KEY)
        yield fake
    assert fake.app.violations == []


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """A small one, and one that is uploaded in chunks."""
    paths = [tmp_path / "small.mkv", tmp_path / "large.mov"]
    paths[0].write_bytes(b"small" * 1000)
    paths[1].write_bytes(b"large" * 2_000_000)
    return paths


def test_ids_of_new_jobs_go_to_stdout_alone(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    result = dovetail("submit", *videos, "https://example.org/film.mp4", "-s", "3/2", "--priority", "low")
    assert result.exit_code == 0, result.stderr
    ids = result.stdout.split()
    assert sorted(ids) == sorted(service.jobs)
    assert {service.job(job_id)["options"]["scale"] for job_id in ids} == {1.5}
    assert {service.job(job_id)["priority"] for job_id in ids} == {"low"}
    assert "large.mov: uploading, 0.0/10.0 MB" in result.stderr


def test_every_option_arrives(service: FakeService, videos: list[Path], dovetail: Dovetail) -> None:
    size = ["--height", "720", "--width", "1280", "--model", "bicubic"]
    video = ["--codec", "av1", "--crf", "30", "--preset", "8", "--pix-fmt", "yuv420p10le", "--deinterlace",
             "--video-stream", "2", "--keep-gaps", "--force"]  # fmt: skip
    part = ["--start", "1:30", "--duration", "2.5", "--no-scene-cuts"]
    extra = ["--label", "a=b", "--label", "c=d=e", "--metadata", '{"x": [1]}']
    video += ["--encoder", "auto", "--keep-matrix"]
    result = dovetail("submit", videos[0], *size, *video, *part, *extra, "--webhook", "https://example.org")
    assert result.exit_code == 0, result.stderr
    job = service.job(result.stdout.strip())
    assert job["options"] == {
        "model": "bicubic", "scale": None, "height": 720, "width": 1280, "codec": "av1", "crf": 30,
        "preset": "8", "pix_fmt": "yuv420p10le", "start_seconds": 90, "duration_seconds": 2.5,
        "deinterlace": True, "detect_cuts": False, "container": "mp4", "encoder": "auto",
        "keep_matrix": True, "video_stream": 2, "keep_gaps": True, "force": True,
    }  # fmt: skip
    assert (job["labels"], job["metadata"]) == ({"a": "b", "c": "d=e"}, {"x": [1]})


def test_results_go_where_they_are_wanted_and_not_over_each_other(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    result = dovetail("submit", *videos, "--deliver-to", "s3://bucket/up/")
    assert result.exit_code == 0, result.stderr
    for job_id in result.stdout.split():
        delivery = service.job(job_id)["delivery"]
        assert (delivery["url"], delivery["status"]) == (f"s3://bucket/up/{job_id}.mp4", "waiting")
    refused = dovetail("submit", *videos, "--deliver-to", "https://example.org/a.mp4?signature=x")
    assert refused.exit_code == 2
    assert "2 results would replace each other" in refused.stderr
    assert len(service.jobs) == 2


def test_waiting_shows_progress_and_brings_the_results(
    service: FakeService, videos: list[Path], tmp_path: Path, dovetail: Dovetail
) -> None:
    result = dovetail("submit", *videos, "--wait", "--output", f"{tmp_path}/out/")
    assert result.exit_code == 0, result.stderr
    for video in videos:
        assert (tmp_path / "out" / f"{video.stem}.mp4").read_bytes() == video.read_bytes()
    assert "small.mkv: upscaling, 10/30 frames, 5.00 fps" in result.stderr
    assert "small.mp4: 128x96, 30 frames, 0.0 MB" in result.stderr
    assert len(JOB_ID.findall(result.stdout)) == 2


def test_the_name_of_a_result_says_its_container(
    service: FakeService, videos: list[Path], tmp_path: Path, dovetail: Dovetail
) -> None:
    result = dovetail("submit", videos[0], "-o", tmp_path / "large.mkv")
    assert result.exit_code == 0, result.stderr
    assert service.job(result.stdout.strip())["options"]["container"] == "mkv"
    frames = dovetail("submit", videos[0], "-o", tmp_path / "%03d.png")
    assert frames.exit_code == 2
    assert "frames as pictures are for dovetail upscale" in frames.stderr


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.JPEG"
    Image.new("RGB", (8, 6), "red").save(path, "JPEG")
    return path


@pytest.mark.parametrize(
    ("output", "name", "container"),
    [("large.tif", "large.tif", "tiff"), ("out/", "out/photo.jpeg", "jpg"), ("a.mp4", "a.mp4", "mp4")],
)
def test_a_still_becomes_what_its_result_is_called(
    service: FakeService, photo: Path, dovetail: Dovetail, output: str, name: str, container: str
) -> None:
    result = dovetail("submit", photo, "-o", output)
    assert result.exit_code == 0, result.stderr
    assert service.job(result.stdout.strip())["options"]["container"] == container
    assert Path(name).read_bytes() == photo.read_bytes()


def test_stills_and_videos_of_a_folder_keep_their_names(
    service: FakeService, videos: list[Path], photo: Path, tmp_path: Path, dovetail: Dovetail
) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    for path in (videos[0], photo):
        path.rename(folder / path.name)
    result = dovetail("submit", folder, "--wait", "--codec", "h265", "-q")
    assert result.exit_code == 0, result.stderr
    made = sorted(path.name for path in Path().iterdir())
    assert made == ["photo-upscaled.jpeg", "small-upscaled.mp4"]
    kinds = [service.job(job_id)["options"]["container"] for job_id in result.stdout.split()]
    assert sorted(kinds) == ["jpg", "mp4"]


def test_without_waiting_the_service_decides_what_a_result_is(
    service: FakeService, photo: Path, dovetail: Dovetail
) -> None:
    job_id = dovetail("submit", photo).stdout.strip()
    assert service.job(job_id)["options"]["container"] == "jpg"
    assert dovetail("jobs", "watch", job_id).exit_code == 0
    assert dovetail("jobs", "download", job_id).stdout == "photo-upscaled.jpg\n"


@pytest.mark.parametrize("arguments", [("%d.png", "-o", "a.mp4"), ("frames", "-o", "a.mp4")])
def test_rows_of_pictures_are_no_single_file(
    service: FakeService, photo: Path, dovetail: Dovetail, arguments: tuple[str, ...]
) -> None:
    folder = Path("frames")
    folder.mkdir()
    for path in (folder / "1.png", folder / "2.png", Path("1.png"), Path("2.png")):
        Image.new("RGB", (8, 6)).save(path)
    refused = dovetail("submit", *arguments)
    assert refused.exit_code == 2
    assert "frames as pictures are for dovetail upscale" in refused.stderr
    assert service.jobs == {}


def test_a_still_cannot_be_called_like_its_frames(
    service: FakeService, photo: Path, dovetail: Dovetail
) -> None:
    refused = dovetail("submit", photo, "-o", "%03d.png")
    assert refused.exit_code == 2
    assert service.jobs == {}


def test_without_a_name_a_result_lies_here(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    assert dovetail("submit", videos[0], "--wait", "-q").exit_code == 0
    assert Path("small-upscaled.mp4").read_bytes() == videos[0].read_bytes()
    again = dovetail("submit", videos[0], "--wait")
    assert again.exit_code == 6
    assert "--overwrite replaces it" in again.stderr
    assert len(service.jobs) == 1
    assert dovetail("submit", videos[0], "--wait", "--overwrite").exit_code == 0


def test_a_result_of_a_url_is_named_after_it(service: FakeService, dovetail: Dovetail) -> None:
    url = "https://example.org/films/film.mkv"
    assert dovetail("submit", url, "-o", "made/").exit_code == 0
    assert Path("made/film.mp4").read_text() == url


def test_results_of_urls_are_named_after_their_path(service: FakeService, dovetail: Dovetail) -> None:
    url = "https://example.org/holiday/my%20photo.png?signature=a/b.mp4"
    assert dovetail("submit", url, "--wait").exit_code == 0
    assert Path("my photo-upscaled.png").read_text() == url
    assert dovetail("submit", url, "-o", "made/").exit_code == 0
    assert Path("made/my photo.png").read_text() == url


def test_json_tells_all_that_happened(service: FakeService, videos: list[Path], dovetail: Dovetail) -> None:
    missing = videos[0].with_name("missing.mp4")
    result = dovetail("submit", videos[0], missing, "--output", "out/", "--json")
    assert result.exit_code == 7
    values = json.loads(result.stdout)
    good, bad = values["results"]
    assert (values["exit_code"], values["error"]) == (7, None)
    assert (good["output"], good["job"]["status"], good["error"]) == ("out/small.mp4", "completed", None)
    assert (bad["output"], bad["job"], bad["error"]["code"]) == (None, None, "unreadable_input")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--metadata", '{"fail": "no_video"}', "--wait"], 3, "it is broken"),
        (["--metadata", '{"fail": "worker_crashed"}', "--wait"], 8, "it is broken"),
        (["--crf", "60"], 2, "crf 60 is outside 0-51"),
        (["--label", "show"], 2, "write NAME=VALUE"),
        (["--metadata", "[1]"], 2, "no JSON object"),
        (["--metadata", "{"], 2, "is no JSON"),
        (["--api-key", "dv_other"], 8, "no such key"),
        (["--url", "example"], 2, "it looks like http"),
        (["-o", "result.avi"], 2, "should end in .mp4"),
    ],
)
def test_errors_have_exit_codes_and_words(
    service: FakeService,
    videos: list[Path],
    dovetail: Dovetail,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    result = dovetail("submit", videos[0], *arguments)
    assert result.exit_code == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failed_job_says_how_to_try_again(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    result = dovetail("submit", videos[0], "--metadata", '{"fail": "worker_crashed"}', "--wait")
    assert f"dovetail jobs retry {result.stdout.strip()}" in result.stderr


def test_a_file_that_is_not_there_is_an_input_error(service: FakeService, dovetail: Dovetail) -> None:
    result = dovetail("submit", "missing.mp4")
    assert result.exit_code == 3
    assert "missing.mp4: no such file" in result.stderr


def test_a_service_that_is_not_there_is_named(videos: list[Path], dovetail: Dovetail) -> None:
    result = dovetail("jobs", "list", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 8
    assert "cannot reach http://127.0.0.1:1" in result.stderr


# The process sends itself the signal when the job is at work, so that the moment is always the same.
STOPPED_RUN = """
    import os, signal, sys
    import cli._followed_results
    from cli.main import app

    signal.signal(signal.SIGINT, signal.default_int_handler)

    class Stopping:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def begin(self, name):
            return lambda moment: moment.stage == "upscaling" and os.kill(os.getpid(), int(sys.argv.pop()))

    cli._followed_results.make_moment_display = lambda is_quiet: Stopping()
    app(sys.argv[1:-1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_jobs_go_on_after_an_interrupt_unless_told_otherwise(
    service: FakeService, videos: list[Path], number: int, is_cancelled: bool
) -> None:
    service.is_held = True
    arguments = ["submit", str(videos[0]), "--wait", *(["--cancel-on-interrupt"] if is_cancelled else [])]
    done = subprocess.run(
        [sys.executable, "-X", "forked", "-c", textwrap.dedent(STOPPED_RUN), *arguments, str(int(number))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr
    job_id = done.stdout.strip()
    assert service.job(job_id)["status"] == ("cancelled" if is_cancelled else "in_progress")
    assert (f"dovetail jobs watch {job_id}" in done.stderr) != is_cancelled


def test_jobs_are_listed_as_a_table(service: FakeService, videos: list[Path], dovetail: Dovetail) -> None:
    ids = [dovetail("submit", video, "--label", f"n={n}").stdout.strip() for n, video in enumerate(videos)]
    service.finish(ids[0])
    lines = dovetail("jobs", "list").stdout.splitlines()
    assert lines[0].split() == ["ID", "STATUS", "PROGRESS", "CREATED", "SIZE", "NAME"]
    assert lines[1].startswith(f"{ids[1]}  queued")
    assert "number 1 in the queue" in lines[1]
    assert lines[2].startswith(f"{ids[0]}  completed")
    assert lines[2].endswith("128x96  small.mkv")
    only = json.loads(dovetail("jobs", "list", "--status", "queued", "--label", "n=1", "--json").stdout)
    assert [job["id"] for job in only] == [ids[1]]
    assert dovetail("jobs", "list", "--status", "failed").stdout == "no jobs\n"


def test_a_job_is_shown_with_what_is_known(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    job_id = dovetail("submit", videos[0], "-s", "2").stdout.strip()
    service.finish(job_id)
    text = dovetail("jobs", "show", job_id).stdout
    assert "  status: completed, 100%" in text
    assert "  input: small.mkv, 64x48, 0:01, 0.0 MB" in text
    assert "  output: 128x96, 30 frames" in text
    assert json.loads(dovetail("jobs", "show", job_id, "--json").stdout)["id"] == job_id


def test_names_of_others_do_not_steer_the_terminal(service: FakeService, dovetail: Dovetail) -> None:
    data = service.folder / "data"
    data.write_bytes(b"x")
    service.new_job(data, "\x1b[2Jevil\n.mp4", {})
    assert "?[2Jevil?.mp4" in dovetail("jobs", "list").stdout


def test_jobs_are_cancelled_retried_and_deleted(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    first, second = (dovetail("submit", video).stdout.strip() for video in videos)
    assert dovetail("jobs", "cancel", first, second).stdout == f"{first}: cancelled\n{second}: cancelled\n"
    assert dovetail("jobs", "retry", first).stdout == f"{first}: queued\n"
    mixed = dovetail("jobs", "cancel", second, first)
    assert (mixed.exit_code, mixed.stdout) == (7, f"{first}: cancelled\n")
    assert "is final" in mixed.stderr
    assert dovetail("jobs", "delete", first).exit_code == 0
    gone = dovetail("jobs", "show", first)
    assert gone.exit_code == 8
    assert "there is no job" in gone.stderr


def test_a_job_is_watched_and_its_result_downloaded(
    service: FakeService, videos: list[Path], dovetail: Dovetail
) -> None:
    job_id = dovetail("submit", videos[0]).stdout.strip()
    early = dovetail("jobs", "download", job_id)
    assert early.exit_code == 8
    assert "there is no result" in early.stderr
    watched = dovetail("jobs", "watch", job_id)
    assert watched.exit_code == 0, watched.stderr
    assert "small.mkv: completed" in watched.stderr
    assert dovetail("jobs", "download", job_id).stdout == "small-upscaled.mp4\n"
    assert Path("small-upscaled.mp4").read_bytes() == videos[0].read_bytes()
    assert dovetail("jobs", "download", job_id).exit_code == 6
    nowhere = dovetail("jobs", "download", job_id, "-o", "no/such/folder.mp4")
    assert nowhere.exit_code == 6
    assert "cannot write no/such/folder.mp4" in nowhere.stderr
