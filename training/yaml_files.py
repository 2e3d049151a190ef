"""Configurations in YAML files: read, validated, and what is wrong with them said by the field's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import TrainingConfigError


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Config = TypeVar("Config", bound=StrictModel)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        TrainingConfigError: If the file is missing or no YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise TrainingConfigError(f"cannot read the training configuration {path}: {error}") from error


def validate_config(kind: type[Config], content: Any, path: Path) -> Config:
    """The content of a file as a configuration of a kind.

    Raises:
        TrainingConfigError: If a field is unknown, missing or out of range; the message names the file.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()
        )
        raise TrainingConfigError(f"{path}: {problems}") from error
