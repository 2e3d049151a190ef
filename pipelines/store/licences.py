"""Licences of models: which ones ask nothing that a user would have to agree to first."""

from __future__ import annotations

import re

from pipelines.store.errors import LicenceError

MAX_LENGTH = 200
# SPDX identifiers. They allow any use, also a commercial one; at most they want to be named.
PERMISSIVE = (
    "0BSD",
    "AFL-3.0",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "NCSA",
    "PostgreSQL",
    "Unlicense",
    "WTFPL",
    "Zlib",
)
# The hub writes identifiers in lower case.
_SPELLINGS = {name.lower(): name for name in PERMISSIVE}
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+() -]*")


def is_permissive(licence: str | None) -> bool:
    """Whether a licence is known to ask nothing of who uses the model; an unknown one is not.

    Of "A OR B" one is enough, of "A AND B" both are needed.
    """
    choices = (licence or "").split(" OR ")
    return any(
        all(part.strip().lower() in _SPELLINGS for part in choice.split(" AND ")) for choice in choices
    )


def usual_spelling(licence: str | None) -> str | None:
    """A licence as SPDX spells it; others in one line; None for an empty one."""
    text = "".join(char if char.isprintable() else " " for char in licence or "")
    text = " ".join(text.split())[:MAX_LENGTH]
    return _SPELLINGS.get(text.lower(), text) or None


def check_spdx(text: str) -> str:
    """Gives an SPDX identifier or expression in its usual spelling.

    Raises:
        LicenceError: If it cannot be one.
    """
    if len(text) <= MAX_LENGTH and _SPDX.fullmatch(text.strip()):
        return usual_spelling(text) or text
    raise LicenceError(f"{text!r} is no SPDX identifier; write one like MIT, Apache-2.0 or CC-BY-NC-4.0")


def settled_licence(declared: str | None, given: str | None, *, source: str) -> str | None:
    """The licence that counts: the declared one, else what the user says.

    Raises:
        LicenceError: If both are there and differ.
    """
    given = None if given is None else check_spdx(given)
    if declared and given and declared.lower() != given.lower():
        raise LicenceError(
            f"{source} declares the licence {declared!r}, --licence says {given!r}; --licence is for models "
            "that declare none"
        )
    return declared or given
