"""`dovetail models`: what can be given to `--model`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.errors import reported_errors


def models(use_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False) -> None:
    """List the models that need no download, with their folders and licences."""
    with reported_errors(as_json=use_json):
        found = list_models()
    if use_json:
        typer.echo(json.dumps({"version": 1, "models": found}, indent=2))
        return
    for model in found:
        typer.echo(f"{model['name']}{' (default)' if model['is_default'] else ''}")
        for name in ("kind", "scale", "licence", "source", "folder"):
            if model[name]:
                typer.echo(f"  {name}: {model[name]}")
    typer.echo(
        "Any folder or hub id with a checkpoint in the layout of diffusers works as well, and any file"
    )
    typer.echo("with the weights of a per-frame network (.safetensors, .pth, .pt, .ckpt).")


def list_models() -> list[dict[str, Any]]:
    """Embedded checkpoints and interpolation, as JSON values."""
    from pipelines.dove.description import read_description
    from pipelines.dove.loading import EMBEDDED_FOLDER, embedded_checkpoints
    from pipelines.interpolation import DEFAULT_SCALE, METHODS
    from pipelines.loaders import DEFAULT_MODEL

    found = [
        _checkpoint(name, EMBEDDED_FOLDER / name, read_description, DEFAULT_MODEL)
        for name in embedded_checkpoints()
    ]
    return found + [
        {
            "name": name,
            "kind": "interpolation",
            "is_default": False,
            "scale": DEFAULT_SCALE,
            "licence": "",
            "source": "",
            "folder": "",
        }
        for name in METHODS
    ]


def _checkpoint(name: str, folder: Path, read_description: Any, default: str) -> dict[str, Any]:
    description = read_description(folder)
    return {
        "name": name,
        "kind": "diffusion",
        "is_default": name == default,
        "scale": description.scale,
        "licence": description.licence,
        "source": description.source,
        "folder": str(folder),
    }
