"""The application of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NUM_OBJECTS_LOOKED_THROUGH = """
import gc, sys
from jobs.settings import ServiceSettings
from service.app import create_app_of_process

gc.unfreeze()
before = len(gc.get_objects())
app = create_app_of_process(ServiceSettings(data_dir=sys.argv[1]), uses_keys=True)
print(before, len(gc.get_objects()))
"""


def test_what_a_process_has_imported_is_not_looked_through_for_garbage(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "forked", "-c", NUM_OBJECTS_LOOKED_THROUGH, str(tmp_path)]
    before, after = map(
        int, subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    )
    assert before > 100_000
    assert after < 1_000
