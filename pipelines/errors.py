"""What can go wrong in a pipeline, as exceptions with a stable `code`."""

from __future__ import annotations

import sys
from pathlib import Path


class PipelineError(Exception):
    """Base of the errors this package raises on purpose; the message says what came in and the way out."""

    code = "pipeline_error"


class CheckpointError(PipelineError):
    """Raised when a checkpoint is missing, incomplete, damaged or of a kind this package does not know.

    Attributes:
        path: The file or folder at fault, if there is one.
    """

    code = "checkpoint_error"

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class UnsupportedSizeError(PipelineError):
    """Raised when a frame size, a target size or a tile size cannot be processed."""

    code = "unsupported_size"


class InvalidOptionError(PipelineError):
    """Raised when an option has a value that does not exist or that contradicts another one."""

    code = "invalid_option"


class BackendUnavailableError(PipelineError):
    """Raised when an attention kernel, a device or a package is needed that this machine does not have."""

    code = "backend_unavailable"


class OutOfMemoryError(PipelineError):
    """Raised when even the smallest plan does not fit the device's memory.

    Attributes:
        required_bytes: Estimate for the smallest plan, if known.
        available_bytes: Memory the plan was made for, if known.
    """

    code = "out_of_memory"

    def __init__(
        self, message: str, *, required_bytes: int | None = None, available_bytes: int | None = None
    ) -> None:
        super().__init__(message)
        self.required_bytes = required_bytes
        self.available_bytes = available_bytes


# What libraries below torch say when they get no memory: none of it is an OutOfMemoryError. cuDNN looks for a
# convolution that fits and reports that there is none; a convolution that it really cannot do, it names.
_OUT_OF_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "not enough memory: you tried to allocate",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "unable to find an engine to execute this computation",
    "nable to find a valid cuDNN algorithm",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that an allocation failed, on the GPU or on the host.

    torch has a class for its GPU allocator only; the CPU's, cuBLAS and cuDNN raise plain RuntimeErrors.
    """
    # Not imported here: the planner's errors are also raised where there is no torch, and where nobody has
    # imported it nobody can have raised its error.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY_SIGNS)
