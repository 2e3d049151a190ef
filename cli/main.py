"""The `dovetail` command: one module per command, gathered here.

Modules of commands import torch and the packages that need it inside their functions, so that `--help` and
usage errors come at once.
"""

from __future__ import annotations

import typer

from cli.bench import bench
from cli.calibrate import calibrate
from cli.dataset import dataset
from cli.evaluate import evaluate
from cli.exit_codes import exit_codes_help
from cli.jobs import jobs
from cli.keys import keys
from cli.models import models
from cli.probe import probe
from cli.serve import api, serve
from cli.submit import submit
from cli.train import train
from cli.upscale import upscale
from cli.worker import worker

app = typer.Typer(
    name="dovetail",
    help="One-step diffusion video super-resolution.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=exit_codes_help())(upscale)
app.command()(probe)
app.add_typer(models, name="models")
app.command()(bench)
app.add_typer(dataset, name="dataset")
app.command()(train)
app.command()(calibrate)
app.command()(evaluate)
app.command(epilog=exit_codes_help())(submit)
app.add_typer(jobs, name="jobs")
app.command()(serve)
app.command()(api)
app.command()(worker)
app.add_typer(keys, name="keys")


def main() -> None:
    """Entry point of the `dovetail` command."""
    app()


if __name__ == "__main__":
    main()
