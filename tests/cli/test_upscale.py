from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.media.breaks import end_to_end
from tests.media.test_losses import PROFILE_5, write_dolby_vision
from tests.pipelines.tiny import save_nano
from tests.workers.made import decode

Dovetail = Callable[..., Result]
FAST = ("-m", "bicubic", "-s", "2", "--preset", "ultrafast")


def test_a_file_is_upscaled(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    result = dovetail("upscale", clip, tmp_path / "out.mp4", *FAST)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "128x96, 50 frames" in result.stderr
    assert decode(tmp_path / "out.mp4").times == decode(clip).times


def test_a_checkpoint_folder_is_a_model(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    checkpoint = save_nano(tmp_path / "nano", licence="none")
    arguments = ("--duration", "0.4", "--preset", "ultrafast", "--device", "cpu", "--json")
    result = dovetail("upscale", clip, tmp_path / "out.mp4", "-m", checkpoint, *arguments)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)["results"][0]
    assert (report["output"]["width"], report["output"]["height"]) == (256, 192)
    assert report["model"]["licence"] == "none"
    assert {"read", "transformer", "decode", "model", "write"} <= set(report["stage_seconds"])


def test_what_needs_no_model_is_refused_before_one_is_loaded(
    clip: Path, tmp_path: Path, dovetail: Dovetail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipelines.loaders.load_model", lambda *names, **options: pytest.fail("it was loaded")
    )
    (tmp_path / "there.mp4").write_bytes(b"mine")
    for source, output, complaint in (
        (clip, tmp_path / "there.mp4", "there.mp4 exists already"),
        (clip, tmp_path / "folder" / "out.mp4", "folder does not exist"),
        (tmp_path / "typed wrong.mp4", tmp_path / "out.mp4", "there is no such file"),
    ):
        result = dovetail("upscale", source, output, "-m", "bicubic")
        assert result.exit_code != 0
        assert complaint in result.stderr
    assert (tmp_path / "there.mp4").read_bytes() == b"mine"


def test_the_name_of_the_output_says_the_container(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    result = dovetail("upscale", clip, tmp_path / "out.mkv", *FAST, "--duration", "0.4")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out.mkv").read_bytes()[:4] == b"\x1aE\xdf\xa3"
    assert len(decode(tmp_path / "out.mkv").times) == 10
    refused = dovetail("upscale", clip, tmp_path / "out.webm", *FAST, "--codec", "h264")
    assert refused.exit_code != 0
    assert "WebM cannot hold h264; choose av1 or vp9" in refused.stderr
    assert not (tmp_path / "out.webm.dovetail").exists()
    assert dovetail("upscale", clip, tmp_path / "out.webm", *FAST, "--duration", "0.2").exit_code == 0


def test_frames_become_files_of_a_folder_that_is_made_and_are_not_replaced_unasked(
    clip: Path, tmp_path: Path, dovetail: Dovetail
) -> None:
    frames = tmp_path / "made" / "frames"
    arguments = ("upscale", clip, frames / "%03d.png", "-m", "bicubic", "-s", "2", "--duration", "0.2")
    assert dovetail(*arguments).exit_code == 0
    assert [path.name for path in sorted(frames.iterdir())] == [f"{n:03d}.png" for n in range(1, 6)]
    assert "--overwrite" in dovetail(*arguments).stderr
    assert dovetail(*arguments, "--resume").exit_code == 0
    assert dovetail(*arguments, "--overwrite").exit_code == 0
    compared = dovetail(*arguments, "--overwrite", "--compare")
    assert "cannot hold png" in compared.stderr


def test_json_goes_to_stdout_alone(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    result = dovetail("upscale", clip, tmp_path / "out.mp4", *FAST, "--json", "--sha256")
    values = json.loads(result.stdout)
    assert values["exit_code"] == 0
    assert values["error"] is None
    assert values["results"][0]["status"] == "done"
    assert len(values["results"][0]["output"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{clip}", "{out}/a.mp4", "-m", "no-such-model"], 4, "no checkpoint 'no-such-model'"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "--device", "cuda:99x"], 2, "does not exist"),
        (["{out}/none.mp4", "{out}/a.mp4", "-m", "bicubic"], 3, "no such file"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "--crf", "52"], 2, "crf 52"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "-s", "99"], 2, "scale must be"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "-s", "x"], 2, "not a factor"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "--start", "soon"], 2, "not a time"),
        (["{clip}", "{out}/a.avi", "-m", "bicubic"], 2, "should end in .mp4"),
        (["{clip}", "{out}/no/a.mp4", "-m", "bicubic"], 6, "does not exist"),
        (["{clip}", "{clip}/%d.png", "-m", "bicubic"], 6, "cannot make the folder"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "--start", "99"], 3, "no frames from 99 s"),
        (["{clip}", "{out}/a.mp4", "--resume", "--overwrite"], 2, "choose one"),
        (["{clip}", "{out}/a.mp4", "-m", "bicubic", "--pix-fmt", "rgb24"], 2, "rgb24"),
    ],
)
def test_faults_have_their_exit_code_and_name_the_fault(
    clip: Path, tmp_path: Path, dovetail: Dovetail, arguments: list[str], code: int, message: str
) -> None:
    filled = [argument.format(clip=clip, out=tmp_path) for argument in arguments]
    result = dovetail("upscale", *filled)
    assert result.exit_code == code, result.stderr
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_json_too(tmp_path: Path, clip: Path, dovetail: Dovetail) -> None:
    result = dovetail("upscale", clip, tmp_path / "a.mp4", "-m", "no-such-model", "--json")
    values = json.loads(result.stdout)
    assert (values["exit_code"], values["error"]["code"]) == (4, "checkpoint_error")
    result = dovetail("upscale", tmp_path / "none.mp4", tmp_path / "a.mp4", "-m", "bicubic", "--json")
    values = json.loads(result.stdout)
    assert (values["exit_code"], values["results"][0]["error"]["code"]) == (3, "unreadable_input")


def test_an_existing_output_is_refused_then_kept_then_replaced(
    clip: Path, tmp_path: Path, dovetail: Dovetail
) -> None:
    arguments = ("upscale", clip, tmp_path / "out.mp4", *FAST, "--duration", "0:00:00.2")
    assert dovetail(*arguments).exit_code == 0
    assert dovetail(*arguments).exit_code == 6
    kept = dovetail(*arguments, "--resume")
    assert kept.exit_code == 0
    assert "was finished before" in kept.stderr
    assert dovetail(*arguments, "--overwrite").exit_code == 0


def test_one_bad_input_does_not_keep_the_others_from_running(
    clip: Path, tmp_path: Path, dovetail: Dovetail
) -> None:
    sources = tmp_path / "in"
    sources.mkdir()
    (sources / "a.mkv").write_bytes(b"garbage")
    shutil.copy(clip, sources / "b.mp4")
    shutil.copy(clip, sources / "b.mov")
    result = dovetail("upscale", sources, tmp_path / "out", *FAST, "--duration", "0.2", "--json")
    assert result.exit_code == 7
    results = json.loads(result.stdout)["results"]
    assert [item["status"] for item in results] == ["failed", "done", "done"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b-mov.mp4", "b-mp4.mp4"]
    assert "2 of 3 inputs finished" in result.stderr
    assert "a.mkv" in result.stderr


def test_inputs_come_from_stdin(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    other = shutil.copy(clip, tmp_path / "other.mp4")
    result = dovetail(
        "upscale", "-", tmp_path / "out", *FAST, "--duration", "0.2", stdin=f"{clip}\n{other}\n"
    )
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["clip.mp4", "other.mp4"]


def test_quiet_means_quiet(clip: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    result = dovetail("upscale", clip, tmp_path / "out.mp4", *FAST, "--duration", "0.2", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_warnings_come_before_the_work(tmp_path: Path, dovetail: Dovetail) -> None:
    source = end_to_end(tmp_path / "a.ts", 1.0, 7200.0)
    result = dovetail("upscale", source, tmp_path / "out.mp4", *FAST, "--json")
    assert result.exit_code == 0, result.stderr
    lines = result.stderr.splitlines()
    (place,) = (number for number, line in enumerate(lines) if "jump forward" in line)
    assert place < next(number for number, line in enumerate(lines) if "upscaling" in line)
    assert any("jump forward" in words for words in json.loads(result.stdout)["results"][0]["warnings"])
    assert len(decode(tmp_path / "out.mp4").times) == 100


def test_gaps_stay_and_another_stream_is_taken_on_demand(tmp_path: Path, dovetail: Dovetail) -> None:
    source = end_to_end(tmp_path / "a.ts", 1.0, 60.0)
    result = dovetail("upscale", source, tmp_path / "out.mp4", *FAST, "--keep-gaps", "--video-stream", "0")
    assert result.exit_code == 0, result.stderr
    assert decode(tmp_path / "out.mp4").times[50] == 59
    result = dovetail("upscale", source, tmp_path / "other.mp4", *FAST, "--video-stream", "7")
    assert result.exit_code == 2
    assert "stream 7" in result.stderr


def test_wrong_colours_are_refused_unless_forced(tmp_path: Path, dovetail: Dovetail) -> None:
    source = write_dolby_vision(tmp_path / "a.mp4", PROFILE_5)
    refused = dovetail("upscale", source, tmp_path / "out.mp4", *FAST)
    assert refused.exit_code == 3
    assert "--force" in refused.stderr
    assert dovetail("upscale", source, tmp_path / "out.mp4", *FAST, "--force").exit_code == 0
