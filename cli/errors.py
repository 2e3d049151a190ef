"""Errors of the command line itself, and how any error reaches the user."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, TypeGuard

import typer

from cli.exit_codes import ExitCode, exit_code_for

if TYPE_CHECKING:
    from dovetail_client import DovetailError
    from jobs.errors import JobsError


class CommandError(Exception):
    """Base of the errors of the command line itself."""

    code: ClassVar[str] = "usage"


class UsageError(CommandError):
    """Raised when arguments make no sense together."""


class InputError(CommandError):
    """Raised when a source cannot be read."""

    code = "unreadable_input"


class OutputError(CommandError):
    """Raised when a result cannot be written."""

    code = "output_folder"


class OutputExistsError(CommandError):
    """Raised when a result would replace a file."""

    code = "output_exists"


@contextmanager
def reported_errors(*, as_json: bool = False) -> Iterator[None]:
    """Ends the command with a message and the right exit code when the block raises.

    Raises:
        typer.Exit: For every exception.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BaseException as error:
        raise typer.Exit(report_error(error, as_json=as_json)) from None


def report_error(error: BaseException, *, as_json: bool = False) -> ExitCode:
    """Writes an error to stderr (and, as JSON, to stdout).

    Returns:
        The exit code for it.
    """
    code = error_code(error)
    is_service = _is_client_error(error) or _is_jobs_error(error)
    exit_code = exit_code_for(code, default=ExitCode.SERVICE if is_service else ExitCode.UNEXPECTED)
    if exit_code is ExitCode.UNEXPECTED:
        # A bug: whoever reports it needs more than a line.
        traceback.print_exception(error, file=sys.stderr)
    hints = list(getattr(error, "__notes__", ()))
    message = str(error) or type(error).__name__
    if as_json:
        content = {
            "version": 1,
            "exit_code": int(exit_code),
            "error": {"code": code, "message": message, "hints": hints},
            "results": [],
        }
        typer.echo(json.dumps(content, indent=2))
    print_error(message, hints, is_interrupt=exit_code is ExitCode.INTERRUPTED)
    return exit_code


def print_error(message: str, hints: list[str], *, is_interrupt: bool = False) -> None:
    """Writes a message and what to do about it to stderr."""
    typer.echo("interrupted" if is_interrupt else f"error: {message}", err=True)
    for hint in hints:
        typer.echo(f"  {hint}", err=True)


def error_code(error: BaseException) -> str:
    """The stable name of an error of any of our packages, "unexpected" for all others."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, CommandError) or _is_client_error(error) or _is_jobs_error(error):
        return str(error.code)
    training_errors = sys.modules.get("training.errors")
    if training_errors is not None and isinstance(error, training_errors.TrainingError):
        return str(error.code)
    if "workers.run.report" not in sys.modules and "torch" not in sys.modules:
        # What needs no torch can still fail: the store of pulled models.
        pipeline_errors = sys.modules.get("pipelines.errors")
        if pipeline_errors is not None and isinstance(error, pipeline_errors.PipelineError):
            return str(error.code)
        return "unexpected"
    from workers.run.report import error_code

    return error_code(error)


def _is_client_error(error: BaseException) -> TypeGuard[DovetailError]:
    client_errors = sys.modules.get("dovetail_client.errors")
    return client_errors is not None and isinstance(error, client_errors.DovetailError)


def _is_jobs_error(error: BaseException) -> TypeGuard[JobsError]:
    jobs_errors = sys.modules.get("jobs.errors")
    return jobs_errors is not None and isinstance(error, jobs_errors.JobsError)
