"""Errors of training and evaluation."""

from __future__ import annotations

from typing import ClassVar


class TrainingError(Exception):
    """Base of everything that training and evaluation raise on purpose."""

    code: ClassVar[str] = "training_error"


class TrainingConfigError(TrainingError):
    """Raised when a configuration file is missing, is no YAML, or has a wrong field."""

    code = "invalid_option"


class MissingPackageError(TrainingError):
    """Raised when a package that training or evaluation needs is not installed."""

    code = "usage"


class TrainingDataError(TrainingError):
    """Raised when there is nothing to train on, or when the process that prepares it has died."""

    code = "training_data"


class DatasetFolderError(TrainingError):
    """Raised when a data set cannot be written to a folder, or the folder holds something else."""

    code = "output_folder"


class DatasetDiskFullError(DatasetFolderError):
    """Raised when there is no room for a data set."""

    code = "disk_full"
