"""How `dovetail upscale` went: what it prints, its JSON and its exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from cli.display import print_line, summarize
from cli.errors import print_error
from cli.exit_codes import ExitCode, exit_code_for

if TYPE_CHECKING:
    from workers.run.report import UpscaleReport


def finish(
    reports: list[UpscaleReport],
    *,
    num_inputs: int,
    skipped: list[Path],
    use_json: bool,
    is_quiet: bool,
) -> NoReturn:
    """Tells how it went and ends the command.

    Raises:
        typer.Exit: Always.
    """
    code = overall_exit_code(num_inputs, reports)
    if use_json:
        typer.echo(json.dumps(results_json(reports, skipped, code), indent=2))
    for report in reports:
        if report.error is not None:
            prefix = f"{report.source}: " if num_inputs > 1 else ""
            print_error(
                prefix + report.error.message,
                list(report.error.hints),
                is_interrupt=report.status == "interrupted",
            )
        elif not is_quiet:
            print_line(summarize(report))
    if num_inputs > 1 and not is_quiet:
        num_good = sum(report.error is None for report in reports)
        print_line(f"{num_good} of {num_inputs} inputs finished")
    raise typer.Exit(code)


def overall_exit_code(num_inputs: int, reports: list[UpscaleReport]) -> ExitCode:
    """The exit code for all inputs together."""
    codes = [ExitCode.OK if r.error is None else exit_code_for(r.error.code) for r in reports]
    if ExitCode.INTERRUPTED in codes:
        return ExitCode.INTERRUPTED
    if num_inputs == 1:
        return codes[0]
    return ExitCode.OK if all(code is ExitCode.OK for code in codes) else ExitCode.PARTIAL


def results_json(reports: list[UpscaleReport], skipped: list[Path], code: ExitCode) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        "version": 1,
        "exit_code": int(code),
        "error": None,
        "results": [report.to_json() for report in reports],
        "skipped": [str(path) for path in skipped],
    }
