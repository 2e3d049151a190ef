"""`dovetail jobs`: what a service is doing, has done, and should do no more."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli._client import ApiKey, Url, UseJson, connect, parse_labels
from cli._followed_results import finish, follow_jobs
from cli._following import Followed, output_error
from cli._moments import make_moment_display, moment_of_job, moment_of_transfer
from cli.display import clock_time, count_of_frames
from cli.errors import OutputExistsError, report_error, reported_errors
from cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from dovetail_client import Dovetail, Job

jobs = typer.Typer(
    help="List and manage the jobs of a service.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of jobs.", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a job.", show_default=False)]


@jobs.command("list")
def list_jobs(
    status: Annotated[
        list[str] | None,
        typer.Option(help="queued, in_progress, completed, failed, cancelling or cancelled; repeatable."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only with this label; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    use_json: UseJson = False,
) -> None:
    """List jobs, the newest first."""
    with reported_errors(as_json=use_json), connect(url, api_key) as client:
        found = list(client.list(status=status or (), labels=parse_labels(label or []), limit=limit))
    if use_json:
        typer.echo(json.dumps([job.model_dump(mode="json") for job in found], indent=2))
    else:
        typer.echo("\n".join(table([HEADINGS, *map(row_of, found)]) if found else ["no jobs"]))


@jobs.command()
def show(id: Id, url: Url = None, api_key: ApiKey = None, use_json: UseJson = False) -> None:
    """Show all that is known about a job."""
    with reported_errors(as_json=use_json), connect(url, api_key) as client:
        job = client.get(id)
    typer.echo(job.model_dump_json(indent=2) if use_json else "\n".join(describe(job)))


@jobs.command()
def cancel(ids: Ids, url: Url = None, api_key: ApiKey = None) -> None:
    """Stop jobs. Finished segments are kept for a retry."""
    _for_each(ids, lambda client, id: f"{id}: {client.cancel(id).status}", url, api_key)


@jobs.command()
def retry(ids: Ids, url: Url = None, api_key: ApiKey = None) -> None:
    """Let failed or cancelled jobs go on where they ended."""
    _for_each(ids, lambda client, id: f"{id}: {client.retry(id).status}", url, api_key)


@jobs.command()
def delete(ids: Ids, url: Url = None, api_key: ApiKey = None) -> None:
    """Delete jobs with all their files."""

    def delete_one(client: Dovetail, id: str) -> str:
        client.delete(id)
        return f"{id}: deleted"

    _for_each(ids, delete_one, url, api_key)


@jobs.command()
def download(
    id: Id,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="A file, or a folder for a name like the source's."),
    ] = Path(),
    use_overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Download a result and check it. An interrupted download goes on where it ended."""
    with reported_errors(), connect(url, api_key) as client:
        from dovetail_client import default_name

        job = client.get(id)
        destination = output / default_name(job) if output.is_dir() else output
        if destination.exists() and not use_overwrite:
            raise OutputExistsError(f"{destination} exists already; --overwrite replaces it")
        with make_moment_display(is_quiet=False) as display:
            show_moment = display.begin(destination.name)
            try:
                client.download(
                    job,
                    destination,
                    on_progress=lambda done, total: show_moment(
                        moment_of_transfer("downloading", done, total)
                    ),
                )
            except OSError as error:
                raise output_error(error, destination) from error
    typer.echo(destination)


@jobs.command()
def watch(
    ids: Ids,
    url: Url = None,
    api_key: ApiKey = None,
    use_json: UseJson = False,
) -> None:
    """Show the progress of jobs until they end."""
    with reported_errors(as_json=use_json):
        with connect(url, api_key) as client:
            followed = [Followed(name=name_of(job), job=job) for job in map(client.get, ids)]
        is_interrupted = follow_jobs(followed, url=url, api_key=api_key, use_wait=True, is_quiet=False)
    finish(followed, is_interrupted=is_interrupted, use_json=use_json, is_quiet=False)


def _for_each(
    ids: Iterable[str], act: Callable[[Dovetail, str], str], url: str | None, api_key: str | None
) -> None:
    """Does something with each job; one that cannot does not keep the others from it."""
    codes = []
    with reported_errors(), connect(url, api_key) as client:
        from dovetail_client import APIError

        for id in ids:
            try:
                typer.echo(act(client, id))
                codes.append(ExitCode.OK)
            except APIError as error:
                codes.append(report_error(error))
    if any(codes):
        raise typer.Exit(codes[0] if len(codes) == 1 else ExitCode.PARTIAL)


HEADINGS = ("ID", "STATUS", "PROGRESS", "CREATED", "SIZE", "NAME")


def row_of(job: Job) -> tuple[str, ...]:
    """A job as cells of the table."""
    created = "" if job.created_at is None else job.created_at.astimezone().strftime("%Y-%m-%d %H:%M")
    moment = moment_of_job(job)
    progress = moment.detail or f"{job.progress:.0f}%"
    status = moment.stage if job.status == "in_progress" else str(job.status)
    size = "" if job.output is None else f"{job.output.width}x{job.output.height}"
    return job.id, status, progress, created, size, name_of(job)


def table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines with columns as wide as they need to be."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def describe(job: Job) -> list[str]:
    """Lines about a job, for people."""
    moment = moment_of_job(job)
    source, output = job.input, job.output
    facts = {
        "status": listed(str(job.status), job.stage, moment.detail, f"{job.progress:.0f}%"),
        "input": listed(
            name_of(job),
            f"{source.width}x{source.height}" if source.width else None,
            None if source.duration_seconds is None else clock_time(source.duration_seconds),
            None if source.size_bytes is None else f"{source.size_bytes / 1e6:.1f} MB",
        ),
        "output": ""
        if output is None
        else f"{output.width}x{output.height}, {count_of_frames(output.num_frames)}, "
        f"{output.size_bytes / 1e6:.1f} MB",
        "options": ", ".join(f"{name} {value}" for name, value in job.options.items() if value is not None),
        "priority": str(job.priority),
        "labels": ", ".join(f"{name}={value}" for name, value in job.labels.items()),
        "metadata": json.dumps(job.metadata) if job.metadata else "",
        "created": "" if job.created_at is None else str(job.created_at),
        "completed": "" if job.completed_at is None else str(job.completed_at),
        "expires": "" if job.expires_at is None else str(job.expires_at),
        "error": "" if job.error is None else f"{job.error.message} ({job.error.code})",
    }
    lines = [job.id, *(f"  {name}: {value}" for name, value in facts.items() if value)]
    return lines + [f"  warning: {warning}" for warning in job.warnings]


def listed(*facts: str | None) -> str:
    """Those facts that there are, with commas."""
    return ", ".join(fact for fact in facts if fact)


def name_of(job: Job) -> str:
    """What people call a job: the name of its source."""
    return printable(job.input.filename) or job.id


def printable(text: str | None) -> str:
    """Text of somebody else, without what would steer a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text or "")
