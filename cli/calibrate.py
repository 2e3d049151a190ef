"""`dovetail calibrate`: routes for the attention heads of a checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli import upscale_options as options
from cli.errors import UsageError, reported_errors


def calibrate(
    checkpoint: Annotated[
        Path, typer.Argument(help="Folder of a diffusion checkpoint with full attention in all layers.")
    ],
    clips: Annotated[Path, typer.Argument(help="Folder with low-resolution clips, two at least.")],
    budget: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=1,
            help="Share of full attention's pairs that may be left: heads that lose least are local.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, help="Nats: all heads that lose less are local. Either this or --budget."),
    ] = None,
    max_frames: Annotated[int, typer.Option(min=1, help="Frames of each clip.")] = 33,
    device: options.Device = "auto",
) -> None:
    """Route the heads of a checkpoint (OASIS): which of them may look at their frame or surroundings only.

    Measures for each head how much its attention changes, KL(local || global), and writes a table into the
    checkpoint's dovetail.json, bound to its weights, and a picture of it (routes.png) beside that. Quality
    without training afterwards is not known: evaluate it.
    """
    with reported_errors():
        from pipelines.dove.attention.calibration import (
            LOCAL_ROUTES,
            routes_below_threshold,
            routes_within_budget,
        )
        from pipelines.dove.pipeline import DovePipeline
        from training.evaluation import list_clips
        from training.routing import calibrate as measure
        from training.routing import write_routes
        from training.routing_map import MAP_NAME, plot_routes

        if budget is not None and threshold is None:
            assign = partial(routes_within_budget, budget=budget)
        elif threshold is not None and budget is None:
            assign = partial(routes_below_threshold, threshold=threshold)
        else:
            given = "neither" if budget is None else "both"
            raise UsageError(f"give either --budget or --threshold; {given} of them was given")
        pipeline = DovePipeline.from_checkpoint(checkpoint, device=device)
        found = measure(pipeline, list_clips(clips), assign=assign, max_frames=max_frames)
        write_routes(checkpoint, found)
        plot_routes(checkpoint, found)
    for number, (routes, lost) in enumerate(zip(found.heads, found.divergence, strict=True)):
        nats = (
            f"{name} {' '.join(f'{x:.2f}' for x in row)}"
            for name, row in zip(LOCAL_ROUTES, lost, strict=True)
        )
        typer.echo(f"layer {number}: {' '.join(routes)} (KL: {'; '.join(nats)})")
    typer.echo(
        f"{found.pairs:.0%} of full attention's pairs are left; two halves of the clips agree on "
        f"{found.agreement:.0%} of the heads; picture: {checkpoint / MAP_NAME}"
    )
