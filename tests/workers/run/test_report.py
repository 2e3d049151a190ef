from __future__ import annotations

import errno
import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from media import ColorTags, EncodeError
from pipelines.errors import CheckpointError
from workers.errors import OutputExistsError
from workers.run.report import ErrorReport, UpscaleReport, error_code
from workers.values import to_json_value


def raised_from(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutputExistsError(Path("a")), "output_exists"),
        (CheckpointError("gone"), "checkpoint_error"),
        (EncodeError("bad"), "encode_failed"),
        (raised_from(EncodeError("bad"), OSError(errno.ENOSPC, "full")), "disk_full"),
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError(), "out_of_memory"),
        (KeyboardInterrupt(), "interrupted"),
        (ValueError("bug"), "unexpected"),
    ],
)
def test_every_error_has_a_stable_code(error: BaseException, code: str) -> None:
    assert error_code(error) == code


def test_hints_are_carried() -> None:
    error = EncodeError("bad")
    error.add_note("go on like this")
    assert ErrorReport.of(error) == ErrorReport("encode_failed", "bad", ("go on like this",))
    assert ErrorReport.of(ValueError("bug")).message == "ValueError: bug"


def test_values_become_json() -> None:
    values = to_json_value(
        {
            "rate": Fraction(30000, 1001),
            "color": ColorTags(1, 1, 1),
            "path": Path("a/b"),
            "matrix": b"\x01\xff",
            "dtype": torch.bfloat16,
            "items": (1, None, 2.5),
        }
    )
    assert json.loads(json.dumps(values)) == {
        "rate": "30000/1001",
        "color": {"matrix": 1, "primaries": 1, "transfer": 1, "full_range": False},
        "path": "a/b",
        "matrix": "01ff",
        "dtype": "bfloat16",
        "items": [1, None, 2.5],
    }
    with pytest.raises(TypeError, match="object"):
        to_json_value(object())


def test_a_report_that_failed_early_is_json_too() -> None:
    report = UpscaleReport(source=Path("a"), destination=Path("b"))
    report.warn(["one", "one", "two"])
    report.warn(["two"])
    values = report.to_json()
    assert values["warnings"] == ["one", "two"]
    assert (values["plan"], values["output"], values["input"]) == (None, None, None)
