"""`dovetail dataset`: footage to train on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import reported_errors
from cli.sandboxing import UseSandbox, media_access

dataset = typer.Typer(help="Make training data of one's own footage.", no_args_is_help=True)


@dataset.callback()
def _group() -> None:
    """Keeps `build` a command with a name while it is the only one."""


@dataset.command()
def build(
    sources: Annotated[
        list[Path], typer.Argument(help="Video files, and folders that are searched through.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for the data set: new, or of an earlier build.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Limits (YAML); docs/datasets.md lists them with their defaults."),
    ] = None,
    min_side: Annotated[
        int | None, typer.Option(min=16, metavar="PIXELS", help="Shorter side of sources and clips.")
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="Share of the scenes within all limits that is kept, the best."),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="Licence of all sources that --licences does not name; for the decisions.")
    ] = "",
    licences: Annotated[
        Path | None,
        typer.Option(help="Licence and provenance by pattern of paths (YAML), see docs/datasets.md."),
    ] = None,
    use_sandbox: UseSandbox = True,
) -> None:
    """Choose clips to train on as DOVE's HQ-VSR was chosen: metadata, scenes, quality, motion.

    Run it again with the same folder to go on after an interruption, or after sources or limits have
    changed. OUT/decisions.jsonl says of every source and scene what became of it and why, and
    OUT/contact-sheet-01.png shows it. `dovetail train --data OUT` takes the result.
    """
    with reported_errors():
        from training.dataset import LicenceBook, build_dataset, load_dataset_config

        limits = load_dataset_config(config)
        if min_side is not None:
            limits = limits.model_copy(
                update={"metadata": limits.metadata.model_copy(update={"min_side": min_side})}
            )
        if keep is not None:
            limits = limits.model_copy(update={"quality": limits.quality.model_copy(update={"keep": keep})})
        summary = build_dataset(
            sources,
            out,
            config=limits,
            licences=LicenceBook.read(licences, default=licence),
            access=media_access(use_sandbox=use_sandbox),
            on_progress=lambda line: typer.echo(line, err=True),
        )
    typer.echo(
        f"{summary.num_clips} clips of {summary.num_scenes} scenes, from {summary.num_read} of "
        f"{summary.num_sources} sources; {summary.num_written} written now, {summary.num_removed} removed"
    )
    typer.echo(f"dovetail train will hold {summary.memory_bytes / 1e9:.1f} GB of them in memory")
    if summary.num_unlicensed:
        typer.echo(f"{summary.num_unlicensed} clips are of sources without a licence (--licence, --licences)")
    typer.echo(f"decisions: {out / 'decisions.jsonl'}")
    for sheet in summary.sheets:
        typer.echo(f"contact sheet: {sheet}")
