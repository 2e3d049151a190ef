"""The system call filter of each architecture, run by a small interpreter: this machine has only one."""

import errno
import struct

import pytest

from media.sandbox._seccomp import build_filter

ALLOW, REFUSE, ABSENT = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
PID = 4321
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# From the kernel's tables (arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h).
CALLS = {
    "x86_64": {
        **{"read": 0, "write": 1, "openat": 257, "mmap": 9, "futex": 202, "exit_group": 231},
        **{"socket": 41, "connect": 42, "sendto": 44, "execve": 59, "execveat": 322, "fork": 57},
        **{"ptrace": 101, "bpf": 321, "io_uring_setup": 425, "process_vm_readv": 310, "mount": 165},
        **{"kill": 62, "tgkill": 234, "prlimit64": 302, "clone": 56, "clone3": 435},
    },
    "aarch64": {
        **{"read": 63, "write": 64, "openat": 56, "mmap": 222, "futex": 98, "exit_group": 94},
        **{"socket": 198, "connect": 203, "sendto": 206, "execve": 221, "execveat": 281},
        **{"ptrace": 117, "bpf": 280, "io_uring_setup": 425, "process_vm_readv": 270, "mount": 40},
        **{"kill": 129, "tgkill": 131, "prlimit64": 261, "clone": 220, "clone3": 435},
    },
}
REFUSED = [
    *("socket", "connect", "sendto", "execve", "execveat", "ptrace", "bpf", "io_uring_setup"),
    *("process_vm_readv", "mount"),
]
THREAD_FLAGS = 0x3D0F00  # as glibc's pthread_create gives them


def judge(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """What the filter says of a call."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("=iIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *padded)
    program = build_filter(machine, pid=PID)
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, operand = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return int(operand)
        else:
            holds = {
                0x15: accumulator == operand,
                0x35: accumulator >= operand,
                0x45: bool(accumulator & operand),
            }[code]
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", CALLS)
class TestFilter:
    @pytest.mark.parametrize("call", ["read", "write", "openat", "mmap", "futex", "exit_group"])
    def test_ordinary_calls_are_allowed(self, machine: str, call: str) -> None:
        assert judge(machine, CALLS[machine][call]) == ALLOW

    @pytest.mark.parametrize("call", REFUSED)
    def test_calls_that_reach_out_are_refused(self, machine: str, call: str) -> None:
        assert judge(machine, CALLS[machine][call]) == REFUSE

    @pytest.mark.parametrize("call", ["kill", "tgkill"])
    def test_signals_go_to_oneself_only(self, machine: str, call: str) -> None:
        assert judge(machine, CALLS[machine][call], PID) == ALLOW
        for pid in (1, 0, 2**32 - 1, PID + 1):
            assert judge(machine, CALLS[machine][call], pid) == REFUSE

    def test_limits_are_those_of_oneself(self, machine: str) -> None:
        assert judge(machine, CALLS[machine]["prlimit64"], 0) == ALLOW
        assert judge(machine, CALLS[machine]["prlimit64"], 1) == REFUSE

    def test_threads_start_but_processes_do_not(self, machine: str) -> None:
        assert judge(machine, CALLS[machine]["clone"], THREAD_FLAGS) == ALLOW
        assert judge(machine, CALLS[machine]["clone"], 17) == REFUSE
        assert judge(machine, CALLS[machine]["clone3"]) == ABSENT

    def test_calls_of_another_architecture_are_refused(self, machine: str) -> None:
        for arch in (0x40000003, 0x40000028, *(ARCH[name] for name in ARCH if name != machine)):
            assert judge(machine, CALLS[machine]["read"], arch=arch) == REFUSE


def test_the_second_table_of_x86_is_refused() -> None:
    assert judge("x86_64", 0x40000000 | CALLS["x86_64"]["read"]) == REFUSE


def test_there_is_no_fork_on_aarch64_to_refuse() -> None:
    """Where a call does not exist its place in the list is not taken for call 0."""
    assert judge("aarch64", 0) == ALLOW
