"""Exit codes of every command. Scripts depend on them: a number is never given a second meaning."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    INPUT = 3
    MODEL = 4
    MEMORY = 5
    OUTPUT = 6
    PARTIAL = 7
    SERVICE = 8
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "all inputs were upscaled",
    ExitCode.UNEXPECTED: "an unexpected error, a bug",
    ExitCode.USAGE: "options or arguments that do not work",
    ExitCode.INPUT: "the input cannot be read, or is no video",
    ExitCode.MODEL: "the model or its device is missing or broken",
    ExitCode.MEMORY: "out of memory even with the smallest plan",
    ExitCode.OUTPUT: "the output cannot be written, exists, or the disk is full",
    ExitCode.PARTIAL: "some of several inputs failed",
    ExitCode.SERVICE: "the service cannot be reached, or refused or failed to do it",
    ExitCode.INTERRUPTED: "interrupted; finished segments are kept",
}

# The `code` of an error, as in reports, to the exit code.
_BY_ERROR_CODE = {
    "unreadable_input": ExitCode.INPUT,
    "no_video": ExitCode.INPUT,
    "no_frames": ExitCode.INPUT,
    "unsupported_codec": ExitCode.INPUT,
    "input_limit": ExitCode.INPUT,
    "input_crashed_decoder": ExitCode.INPUT,
    "input_timeout": ExitCode.INPUT,
    "input_memory": ExitCode.INPUT,
    "training_data": ExitCode.INPUT,
    "encoder_unavailable": ExitCode.OUTPUT,
    "encode_failed": ExitCode.OUTPUT,
    "segment_mismatch": ExitCode.OUTPUT,
    "checkpoint_error": ExitCode.MODEL,
    "backend_unavailable": ExitCode.MODEL,
    "model_not_pulled": ExitCode.MODEL,
    "model_damaged": ExitCode.MODEL,
    "download_failed": ExitCode.MODEL,
    "digest_mismatch": ExitCode.MODEL,
    "no_model": ExitCode.MODEL,
    "model_source": ExitCode.USAGE,
    "model_name": ExitCode.USAGE,
    "model_too_large": ExitCode.USAGE,
    "licence": ExitCode.USAGE,
    "model_exists": ExitCode.OUTPUT,
    "store_folder": ExitCode.OUTPUT,
    "unsupported_size": ExitCode.USAGE,
    "invalid_option": ExitCode.USAGE,
    "out_of_memory": ExitCode.MEMORY,
    "usage": ExitCode.USAGE,
    "invalid_request": ExitCode.USAGE,
    "invalid_secret": ExitCode.USAGE,
    "output_exists": ExitCode.OUTPUT,
    "unfinished_work": ExitCode.OUTPUT,
    "resume_mismatch": ExitCode.OUTPUT,
    "output_folder": ExitCode.OUTPUT,
    "disk_full": ExitCode.OUTPUT,
    "interrupted": ExitCode.INTERRUPTED,
    # Of a service: what the sender can mend. All its other codes are SERVICE.
    "not_a_video": ExitCode.INPUT,
    "too_large": ExitCode.INPUT,
    "source_refused": ExitCode.INPUT,
}


def exit_code_for(error_code: str, *, default: ExitCode = ExitCode.UNEXPECTED) -> ExitCode:
    """The exit code for an error's `code`; `default` for codes that are not listed."""
    return _BY_ERROR_CODE.get(error_code, default)


def exit_codes_help() -> str:
    """All exit codes, as text for `--help`, where only an empty line begins a new one."""
    lines = [f"{code.value}: {meaning}" for code, meaning in MEANINGS.items()]
    return "\n\n".join(["Exit codes", *lines])
