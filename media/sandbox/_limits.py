"""What a sandboxed process may use."""

from dataclasses import dataclass

_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class SandboxLimits:
    """Resources of one sandboxed process. What goes beyond them ends it with a `SandboxError`."""

    memory_bytes: int = 2 * _GIB
    """Address space on top of what the process has when it starts (torch alone maps some gigabytes)."""
    cpu_seconds: int = 120
    """Processor time of all its threads. Where frames are read, of the time since the last sign of
    progress."""
    file_bytes: int = 0
    """Size of any file it writes; 0 is: none."""
    open_files: int = 128

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "cpu_seconds", "open_files"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.file_bytes < 0:
            raise ValueError(f"file_bytes must be at least 0, got {self.file_bytes}")
