"""Which tests run in one process, one after another: those of a file, and those of the one installation."""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

WHOLE_FOLDER = "tests/whole/"
LONGEST = (WHOLE_FOLDER, "tests/test_kills.py")


class LoadFileOrInstallation(LoadFileScheduling):
    """As `--dist loadfile`, but `tests/whole` is one file, so that one installation is started for it."""

    def _split_scope(self, nodeid: str) -> str:
        return WHOLE_FOLDER if nodeid.startswith(WHOLE_FOLDER) else super()._split_scope(nodeid)
