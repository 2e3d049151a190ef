"""What a sandboxed process may answer: values written as text, never pickles.

A decoder that an input has taken over would own whoever unpickles its answer. Decoding here makes plain
values and the dataclasses listed below, their fields of the declared types, and nothing else.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import cache
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_DATACLASSES = {
    **dict.fromkeys(
        (
            "MediaInfo",
            "VideoStreamInfo",
            "AudioStreamInfo",
            "SubtitleStreamInfo",
            "OtherStreamInfo",
            "Chapter",
            "ColorTags",
            "ContentLight",
            "Crop",
            "MasteringDisplay",
            "PictureShape",
            "SphericalMapping",
            "StereoMapping",
            "Stretch",
        ),
        "media.info",
    ),
    "JoinReport": "media.join",
    "StreamOutcome": "media.join",
}
_PLAIN = (type(None), bool, int, float, str)


class WireError(ValueError):
    """Raised when a value cannot be sent, or what came is none."""


def encode(value: object) -> bytes:
    """A value as bytes.

    Raises:
        WireError: It is, or holds, something else than None, bool, int, float, str, bytes, tuple, list, dict,
            Fraction, Path or a listed dataclass.
    """
    return json.dumps(_tag(value), separators=(",", ":")).encode()


def decode(data: bytes) -> Any:
    """The value.

    Raises:
        WireError: The bytes do not come from `encode`.
    """
    try:
        return _untag(json.loads(data))
    except WireError:
        raise
    except Exception as error:  # whatever a hostile text makes the constructors raise
        raise WireError(f"not a value: {type(error).__name__}: {error}") from error


def _tag(value: object) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind in (tuple, list):
        return [kind.__name__, [_tag(item) for item in value]]  # type: ignore[attr-defined] # mypy does not see a tuple or list in it
    if isinstance(value, dict):
        return ["dict", [[_tag(key), _tag(item)] for key, item in value.items()]]
    if isinstance(value, bytes):
        return ["bytes", base64.b64encode(value).decode()]
    if isinstance(value, Fraction):
        return ["Fraction", value.numerator, value.denominator]
    if isinstance(value, Path):
        return ["Path", str(value)]
    if kind.__name__ in _DATACLASSES and is_dataclass(value):
        return [kind.__name__, {field.name: _tag(getattr(value, field.name)) for field in fields(value)}]
    raise WireError(f"a {kind.__name__} cannot be sent")


def _untag(tagged: Any) -> Any:
    if not isinstance(tagged, list):
        if isinstance(tagged, dict):
            raise WireError("an object without its type")
        return tagged
    name, *content = tagged
    if name in _DATACLASSES:
        (members,) = content
        return _make(name, {key: _untag(item) for key, item in members.items()})
    if name not in _BUILDERS:
        raise WireError(f"unknown type {name!r}")
    return _BUILDERS[name](*content)


def _make(name: str, members: dict[str, Any]) -> Any:
    module = import_module(_DATACLASSES[name])
    kind = getattr(module, name)
    hints = _hints(kind)
    for key, item in members.items():
        if key not in hints or not _fits(item, hints[key]):
            raise WireError(f"{name}.{key} cannot be {item!r:.100}")
    return kind(**members)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a declared type, as far as the listed dataclasses use types."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[1:] == (...,):
            return all(_fits(item, parts[0]) for item in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if origin is dict:
        key_type, item_type = parts
        return isinstance(value, dict) and all(
            _fits(key, key_type) and _fits(item, item_type) for key, item in value.items()
        )
    if hint is int:  # True is an int to isinstance
        return type(value) is int
    return isinstance(value, hint)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "tuple": lambda items: tuple(_untag(item) for item in items),
    "list": lambda items: [_untag(item) for item in items],
    "dict": lambda items: {_untag(key): _untag(item) for key, item in items},
    "bytes": base64.b64decode,
    "Fraction": Fraction,
    "Path": Path,
}
