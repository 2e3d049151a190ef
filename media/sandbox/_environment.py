"""What a sandboxed process knows of its caller's environment."""

import os
import sys
from pathlib import Path

# What a child may know of this process's environment: nothing that could be a secret.
_ENVIRONMENT = frozenset(
    {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV", "OMP_NUM_THREADS", "SVT_LOG"}
)
_ENVIRONMENT_PREFIXES = ("LC_", "LD_", "PYTHON")


def clean_environment() -> dict[str, str]:
    """The environment of the fork server: this process's, without anything that could be a secret."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path),
        "OPENBLAS_NUM_THREADS": "1",  # or numpy starts threads when it is imported, which a fork would lose
        "MALLOC_ARENA_MAX": "2",  # an arena reserves 64 MB of address space, and each thread would have one
    }
