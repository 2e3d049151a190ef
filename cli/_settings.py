"""Settings of long-running commands: from the environment, options first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from cli.errors import UsageError

SettingsT = TypeVar("SettingsT", bound=BaseModel)


def read_settings(kind: type[SettingsT], given: Mapping[str, Any]) -> SettingsT:
    """Settings of a kind.

    Args:
        kind: Of the process.
        given: Options by name; None leaves them to the environment.

    Raises:
        UsageError: If a value is not accepted.
    """
    try:
        return kind(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(_describe(item["loc"], item["msg"], item["input"]) for item in error.errors())
        raise UsageError(f"the settings do not work: {problems}") from error


def _describe(place: tuple[int | str, ...], message: str, received: object) -> str:
    message = message.removeprefix("Value error, ")
    if not place:
        # Values that contradict each other; what was received is all settings, passwords among them.
        return message
    return f"DOVETAIL_{str(place[0]).upper()}: {message}, received {received!r}"
