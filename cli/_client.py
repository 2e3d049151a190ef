"""How commands reach a service: their common options, and a client from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.errors import UsageError

if TYPE_CHECKING:
    from dovetail_client import AsyncDovetail, Dovetail

_SERVICE = "Service"

# Somebody sits before the screen; with more, a service that is down would take a quarter of a minute to name.
INTERACTIVE_RETRIES = 2

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="DOVETAIL_URL",
        show_envvar=False,
        metavar="URL",
        help="Of the service. Default: $DOVETAIL_URL, or port 8000 of this machine.",
        rich_help_panel=_SERVICE,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="DOVETAIL_API_KEY",
        show_envvar=False,
        metavar="KEY",
        help="Better as $DOVETAIL_API_KEY, where no other user of the machine sees it.",
        rich_help_panel=_SERVICE,
    ),
]
UseJson = Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")]


def connect(url: str | None, api_key: str | None) -> Dovetail:
    """A client that blocks.

    Raises:
        UsageError: If URL or key cannot be used, or the client's packages are missing.
    """
    client = _import_client()
    try:
        made: Dovetail = client.Dovetail(url, api_key=api_key, max_retries=INTERACTIVE_RETRIES)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return made


def connect_async(url: str | None, api_key: str | None) -> AsyncDovetail:
    """A client that awaits.

    Raises:
        UsageError: If URL or key cannot be used, or the client's packages are missing.
    """
    client = _import_client()
    try:
        made: AsyncDovetail = client.AsyncDovetail(url, api_key=api_key)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return made


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """Reads "name=value"s.

    Raises:
        UsageError: If one is not of that form.
    """
    labels = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise UsageError(f"--label {text!r} is no label; write NAME=VALUE")
        labels[name] = value
    return labels


def parse_metadata(text: str | None) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        UsageError: If it is none.
    """
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"--metadata {text!r} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UsageError(f'--metadata {text!r} is no JSON object; write {{"name": "value"}}')
    return value


def _import_client() -> Any:
    try:
        import dovetail_client
    except ImportError as error:
        raise UsageError(
            f"this command needs the package {error.name}: pip install 'dovetail-vsr[client]'"
        ) from error
    return dovetail_client
