"""Damaged files do no harm: `benchmarks/fuzz_media.py` with fixed seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import fuzz_media
from benchmarks.fuzz_media import run_fuzz
from media.errors import UnreadableInputError
from tests.thorough import sized


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_files_give_our_errors_and_nothing_else() -> None:
    report = run_fuzz(sized(2000, brief=200), seed=11)
    assert not report.faults
    # Both ways were taken often enough to mean something.
    assert report.num_whole > report.num_mutants // 4
    assert sum(report.errors.values()) > report.num_mutants // 10


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        ("raise ValueError('odd')", "odd"),
        ("import os; os.kill(os.getpid(), 6)", "signal 6"),
        ("raise UnreadableInputError('no')", None),
    ],
)
def test_a_fault_is_told_from_an_error(
    act: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(path: Path, segment: Path, work: Path) -> str:
        exec(act, {"UnreadableInputError": UnreadableInputError})
        return "whole"

    monkeypatch.setattr(fuzz_media, "use_file", use)
    report = run_fuzz(1, seed=1, on_fault=lambda text: None)
    if expected is None:
        assert report.errors == {"unreadable_input": 1}
    else:
        assert expected in report.faults[0][2]
