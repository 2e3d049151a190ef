"""Inputs that kill the process that reads them: an error of that input, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import Result

from cli.errors import UsageError
from cli.sandboxing import check_sandbox
from jobs.settings import CommonSettings, ServiceSettings, WorkerSettings
from media import SandboxError
from media.picture_packing import pack_animation, pack_pictures
from media.sandbox import READ_MODULES, Sandbox
from media.stills import read_picture
from tests.media import sandbox_acts as acts
from tests.media.test_pictures_as_video import make_series
from tests.workers.made import make_video
from workers.run.access import confined_access

Dovetail = Callable[..., Result]
FAST = ("-m", "bicubic", "-s", "2", "--preset", "ultrafast")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("short") / "short.mp4", 12, has_sound=True)


@pytest.fixture
def victims(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands whose children die of files that are named so."""
    with Sandbox(preload=(*READ_MODULES, "tests.media.sandbox_victims")) as sandbox:
        monkeypatch.setattr("media.sandbox.shared_sandbox", lambda purpose: sandbox)
        yield


@pytest.mark.usefixtures("victims")
def test_the_batch_goes_on_after_inputs_that_kill_their_process(
    short: Path, tmp_path: Path, dovetail: Dovetail
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    victims = ["dies-in-join.mp4", "dies-in-picture.png", "dies-in-probe.mp4", "dies-in-reading.mp4"]
    for name in (*victims, "sound.mp4"):
        shutil.copy(short, folder / name)
    Image.new("RGB", (32, 16)).save(folder / "dies-in-picture.png")
    result = dovetail("upscale", folder, out, *FAST, "--json")
    assert result.exit_code == 7, result.stderr
    results = json.loads(result.stdout)["results"]
    assert [Path(report["source"]).name for report in results] == [*victims, "sound.mp4"]
    assert [report["status"] for report in results] == ["failed"] * 4 + ["done"]
    assert {report["error"]["code"] for report in results[:4]} == {"input_crashed_decoder"}
    assert "died of signal 6: a decoder failed on this file" in results[0]["error"]["message"]
    # The segments of the one that could not be joined are kept, and nothing else is left.
    assert sorted(path.name for path in out.iterdir()) == ["dies-in-join.mp4.dovetail", "sound.mp4"]
    single = dovetail("upscale", folder / "dies-in-probe.mp4", tmp_path / "a.mp4", *FAST)
    assert single.exit_code == 3
    assert "Traceback" not in single.stderr


def test_sandboxed_outputs_have_the_bytes_of_others(short: Path, tmp_path: Path, dovetail: Dovetail) -> None:
    outputs = []
    for name, option in (("confined", "--sandbox"), ("plain", "--no-sandbox")):
        out = tmp_path / name / "out.mp4"
        out.parent.mkdir()
        result = dovetail("upscale", short, out, *FAST, option, "--compare", "--json")
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)["results"][0]
        outputs.append((out.read_bytes(), out.with_name("out.compare.mp4").read_bytes(), report["streams"]))
    assert outputs[0] == outputs[1]


def test_probe_tells_the_same_from_a_process_of_its_own(short: Path, dovetail: Dovetail) -> None:
    confined = dovetail("probe", short, "--json")
    assert confined.exit_code == 0, confined.stderr
    assert confined.stdout == dovetail("probe", short, "--json", "--no-sandbox").stdout


def test_probe_survives_a_file_that_kills_its_process(
    short: Path, dovetail: Dovetail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("media.sandbox._calls._probe", acts.die)
    result = dovetail("probe", short, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["code"] == "input_crashed_decoder"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(preload=(*READ_MODULES, "tests.media.sandbox_acts")) as sandbox:
        yield sandbox


class TestPictures:
    """What is read of pictures in the sandbox is what is read of them outside."""

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16"])
    def test_a_still(self, tmp_path: Path, sandbox: Sandbox, mode: str) -> None:
        path = tmp_path / "a.png"
        picture = Image.radial_gradient("L").resize((31, 17))
        exif = Image.Exif()
        exif[0x010E] = "a description"
        made = picture.convert("I").point(lambda value: value * 200) if mode == "I;16" else picture
        made.convert(mode).save(path, exif=exif, icc_profile=b"profile" if mode == "RGB" else None)
        expected, found = read_picture(path), confined_access(sandbox).read_picture(path)
        assert torch.equal(found.image, expected.image)
        assert (found.alpha is None) == (expected.alpha is None)
        if found.alpha is not None and expected.alpha is not None:
            assert torch.equal(found.alpha, expected.alpha)
        assert (found.bit_depth, found.is_gray) == (expected.bit_depth, expected.is_gray)
        assert (found.icc_profile, found.exif) == (expected.icc_profile, expected.exif)

    def test_rows_and_animations(self, tmp_path: Path, sandbox: Sandbox) -> None:
        access, rate = confined_access(sandbox), Fraction(24)
        paths = make_series(tmp_path, [1, 2, 3])
        pack_pictures(paths, rate, tmp_path / "plain.mov")
        access.pack_pictures(paths, rate, tmp_path / "confined.mov")
        assert (tmp_path / "confined.mov").read_bytes() == (tmp_path / "plain.mov").read_bytes()
        assert (tmp_path / "confined.mov").stat().st_mtime_ns == (tmp_path / "plain.mov").stat().st_mtime_ns
        frames = [Image.open(path) for path in paths]
        frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=40)
        pack_animation(tmp_path / "a.webp", tmp_path / "plain.mov")
        access.pack_animation(tmp_path / "a.webp", tmp_path / "confined.mov")
        assert (tmp_path / "confined.mov").read_bytes() == (tmp_path / "plain.mov").read_bytes()

    def test_a_description_of_no_picture_is_an_error(
        self, tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (path,) = make_series(tmp_path, [1])
        for act in (acts.describe_a_picture_too_large, acts.describe_nothing):
            monkeypatch.setattr("media.sandbox._pictures._send_picture", act)
            with pytest.raises(SandboxError, match="cannot be"):
                confined_access(sandbox).read_picture(path)


class FakeSandbox(Sandbox):
    """One whose processes lack something."""

    def __init__(self, *lacking: str) -> None:
        super().__init__()
        self._lacking = lacking

    def missing(self) -> tuple[str, ...]:
        return self._lacking


class TestRequiredSandbox:
    @pytest.mark.parametrize(
        ("lacking", "remedy"),
        [
            (("landlock", "unprivileged-user"), "kernel with Landlock"),
            (("seccomp",), "seccomp filters"),
            (("seccomp", "landlock", "unprivileged-user"), "seccomp filters"),
        ],
    )
    def test_a_service_for_others_does_not_start_unconfined(
        self, lacking: tuple[str, ...], remedy: str
    ) -> None:
        with pytest.raises(UsageError, match="DOVETAIL_SANDBOX=prefer") as caught:
            check_sandbox(FakeSandbox(*lacking), is_required=True)
        assert " and ".join(lacking) in str(caught.value)
        assert remedy in str(caught.value)
        check_sandbox(FakeSandbox(*lacking), is_required=False)

    @pytest.mark.parametrize("lacking", [(), ("landlock",), ("unprivileged-user",)])
    def test_what_is_confined_in_another_way_starts(self, lacking: tuple[str, ...]) -> None:
        check_sandbox(FakeSandbox(*lacking), is_required=True)

    @pytest.mark.parametrize(
        ("kind", "values", "expected"),
        [
            (ServiceSettings, {"host": "127.0.0.1"}, False),
            (ServiceSettings, {"host": "::1"}, False),
            (ServiceSettings, {"host": "0.0.0.0"}, True),
            (ServiceSettings, {"host": "0.0.0.0", "sandbox": "prefer"}, False),
            (ServiceSettings, {"host": "127.0.0.1", "sandbox": "require"}, True),
            (WorkerSettings, {"redis_url": "redis://127.0.0.1:6379/0"}, False),
            (WorkerSettings, {"redis_url": "unix:///run/redis.sock"}, False),
            (WorkerSettings, {"redis_url": "redis://redis.internal:6379/0"}, True),
            (WorkerSettings, {"redis_url": "redis://redis.internal:6379/0", "sandbox": "prefer"}, False),
        ],
    )
    def test_it_is_required_where_others_can_send_files(
        self, kind: type[CommonSettings], values: dict[str, Any], expected: bool
    ) -> None:
        assert kind(**values).requires_sandbox is expected

    @pytest.mark.parametrize("command", ["api", "worker"])
    def test_commands_refuse_in_one_line(
        self, dovetail: Dovetail, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
    ) -> None:
        sandbox = FakeSandbox("landlock", "unprivileged-user")
        monkeypatch.setattr("media.sandbox.shared_sandbox", lambda purpose: sandbox)
        monkeypatch.setattr("workers.process.make_sandbox", lambda: sandbox)
        monkeypatch.setenv("DOVETAIL_SANDBOX", "require")
        result = dovetail(command, "--data-dir", tmp_path)
        assert result.exit_code == 2
        assert "without landlock and unprivileged-user" in result.stderr
        assert "Traceback" not in result.stderr
