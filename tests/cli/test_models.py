"""`dovetail models`: pulling, listing, verifying and removing, against servers of this machine."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from cli.exit_codes import ExitCode
from cli.pull import INTERPOLATION_NAMES
from cli.store_folder import store_folder
from pipelines.interpolation import InterpolationMethod
from pipelines.store import ModelStore, find_pulled
from tests.cli.conftest import Dovetail
from tests.pipelines.store.conftest import weights
from tests.pipelines.store.web import Web, put_repository, running_web

ROOT = Path(__file__).parents[2]
BODY = weights()
# Tests that run in the background of a shell inherit an ignored SIGINT.
INTERRUPTIBLE = """
import signal
from cli.main import main
signal.signal(signal.SIGINT, signal.default_int_handler)
main()
"""


@pytest.fixture
def web() -> Iterator[Web]:
    with running_web() as running:
        yield running


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("DOVETAIL_MODELS_DIR", str(tmp_path / "models"))
    return ModelStore(tmp_path / "models")


@pytest.fixture
def url(web: Web) -> str:
    """Of a file without a licence."""
    return web.put("/4x_net.safetensors", BODY)


@pytest.fixture
def pulled(dovetail: Dovetail, url: str) -> str:
    """Name of a model that was pulled."""
    result = dovetail("models", "pull", url, "--accept-licence")
    assert result.exit_code == ExitCode.OK, result.output
    return result.stdout.strip()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", "models", *arguments]


def test_pull_tells_name_licence_and_digest(dovetail: Dovetail, url: str, store: ModelStore) -> None:
    result = dovetail("models", "pull", url, "--accept-licence", "--sha256", "0" * 64)
    assert result.exit_code == ExitCode.MODEL
    assert "0" * 64 in result.stderr
    result = dovetail("models", "pull", url, "--licence", "mit")
    assert result.exit_code == ExitCode.OK
    assert result.stdout == "4x_net\n"
    record = store.read("4x_net")
    for text in (
        "name: 4x_net",
        f"source: {url}",
        "licence: MIT (as the user says)",
        record.files[0].sha256,
        "--model 4x_net",
    ):
        assert text in result.stderr


def test_record_is_written_as_json(dovetail: Dovetail, url: str, store: ModelStore) -> None:
    result = dovetail("models", "pull", url, "--name", "mine", "--accept-license", "--json", "-q")
    values = json.loads(result.stdout)
    assert values == json.loads((store.path("mine") / "store.json").read_text())
    assert (values["name"], values["licence"]) == ("mine", None)
    assert values["accepted_at"]


def test_licence_that_is_not_known_is_refused_where_nobody_can_be_asked(
    dovetail: Dovetail, url: str, web: Web
) -> None:
    result = dovetail("models", "pull", url)
    assert result.exit_code == ExitCode.USAGE
    assert "licence: unknown" in result.stderr
    assert "--accept-licence" in result.stderr
    assert "--licence MIT" in result.stderr
    assert web.asked == []


@pytest.mark.parametrize(("answer", "exit_code", "names"), [("y", 0, ["4x_net"]), ("n", 2, [])])
def test_licence_is_asked_for_on_a_terminal(
    answer: str, exit_code: int, names: list[str], url: str, store: ModelStore
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("pull", url), cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    said = ""
    try:
        while "accept" not in said:
            said += os.read(ours, 10_000).decode()
        os.write(ours, f"{answer}\n".encode())
        while True:
            said += os.read(ours, 10_000).decode()
    except OSError:
        pass  # how a terminal ends
    finally:
        os.close(ours)
    assert process.wait(30) == exit_code, said
    assert store.names() == names
    assert ("0.2/0.2 MB" if names else "was not accepted") in said


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (["owner"], ExitCode.USAGE, "cannot be pulled"),
        (["http://example.com/a.pth"], ExitCode.USAGE, "https:// is accepted"),
        (["URL", "--name", "../x"], ExitCode.USAGE, "cannot be named"),
        (["URL", "--name", "bicubic"], ExitCode.USAGE, "needs no pull"),
        (["URL", "--name", "dovetail-dit-nano"], ExitCode.USAGE, "needs no pull"),
        (["URL", "--sha256", "abc"], ExitCode.USAGE, "64 hexadecimal digits"),
        (["URL", "--accept-licence", "--max-gb", "0.0001"], ExitCode.USAGE, "the limit is"),
        (["URL", "--licence", "?"], ExitCode.USAGE, "no SPDX identifier"),
        (["http://127.0.0.1/a.py"], ExitCode.USAGE, "no file of weights"),
        (["URL/absent.pth", "--accept-licence"], ExitCode.MODEL, "404 Not Found"),
    ],
)
def test_errors_have_exit_codes(
    arguments: list[str], exit_code: int, says: str, dovetail: Dovetail, url: str, store: ModelStore
) -> None:
    result = dovetail("models", "pull", *(text.replace("URL", url) for text in arguments))
    assert (result.exit_code, says in result.stderr) == (exit_code, True), result.stderr
    assert "Traceback" not in result.stderr
    assert store.names() == []


def test_names_of_interpolation_are_reserved() -> None:
    assert get_args(InterpolationMethod) == INTERPOLATION_NAMES


def test_errors_without_torch_have_exit_codes_too(url: str) -> None:
    finished = subprocess.run(
        command("verify", "absent"), cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == ExitCode.MODEL
    assert finished.stderr.startswith("error: no model 'absent' was pulled")


def test_existing_model_is_replaced_only_when_asked_for(dovetail: Dovetail, url: str, pulled: str) -> None:
    result = dovetail("models", "pull", url, "--accept-licence", "--json")
    assert result.exit_code == ExitCode.OUTPUT
    assert json.loads(result.stdout)["error"]["code"] == "model_exists"
    assert dovetail("models", "pull", url, "--accept-licence", "--overwrite").exit_code == ExitCode.OK


def test_hub_of_the_environment_is_asked(web: Web, store: ModelStore) -> None:
    put_repository(web, "owner/net", {"4x.safetensors": BODY}, card={"license": "apache-2.0"})
    environment = os.environ | {"HF_ENDPOINT": web.url}
    finished = subprocess.run(
        command("pull", "owner/net"), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert finished.stdout == "net\n"
    assert "licence: Apache-2.0 (as the model card says)" in finished.stderr
    assert find_pulled("net", folder=store.folder) == store.path("net") / "4x.safetensors"


def test_interrupted_pull_goes_on(web: Web, url: str, store: ModelStore, dovetail: Dovetail) -> None:
    gate = threading.Event()
    web.change("/4x_net.safetensors", gate=gate)
    arguments = ["models", "pull", url, "--accept-licence"]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    while not any(path.stat().st_size for path in store.folder.rglob("*.part")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    gate.set()
    assert process.returncode == ExitCode.INTERRUPTED
    assert "the same command goes on" in said
    assert re.search(r"0\.\d MB of a pull that did not end", dovetail("models", "list").stderr)
    assert dovetail("models", "pull", url, "--accept-licence").exit_code == ExitCode.OK
    assert web.ranges()[1] is not None


@pytest.mark.parametrize("arguments", [[], ["list"]])
def test_models_are_listed(arguments: list[str], dovetail: Dovetail, pulled: str, url: str) -> None:
    text = dovetail("models", *arguments).stdout
    assert "dovetail-nano-2 (default)" in text
    assert f"{pulled}\n  kind: network\n  licence: unknown\n  source: {url}\n  size: 0.2 MB\n" in text
    found = json.loads(dovetail("models", *arguments, "--json").stdout)
    names = [model["name"] for model in found["models"]]
    assert names[-3:] == [pulled, "bicubic", "lanczos"]
    model = found["models"][-3]
    assert (model["licence"], model["size_bytes"]) == ("unknown", len(BODY))
    assert Path(model["folder"]).is_dir()


def test_json_is_an_option_of_the_commands(dovetail: Dovetail) -> None:
    result = dovetail("models", "--json", "verify")
    assert result.exit_code == ExitCode.USAGE
    assert "after the command" in result.stderr


def test_list_names_a_model_whose_record_is_damaged(
    dovetail: Dovetail, pulled: str, store: ModelStore
) -> None:
    (store.path(pulled) / "store.json").write_text("{")
    result = dovetail("models", "list")
    assert result.exit_code == ExitCode.OK
    assert "store.json is not a valid record" in result.stderr
    assert pulled not in result.stdout


def test_verify_names_damaged_files(dovetail: Dovetail, url: str, pulled: str, store: ModelStore) -> None:
    assert dovetail("models", "pull", url, "--name", "other", "--licence", "MIT").exit_code == 0
    result = dovetail("models", "verify")
    assert (result.exit_code, result.stdout) == (0, "4x_net: ok, 1 file, 0.2 MB\nother: ok, 1 file, 0.2 MB\n")
    (store.path("other") / "4x_net.safetensors").write_bytes(BODY[:-1] + b"!")
    result = dovetail("models", "verify")
    assert result.exit_code == ExitCode.MODEL
    assert "4x_net: ok" in result.stdout
    assert "other: damaged\n  4x_net.safetensors has SHA-256" in result.stdout
    result = dovetail("models", "verify", "--json")
    assert result.exit_code == ExitCode.MODEL
    whole, damaged = json.loads(result.stdout)["models"]
    assert whole == {"name": "4x_net", "is_damaged": False, "problems": []}
    assert (damaged["name"], damaged["is_damaged"], len(damaged["problems"])) == ("other", True, 1)
    assert dovetail("models", "verify", "4x_net").exit_code == ExitCode.OK
    (store.path("other") / "store.json").unlink()
    assert "store.json cannot be read" in dovetail("models", "verify", "other").stdout
    assert dovetail("models", "verify", "absent").exit_code == ExitCode.MODEL


def test_remove_wants_to_be_sure(dovetail: Dovetail, pulled: str, store: ModelStore) -> None:
    result = dovetail("models", "remove", pulled)
    assert result.exit_code == ExitCode.USAGE
    assert "--yes" in result.stderr
    assert store.names() == [pulled]
    assert dovetail("models", "remove", pulled, "--yes").exit_code == ExitCode.OK
    assert store.names() == []
    assert dovetail("models", "remove", pulled, "--yes").exit_code == ExitCode.MODEL
    assert dovetail("models", "remove", "../models", "--yes").exit_code == ExitCode.MODEL


def test_store_is_where_the_environment_says() -> None:
    home = Path.home()
    assert store_folder({}) == home / ".local/share/dovetail/models"
    assert store_folder({"XDG_DATA_HOME": "/data"}) == Path("/data/dovetail/models")
    assert store_folder({"XDG_DATA_HOME": "data"}) == home / ".local/share/dovetail/models"
    assert store_folder({"XDG_DATA_HOME": "/data", "DOVETAIL_MODELS_DIR": "~/m"}) == home / "m"
