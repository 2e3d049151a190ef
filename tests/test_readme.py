"""The README's Python, run as it stands there. What its commands do is tested in tests/whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from benchmarks.gpu import tables
from benchmarks.gpu.kit import RESULTS

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_runs() -> None:
    block = re.search(r"<!-- from Python.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block.group(1), names)
    assert names["frames"].shape == (5, 3, 128, 192)


def test_the_gpu_tables_of_the_readme_are_those_of_the_results() -> None:
    block = re.search(r"<!-- GPU tables.*?-->\n(.*?)\n<!-- end -->", README.read_text(encoding="utf-8"), re.S)
    assert block is not None
    assert block.group(1) == tables.all_tables(RESULTS)
