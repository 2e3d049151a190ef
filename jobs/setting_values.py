"""How values of settings are written in the environment, and what their addresses mean."""

from __future__ import annotations

import ipaddress
import json
import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic_settings import NoDecode

from jobs.connections import SentinelAddress, names_sentinels
from jobs.queue import TaskKind

_SECONDS_OF = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIMEDELTA = TypeAdapter(timedelta)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


def _read_duration(value: object) -> object:
    """Takes "60" and "60s" for 60 seconds, minutes, hours and days alike, and what pydantic takes."""
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value.strip())
    if match is not None:
        return float(match[1]) * _SECONDS_OF[match[2]]
    try:
        return _TIMEDELTA.validate_python(value)
    except ValidationError as error:
        raise ValueError("is no duration; write seconds (90), or 90s, 15m, 36h, 7d, P7D") from error


def _read_names(value: object) -> object:
    """Takes "a, b" and '["a", "b"]' alike."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return tuple(name.strip() for name in value.split(",") if name.strip())


Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_read_names)]
TaskKinds = Annotated[tuple[TaskKind, ...], NoDecode, BeforeValidator(_read_names)]


def split_name(entry: str) -> tuple[str, str]:
    """NAME or NAME=WHERE as name and place, which are the same for the first."""
    name, sign, where = entry.partition("=")
    # A path or a stand-in's parameters may have the sign too.
    return (name.strip(), where.strip()) if sign and not set("/:") & set(name) else (entry, entry)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def next_database(url: str) -> str:
    """The address of the database after that of an address, on the same server.

    Raises:
        ValueError: If the address has no number of a database.
    """
    if names_sentinels(url):
        return SentinelAddress.parse(url).with_next_database(url)
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return url
    number = parts.path.strip("/") or "0"
    if not number.isdigit():
        raise ValueError(f"redis_url {url!r} has no database number; write redis://host:port/0")
    return urlunsplit(parts._replace(path=f"/{int(number) + 1}"))
