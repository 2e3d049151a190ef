"""A system call filter: no sockets, no programs, no other processes.

The libraries for this wrap libseccomp, which a slim image does not have, and rest since 2021; what is needed
of it is one list of calls, as long as the code that would configure it. The filter lists what is refused
rather than what is allowed, since decoders, allocators and Python need some hundred calls that change with
their versions; Landlock (`_landlock`) and the resource limits stand behind it. A refused call fails with
EPERM.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

# Columns: the call, its number on x86-64, its number on aarch64 (0: does not exist there).
_CALLS = """
socket 41 198            socketpair 53 199        connect 42 203           bind 49 200
listen 50 201            accept 43 202            accept4 288 242          sendto 44 206
sendmsg 46 211           sendmmsg 307 269         io_uring_setup 425 425   io_uring_enter 426 426
io_uring_register 427 427
execve 59 221            execveat 322 281         fork 57 0                vfork 58 0
ptrace 101 117           process_vm_readv 310 270 process_vm_writev 311 271 process_madvise 440 440
process_mrelease 448 448 kcmp 312 272             pidfd_open 434 434       pidfd_getfd 438 438
pidfd_send_signal 424 424 tkill 200 130           rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240
shmget 29 194            msgget 68 186            semget 64 190            mq_open 240 180
bpf 321 280              perf_event_open 298 241  userfaultfd 323 282      keyctl 250 219
add_key 248 217          request_key 249 218      personality 135 92       modify_ldt 154 0
iopl 172 0               ioperm 173 0
mount 165 40             umount2 166 39           pivot_root 155 41        chroot 161 51
setns 308 268            unshare 272 97           move_mount 429 429       fsopen 430 430
fsmount 432 432          fsconfig 431 431         fspick 433 433           open_tree 428 428
mount_setattr 442 442    open_by_handle_at 304 265 mknod 133 0             mknodat 259 33
chmod 90 0               fchmod 91 52             fchmodat 268 53          fchmodat2 452 452
chown 92 0               fchown 93 55             lchown 94 0              fchownat 260 54
setxattr 188 5           lsetxattr 189 6          fsetxattr 190 7          removexattr 197 14
lremovexattr 198 15      fremovexattr 199 16
link 86 0                linkat 265 37            symlink 88 0             symlinkat 266 36
kexec_load 246 104       kexec_file_load 320 294  init_module 175 105      finit_module 313 273
delete_module 176 106    reboot 169 142           swapon 167 224           swapoff 168 225
acct 163 89              quotactl 179 60          syslog 103 116           clock_settime 227 112
settimeofday 164 170     adjtimex 159 171         sethostname 170 161      setdomainname 171 162
"""
_FIELDS = _CALLS.split()
_REFUSED = {
    "x86_64": [int(number) for number in _FIELDS[1::3]],
    "aarch64": [int(number) for number in _FIELDS[2::3] if number != "0"],
}

# (kill, tgkill, prlimit64, clone, clone3, seccomp)
_KILL, _TGKILL, _PRLIMIT64, _CLONE, _CLONE3, _SECCOMP = range(6)
_JUDGED = {"x86_64": (62, 234, 302, 56, 435, 317), "aarch64": (129, 131, 261, 220, 435, 277)}

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_CALLS = (
    0x40000000  # the second table of x86-64, through which all calls could be made under other numbers
)

# Instructions of classic BPF: load a word, jump if equal / at least / any bit set, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_NOT_IMPLEMENTED = 0x00050000 | errno.ENOSYS
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; low words come first

_CLONE_THREAD = 0x10000
_SET_MODE_FILTER, _FILTER_FLAG_TSYNC = 1, 1


class FilterError(OSError):
    """Raised when the kernel does not take the filter."""


def is_supported() -> bool:
    """Whether there is a filter for this system, and its kernel takes filters."""
    if sys.platform != "linux" or platform.machine() not in _REFUSED or sys.byteorder != "little":
        return False
    # A kernel that takes filters finds none at address 0; another does not know what this is about.
    return _call(None) == errno.EFAULT


def install() -> None:
    """Filter the calls of all threads of this process, for good. It must have `no_new_privs` set.

    Raises:
        FilterError: The kernel does not take it.
    """
    program = build_filter(platform.machine(), pid=os.getpid())
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, then (aligned) where they are
    header = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(instructions))
    code = _call(header)
    if code != 0:
        raise FilterError(code, f"the kernel does not take a system call filter: {os.strerror(code)}")


def _call(header: bytes | None) -> int:
    """Gives a filter to the kernel; returns the error's number, 0 for none."""
    libc = ctypes.CDLL(None, use_errno=True)
    call = _JUDGED[platform.machine()][_SECCOMP]
    arguments = (ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(_FILTER_FLAG_TSYNC), header)
    return 0 if libc.syscall(ctypes.c_long(call), *arguments) == 0 else ctypes.get_errno()


def build_filter(machine: str, *, pid: int) -> bytes:
    """The filter as BPF instructions of 8 bytes.

    Args:
        machine: "x86_64" or "aarch64".
        pid: Of the process to filter: the only one to which it may send signals.
    """
    judged = _JUDGED[machine]
    code = [_step(_LOAD, _ARCH), _step(_IF_EQUAL, _AUDIT_ARCH[machine], 1, 0), _step(_RETURN, _REFUSE)]
    code.append(_step(_LOAD, _NUMBER))
    if machine == "x86_64":
        code += [_step(_IF_AT_LEAST, _X32_CALLS, 0, 1), _step(_RETURN, _REFUSE)]
    for number in _REFUSED[machine]:
        code += [_step(_IF_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE)]
    code += _allow_if(judged[_KILL], _IF_EQUAL, pid)
    code += _allow_if(judged[_TGKILL], _IF_EQUAL, pid)  # abort() is a signal to oneself
    code += _allow_if(judged[_PRLIMIT64], _IF_EQUAL, 0)  # setrlimit() is this call for process "0", oneself
    code += _allow_if(judged[_CLONE], _IF_ANY_BIT, _CLONE_THREAD)
    # Its flags lie in memory, where a filter cannot look; C libraries then use clone.
    code += [_step(_IF_EQUAL, judged[_CLONE3], 0, 1), _step(_RETURN, _NOT_IMPLEMENTED)]
    code.append(_step(_RETURN, _ALLOW))
    return b"".join(code)


def _allow_if(number: int, test: int, value: int) -> list[bytes]:
    """A call that is allowed only where its first argument passes a test."""
    return [
        _step(_IF_EQUAL, number, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(test, value, 0, 1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _REFUSE),
    ]


def _step(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; the jumps say how many to skip."""
    return struct.pack("=HBBI", code, if_true, if_false, operand)
