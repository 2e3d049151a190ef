"""Names of pulled models: one part of a path, typed after `--model`."""

from __future__ import annotations

import re

from pipelines.store.errors import ModelNameError

MAX_LENGTH = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def is_name(text: str) -> bool:
    """Whether a model can have that name: letters, digits and `._+-`, at most 100, a letter or digit first.

    Such a name is one part of a path that is neither hidden nor leads anywhere else.
    """
    return len(text) <= MAX_LENGTH and _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """Gives the name back.

    Raises:
        ModelNameError: If it cannot be one.
    """
    if is_name(text):
        return text
    raise ModelNameError(
        f"a model cannot be named {text!r}: letters, digits and . _ + - are accepted, at most {MAX_LENGTH}, "
        "the first one a letter or a digit; choose another with --name"
    )


def derived_name(text: str) -> str:
    """A name as near as can be to a file's or a repository's.

    Raises:
        ModelNameError: If nothing of it can be used.
    """
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).lstrip("._+-").rstrip("-")[:MAX_LENGTH]
    if not name:
        raise ModelNameError(f"no name can be made of {text!r}; choose one with --name")
    return name
