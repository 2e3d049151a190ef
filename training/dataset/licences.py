"""Under which licence each source may be used, and where it is from: said by people, kept with decisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from training.yaml_files import StrictModel, read_yaml, validate_config


class Licence(StrictModel):
    """What is said of a source. Empty where nothing is."""

    licence: str = ""
    provenance: str = ""


class _LicenceTable(StrictModel):
    """Patterns of paths, with what holds for them."""

    patterns: dict[str, Licence]


class LicenceBook:
    """Finds what is said of a source.

    Args:
        default: For sources that no pattern names.
        patterns: Patterns such as "holiday/*.mp4", matched from the right as `Path.match` does; the first
            that fits counts.
    """

    def __init__(self, default: Licence, patterns: Mapping[str, Licence]) -> None:
        self._default, self._patterns = default, patterns

    @classmethod
    def read(cls, path: Path | None, *, default: str = "") -> LicenceBook:
        """The licences of a YAML file, if there is one.

        Args:
            path: Of the file, a mapping of patterns to `licence` and `provenance`.
            default: Licence of all that it does not name.

        Raises:
            TrainingConfigError: If the file is missing or no YAML, or says something else.
        """
        patterns = {} if path is None else _read_patterns(path)
        return cls(Licence(licence=default), patterns)

    def of(self, source: Path) -> Licence:
        """What is said of a source."""
        for pattern, licence in self._patterns.items():
            if source.match(pattern):
                return licence
        return self._default


def _read_patterns(path: Path) -> dict[str, Licence]:
    validated = validate_config(_LicenceTable, {"patterns": read_yaml(path) or {}}, path)
    return dict(validated.patterns)
