"""What is not Python, by its own linters: the Dockerfile, shell scripts, YAML, the release workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.chart import CHART, INSTALLATIONS, PATH, ROOT, rendered_text

# Not as git lists them: in the release workflow's container it refuses a checkout of another user.
_FILES = [
    path
    for folder in (
        ".ci",
        ".github",
        "benchmarks",
        "configs",
        "deploy",
        "docker",
        "scripts",
        "tests",
        "training",
    )
    for path in (ROOT / folder).rglob("*")
    if path.is_file()
] + [*ROOT.glob("*.yaml"), *ROOT.glob(".*.yaml")]
SHELL = [path for path in _FILES if re.match(rb"#!.*\b(ba)?sh\n", path.read_bytes()[:64])]
# Templates are YAML only when they are rendered.
YAML = [path for path in _FILES if path.suffix == ".yaml" and CHART / "templates" not in path.parents]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def lint(program: str, *arguments: str | Path, text: str | None = None) -> str:
    """What a linter has to say; nothing where it is content.

    Args:
        text: Its standard input.
    """
    found = shutil.which(program, path=PATH)
    if found is None:
        # CI requires them; a machine without the package index may do without.
        assert os.environ.get("DOVETAIL_REQUIRE_LINTERS") != "1", f"{program} is missing"
        pytest.skip(f"{program} is not installed; scripts/install_linters.sh does it")
    # actionlint looks for shellcheck itself.
    environment = {**os.environ, "PATH": PATH}
    command = [found, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, input=text, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    assert bool(said) == (done.returncode != 0), f"{program} ends with {done.returncode}: {said}"
    return said


def test_dockerfile_passes_hadolint() -> None:
    assert lint("hadolint", ROOT / "docker/Dockerfile") == ""
    assert "DL3020" in lint("hadolint", "-", text="FROM debian:12\nADD file /file\n")


def test_shell_scripts_pass_shellcheck() -> None:
    assert len(SHELL) >= 10
    assert lint("shellcheck", *SHELL) == ""
    assert "SC2086" in lint("shellcheck", "-", text="#!/bin/sh\nrm $1\n")


def test_yaml_passes_yamllint() -> None:
    assert len(YAML) >= 15
    assert lint("yamllint", "--strict", *YAML) == ""
    assert "duplication of key" in lint("yamllint", "--strict", "-", text="name: a\nname: b\n")


@pytest.mark.usefixtures("helm_program")
@pytest.mark.parametrize("values", [None, *INSTALLATIONS], ids=lambda path: path and path.stem)
def test_no_object_of_the_chart_says_a_thing_twice(values: Path | None) -> None:
    """Of two keys of one name parsers take the last, and Kubernetes' strict decoding refuses both."""
    rules = "{rules: {key-duplicates: enable, document-end: disable}}"
    assert lint("yamllint", "--strict", "-d", rules, "-", text=rendered_text(values)) == ""


def test_workflows_and_the_shell_scripts_in_them_pass_actionlint() -> None:
    assert lint("actionlint", *WORKFLOWS) == ""
    steps = "jobs: {a: {runs-on: ubuntu-24.04, steps: [{run: echo $HOME}]}}"
    assert "SC2086" in lint("actionlint", "-", text=f"on: push\n{steps}\n")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_of_others_are_named_by_commits(path: Path) -> None:
    """A tag is moved by whoever takes over its repository."""
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w/.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", name)] == []
