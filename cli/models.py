"""`dovetail models`: what can be given to `--model`, and which models are on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import UsageError, print_error, reported_errors
from cli.exit_codes import ExitCode
from cli.pull import ask, pull
from cli.store_folder import store_folder

if TYPE_CHECKING:
    from pipelines.store import StoredModel

models = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
models.command()(pull)

UseJson = Annotated[bool, typer.Option("--json", help="Write JSON.")]


@models.callback()
def list_without_command(
    context: typer.Context, use_json: Annotated[bool, typer.Option("--json", hidden=True)] = False
) -> None:
    """List models, and pull others from the Hugging Face hub or the web. Without a command: list."""
    if context.invoked_subcommand is None:
        list_all(use_json)
    elif use_json:
        with reported_errors():
            raise UsageError(
                f"write --json after the command: dovetail models {context.invoked_subcommand} --json"
            )


@models.command("list")
def list_all(use_json: UseJson = False) -> None:
    """List the models that --model takes by name: those of this installation and pulled ones."""
    with reported_errors(as_json=use_json):
        found, unfinished = list_models(), list_unfinished()
    if use_json:
        typer.echo(json.dumps({"version": 1, "models": found, "unfinished": unfinished}, indent=2))
        return
    for model in found:
        typer.echo(f"{model['name']}{' (default)' if model['is_default'] else ''}")
        shown = model | {"size": megabytes(model["size_bytes"]) if model["size_bytes"] else ""}
        for name in ("kind", "scale", "licence", "source", "size", "folder"):
            if shown[name]:
                typer.echo(f"  {name}: {shown[name]}")
    for part in unfinished:
        typer.echo(
            f"{part['name']}: {megabytes(part['size_bytes'])} of a pull that did not end; the same pull goes "
            f"on, 'dovetail models remove {part['name']}' deletes it",
            err=True,
        )
    typer.echo(
        "Any folder or hub id with a checkpoint in the layout of diffusers works as well, and any file"
    )
    typer.echo("with the weights of a per-frame network (.safetensors, .pth, .pt, .ckpt).")


@models.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Pulled models. Default: all.")
    ] = None,
    use_json: UseJson = False,
) -> None:
    """Read pulled models again and compare them with the digests that were recorded."""
    with reported_errors(as_json=use_json):
        from pipelines.store import ModelStore
        from pipelines.store.errors import DamagedModelError

        store = ModelStore(store_folder())
        found: list[dict[str, Any]] = []
        for name in names or store.names():
            try:
                problems = store.verify(name)
            except DamagedModelError as error:
                problems = [str(error)]
            found.append({"name": name, "is_damaged": bool(problems), "problems": problems})
            if not use_json:
                typer.echo(f"{name}: damaged" if problems else f"{name}: ok, {describe(store.read(name))}")
                for problem in problems:
                    typer.echo(f"  {problem}")
    if use_json:
        typer.echo(json.dumps({"version": 1, "models": found}, indent=2))
    if any(model["is_damaged"] for model in found):
        print_error("there is damage", ["'dovetail models pull ... --overwrite' brings a model anew"])
        raise typer.Exit(ExitCode.MODEL)


@models.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pulled model.", show_default=False)],
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a pulled model, or what has come of a pull that did not end."""
    with reported_errors():
        from pipelines.store import ModelStore

        store = ModelStore(store_folder())
        if name not in store.unfinished() and name not in store.names():
            store.read(name)  # says which there are
        if not is_sure:
            if not sys.stdin.isatty():
                raise UsageError(f"nobody can be asked whether to delete {name!r} here; --yes says so")
            if not ask(f"Delete {name} from {store.folder}?"):
                raise typer.Exit
        with store.locked(name, on_wait=lambda: typer.echo(f"waiting for a pull of {name}", err=True)):
            store.remove(name)
    typer.echo(f"removed {name}", err=True)


def list_models() -> list[dict[str, Any]]:
    """Embedded checkpoints, pulled models and interpolation, as JSON values."""
    from pipelines.dove.description import EMBEDDED_FOLDER, embedded_checkpoints
    from pipelines.interpolation import DEFAULT_SCALE, METHODS
    from pipelines.loaders import DEFAULT_MODEL

    embedded = [_checkpoint(EMBEDDED_FOLDER / name, DEFAULT_MODEL) for name in embedded_checkpoints()]
    interpolation = [
        {
            "name": name,
            "kind": "interpolation",
            "is_default": False,
            "scale": DEFAULT_SCALE,
            "licence": "",
            "source": "",
            "size_bytes": None,
            "folder": "",
        }
        for name in METHODS
    ]
    return [*embedded, *_pulled(), *interpolation]


def list_unfinished() -> list[dict[str, Any]]:
    """Pulls that did not end, as JSON values."""
    from pipelines.store import ModelStore

    left = ModelStore(store_folder()).unfinished()
    return [{"name": name, "size_bytes": size} for name, size in left.items()]


def describe(model: StoredModel) -> str:
    """Files and bytes, for people."""
    num_files = len(model.files)
    return f"{num_files} file{'s' if num_files > 1 else ''}, {megabytes(model.size_bytes)}"


def megabytes(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes < 1e9 else f"{num_bytes / 1e9:.2f} GB"


def _checkpoint(folder: Path, default: str) -> dict[str, Any]:
    from pipelines.dove.description import read_description as read_dovetail
    from pipelines.propagation.checkpoint import DESCRIPTION_NAME, read_description

    common = {
        "name": folder.name,
        "is_default": folder.name == default,
        "size_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "folder": str(folder),
    }
    if (folder / DESCRIPTION_NAME).is_file():
        restorer = read_description(folder)
        described = {"kind": "propagation", "scale": max(restorer.network.scales)}
        return common | described | {"licence": restorer.licence, "source": restorer.source}
    checkpoint = read_dovetail(folder)
    described = {"kind": "diffusion", "scale": checkpoint.scale}
    return common | described | {"licence": checkpoint.licence, "source": checkpoint.source}


def _pulled() -> list[dict[str, Any]]:
    from pipelines.store import ModelStore
    from pipelines.store.errors import DamagedModelError

    store, found = ModelStore(store_folder()), []
    for name in store.names():
        try:
            model = store.read(name)
        except DamagedModelError as error:
            print_error(str(error), [f"'dovetail models remove {name}' deletes it"])
            continue
        found.append(
            {
                "name": name,
                "kind": model.kind,
                "is_default": False,
                "scale": None,
                "licence": model.licence or "unknown",
                "source": model.source + (f" at {model.revision}" if model.revision else ""),
                "size_bytes": model.size_bytes,
                "folder": str(store.path(name)),
            }
        )
    return found
