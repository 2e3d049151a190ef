"""Means of what models find."""

from __future__ import annotations

from workers.run.findings import MeanFindings


def test_findings_are_means_over_frames() -> None:
    found = MeanFindings()
    found.add({"noise": 1.0, "blur": 0.5}, 30)
    found.add({"noise": 3.0, "blur": 0.5}, 10)
    assert found.means() == {"noise": 1.5, "blur": 0.5}


def test_models_that_look_for_nothing_find_nothing() -> None:
    found = MeanFindings()
    assert found.means() == {}
    found.add({}, 10)
    assert found.means() == {}
