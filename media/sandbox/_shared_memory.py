"""Memory that this process and a sandboxed one both see: how images come back."""

import fcntl
import os
import tempfile

import torch

from media.errors import SandboxError


def make_shared_memory(size: int) -> int:
    """Memory that has no name, so nothing of it is left when both processes are gone; zero pages until they
    are written. A container's small /dev/shm does not limit it.

    Returns:
        A descriptor.
    """
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memory, size)
        # Neither side can pull it away under the other, nor fill the memory through it.
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return memory
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


def copy_from(memory: int, offset: int, image: torch.Tensor) -> None:
    """Fill an image from shared memory: by a read, so that what the other process does to its copy of the
    mapping cannot change an image that has been handed on."""
    view = memoryview(image.numpy().data).cast("B")
    done = 0
    while done < len(view):
        count = os.preadv(memory, [view[done:]], offset + done)
        if count == 0:
            raise SandboxError("the memory shared with the process that reads the input is too short")
        done += count
