"""`dovetail worker`: takes tasks from the queue of an installation and does them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import reported_errors
from cli.sandboxing import check_sandbox


def worker(
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N. Default: auto.", show_default=False)
    ] = None,
    device_index: Annotated[
        int | None,
        typer.Option(
            min=0, help="Number among several workers of a machine: it takes that GPU, if there are any."
        ),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Kinds of tasks that it takes, separated by commas: plan, segment, join. Workers that take "
            "segment also decide what is made of a job; those that do not load no model. Default: all three.",
            show_default=False,
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A model that jobs may name; can be given several times, the first is the default.",
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="As for serve. Default: dovetail-data.", show_default=False)
    ] = None,
    parent_pid: Annotated[
        int | None, typer.Option(hidden=True, help="End when this process is gone.")
    ] = None,
) -> None:
    """Run a worker: it plans jobs, makes their segments and joins them, one task at a time.

    DOVETAIL_REDIS_URL and DOVETAIL_STORAGE_URL say where jobs and files are. SIGTERM lets it finish its
    segment, a second one gives the segment back at once.
    """
    with reported_errors():
        from cli._logging import configure_logging
        from cli._parent import end_with_parent
        from cli._settings import read_settings
        from cli.store_folder import store_folder
        from jobs.settings import WorkerSettings

        given = {
            "device": device,
            "only": only,
            "models": tuple(models) if models else None,
            "models_dir": store_folder(),
            "data_dir": data_dir,
        }
        settings = read_settings(WorkerSettings, given)
        configure_logging()
        if device_index is not None:
            settings = settings.model_copy(update={"device": _numbered_device(device_index)})
        if parent_pid is not None:
            end_with_parent(parent_pid)

        from workers.process import make_sandbox, run_worker

        with make_sandbox() as sandbox:
            check_sandbox(sandbox, is_required=settings.requires_sandbox)
            run_worker(settings, sandbox=sandbox)


def _numbered_device(index: int) -> str:
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{index % count}" if count else "cpu"
