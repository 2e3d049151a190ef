"""Prints what pip installs for an image, from pyproject.toml: what Dovetail itself needs, and some extras.

Usage, where pyproject.toml is: python requirements.py [--without-models] EXTRA...

spandrel is left out: it asks for torchvision, which it does not need, so it is installed by itself.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

# Only what runs models: the API plans and reads videos without them.
MODEL_PACKAGES = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface-hub"}


def requirements(extras: list[str], *, with_models: bool) -> list[str]:
    """Requirement specifiers, without those on Dovetail itself.

    Raises:
        KeyError: If there is no such extra.
    """
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    found: dict[str, None] = dict.fromkeys(project["dependencies"])
    waiting = list(extras)
    while waiting:
        for requirement in project["optional-dependencies"][waiting.pop()]:
            own = re.fullmatch(r"dovetail-vsr\[(.+)\]", requirement)
            if own:
                waiting += own[1].split(",")
            else:
                found[requirement] = None
    left_out = {"spandrel"} if with_models else MODEL_PACKAGES
    return [text for text in found if name_of(text) not in left_out]


def name_of(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match
    return match[0]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    with_models = "--without-models" not in arguments
    print("\n".join(requirements([a for a in arguments if not a.startswith("-")], with_models=with_models)))
