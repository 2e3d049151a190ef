"""What a process that reads a file may not do, and what its caller hears of it."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import pytest

from media.errors import InputMemoryError, InputTimeoutError, SandboxError, UnreadableInputError
from media.info import (
    AudioStreamInfo,
    Chapter,
    ColorTags,
    ContentLight,
    MasteringDisplay,
    MediaInfo,
    OtherStreamInfo,
    SubtitleStreamInfo,
    VideoStreamInfo,
)
from media.sandbox import READ_MODULES, Sandbox, SandboxLimits, _landlock, _seccomp
from media.sandbox._messages import LENGTH, MAX_ANSWER_BYTES
from media.sandbox._wire import encode
from tests.forked_python import real_programs
from tests.media import sandbox_acts as acts

MIB = 1 << 20
TIMEOUT = 60.0
ROOT = Path(__file__).parents[2]

needs_seccomp = pytest.mark.skipif(not _seccomp.is_supported(), reason="no system call filter here")
needs_landlock = pytest.mark.skipif(not _landlock.is_supported(), reason="this kernel has no Landlock")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(preload=["media.probing", "tests.media.sandbox_acts"]) as sandbox:
        yield sandbox


@pytest.fixture
def goes_on(sandbox: Sandbox) -> Iterator[None]:
    """After the test the sandbox still works."""
    yield
    assert sandbox.call(acts.add, 2, 3, timeout=TIMEOUT) == 5


EVERYTHING = MediaInfo(
    path=Path("/films/a.mkv"),
    format_name="matroska,webm",
    size_bytes=1,
    duration_seconds=Fraction(10, 3),
    origin_seconds=Fraction(0),
    video=VideoStreamInfo(
        index=0,
        codec="hevc",
        width=64,
        height=48,
        pix_fmt="yuv420p10le",
        bit_depth=10,
        time_base=Fraction(1, 1000),
        rate=Fraction(24000, 1001),
        start_seconds=Fraction(0),
        num_frames_estimate=80,
        display_matrix=bytes(36),
        color=ColorTags(9, 9, 16, full_range=False),
        mastering_display=MasteringDisplay(
            red=(Fraction(17, 25), Fraction(8, 25)),
            green=(Fraction(53, 200), Fraction(69, 100)),
            blue=(Fraction(3, 20), Fraction(3, 50)),
            white_point=(Fraction(3127, 10000), Fraction(329, 1000)),
            min_luminance=Fraction(1, 10000),
            max_luminance=Fraction(1000),
        ),
        content_light=ContentLight(1000, 400),
    ),
    audio=(
        AudioStreamInfo(
            index=1, codec="aac", sample_rate=48000, channels=2, layout="stereo", disposition=("default",)
        ),
    ),
    subtitles=(SubtitleStreamInfo(index=2, codec="ass", is_text=True, language="eng"),),
    others=(OtherStreamInfo(index=3, kind="attachment", codec="ttf", name="a.ttf"),),
    chapters=(Chapter(start_seconds=Fraction(1, 3), end_seconds=Fraction(2), title=None),),
    metadata={"title": "ä"},
    warnings=("one", "two"),
)


class TestAnswers:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            -3,
            2**70,
            0.1,
            "ä\udcff",
            b"\0\xff",
            (1, ("a", [])),
            [(), None],
            {1: {"b": (2,)}},
            Fraction(-24000, 1001),
            Path("/a/b"),
            EVERYTHING,
        ],
        ids=lambda value: repr(value)[:40],
    )
    def test_a_value_arrives_as_it_was_sent(self, sandbox: Sandbox, value: Any) -> None:
        result = sandbox.call(acts.give, value, timeout=TIMEOUT)
        assert result == value
        assert type(result) is type(value)

    @pytest.mark.usefixtures("goes_on")
    def test_errors_keep_their_class_and_words(self, sandbox: Sandbox) -> None:
        with pytest.raises(UnreadableInputError, match=r"^it is 'broken'$"):
            sandbox.call(acts.refuse, "it is 'broken'", timeout=TIMEOUT)

    @pytest.mark.usefixtures("goes_on")
    def test_other_errors_are_named_in_a_sandbox_error(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxError, match="KeyError: 'surprise'"):
            sandbox.call(acts.fail, timeout=TIMEOUT)

    @pytest.mark.usefixtures("goes_on")
    def test_what_cannot_be_sent_is_an_error(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxError, match="ended with"):
            sandbox.call(acts.give_an_object, timeout=TIMEOUT)

    @pytest.mark.usefixtures("goes_on")
    @pytest.mark.parametrize(
        "content",
        [
            b"not json",
            b"\x80\x04cos\nsystem\n(S'true'\ntR.",  # a pickle
            b'["tuple",["error","BaseException","x"]]',
            b'["tuple",["error","Path","x"]]',
            b'["tuple",["error"]]',
            b'["tuple",["result"]]',
            b'["tuple",["frame",1,2]]',
            b'["tuple",[["SandboxError",{}]]]',
            b'["tuple",["result",["Chapter",{"wrong":1}]]]',
            b'["tuple",["result",["ContentLight",{"max_content":1,"max_average":"2"}]]]',
            b'["tuple",["result",["ContentLight",{"max_content":true,"max_average":2}]]]',
            b'["tuple",["result",["ContentLight",{"max_content":1}]]]',
            b'["tuple",["result",["Fraction",1,0]]]',
            b'["tuple",["result",{"a":1}]]',
            b'["Path"]',
            b"7",
            b"[" * 200_000,
            b"9" * 10_000,
        ],
        ids=lambda content: content[:30],
    )
    def test_nonsense_is_an_error_and_nothing_else(self, sandbox: Sandbox, content: bytes) -> None:
        with pytest.raises(SandboxError) as caught:
            sandbox.call(acts.answer, LENGTH.pack(len(content)) + content, timeout=TIMEOUT)
        assert type(caught.value) is SandboxError

    @pytest.mark.usefixtures("goes_on")
    def test_an_endless_answer_is_not_awaited(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxError, match=f"at most {MAX_ANSWER_BYTES}"):
            sandbox.call(acts.answer, LENGTH.pack(2**32 - 1), timeout=TIMEOUT)

    @pytest.mark.usefixtures("goes_on")
    def test_half_an_answer_is_awaited_until_the_time_is_over(self, sandbox: Sandbox) -> None:
        half = encode(("result", 5))
        with pytest.raises(InputTimeoutError):
            sandbox.call(acts.answer, LENGTH.pack(len(half) + 1) + half, timeout=1)


@pytest.mark.usefixtures("goes_on")
class TestDeath:
    @pytest.mark.parametrize(
        ("act", "number"),
        [
            (acts.abort, signal.SIGABRT),
            (acts.segfault, signal.SIGSEGV),
            (acts.kill_itself, signal.SIGKILL),
        ],
    )
    def test_a_crash_is_named(self, sandbox: Sandbox, act: Callable[[], None], number: int) -> None:
        with pytest.raises(SandboxError, match=f"died of signal {number}") as caught:
            sandbox.call(act, timeout=TIMEOUT)
        assert caught.value.code == "input_crashed_decoder"

    @pytest.mark.parametrize("status", [0, 3])
    def test_an_end_without_an_answer_is_named(self, sandbox: Sandbox, status: int) -> None:
        with pytest.raises(SandboxError, match=f"ended with status {status}"):
            sandbox.call(acts.leave, status, timeout=TIMEOUT)

    @pytest.mark.parametrize("act", [acts.spin, acts.sleep])
    def test_the_clock_ends_it(self, sandbox: Sandbox, act: Callable[..., None]) -> None:
        arguments = [600.0] if act is acts.sleep else []
        with pytest.raises(InputTimeoutError, match=r"after 0\.5 s") as caught:
            sandbox.call(act, *arguments, timeout=0.5)
        assert caught.value.code == "input_timeout"

    def test_its_processor_time_ends_it(self, sandbox: Sandbox) -> None:
        with pytest.raises(InputTimeoutError, match="1 s of processor time"):
            sandbox.call(acts.spin, timeout=TIMEOUT, limits=SandboxLimits(cpu_seconds=1))

    def test_memory_is_limited(self, sandbox: Sandbox) -> None:
        limits = SandboxLimits(memory_bytes=256 * MIB)
        assert sandbox.call(acts.allocate, 64 * MIB, timeout=TIMEOUT, limits=limits) == 64 * MIB
        with pytest.raises(InputMemoryError) as caught:
            sandbox.call(acts.allocate, 512 * MIB, timeout=TIMEOUT, limits=limits)
        assert caught.value.code == "input_memory"


@pytest.mark.usefixtures("goes_on")
class TestRights:
    @needs_seccomp
    @pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
    def test_no_sockets(self, sandbox: Sandbox, family: int) -> None:
        with pytest.raises(SandboxError, match="PermissionError"):
            sandbox.call(acts.open_socket, int(family), timeout=TIMEOUT)

    @needs_seccomp
    @pytest.mark.parametrize(
        "act",
        [
            acts.make_socket_pair,
            acts.use_the_channel_as_a_socket,
            acts.execute,
            acts.spawn,
            acts.fork,
            acts.signal_parent,
            acts.signal_everybody,
            acts.trace_parent,
            acts.limit_parent,
            acts.set_up_io_uring,
        ],
    )
    def test_no_programs_and_no_other_processes(self, sandbox: Sandbox, act: Callable[[], None]) -> None:
        with pytest.raises(SandboxError, match="PermissionError"):
            sandbox.call(act, timeout=TIMEOUT)

    @needs_linux
    def test_limits_cannot_be_lifted(self, sandbox: Sandbox) -> None:
        with pytest.raises(SandboxError, match="ValueError: not allowed to raise"):
            sandbox.call(acts.raise_memory_limit, timeout=TIMEOUT)

    def test_threads_are_allowed(self, sandbox: Sandbox) -> None:
        assert sandbox.call(acts.run_threads, 8, timeout=TIMEOUT) == 8

    def test_no_core_is_dumped(self, sandbox: Sandbox) -> None:
        assert sandbox.call(acts.core_limit, timeout=TIMEOUT) == 0

    def test_nothing_is_written_without_leave(self, sandbox: Sandbox, tmp_path: Path) -> None:
        path = tmp_path / "a"
        with pytest.raises(SandboxError, match=r"OSError|PermissionError"):
            sandbox.call(acts.write_file, str(path), timeout=TIMEOUT)
        with pytest.raises(SandboxError, match="File too large"):
            sandbox.call(acts.write_file, str(path), timeout=TIMEOUT, writable=[tmp_path])
        assert not path.exists() or path.stat().st_size == 0

    def test_what_is_written_is_limited(self, sandbox: Sandbox, tmp_path: Path) -> None:
        path, limits = tmp_path / "a", SandboxLimits(file_bytes=1000)

        def write(size: int) -> int:
            return sandbox.call(
                acts.write_file, str(path), size, timeout=TIMEOUT, limits=limits, writable=[tmp_path]
            )

        assert write(1000) == 1000
        with pytest.raises(SandboxError, match="File too large"):
            write(1001)
        assert path.stat().st_size <= 1000

    @needs_landlock
    def test_only_given_files_are_read(self, sandbox: Sandbox, tmp_path: Path) -> None:
        given, other = tmp_path / "given", tmp_path / "other"
        given.write_bytes(b"abc")
        other.write_bytes(b"secret")
        assert sandbox.call(acts.read_file, str(given), timeout=TIMEOUT, readable=[given]) == 3
        for path in (other, Path("/etc/passwd"), Path(f"/proc/{os.getpid()}/environ")):
            with pytest.raises(SandboxError, match="PermissionError"):
                sandbox.call(acts.read_file, str(path), timeout=TIMEOUT, readable=[given])

    @needs_landlock
    def test_what_may_be_read_may_not_be_written(self, sandbox: Sandbox, tmp_path: Path) -> None:
        limits = SandboxLimits(file_bytes=1000)
        with pytest.raises(SandboxError, match="PermissionError"):
            sandbox.call(
                acts.write_file, str(tmp_path / "a"), timeout=TIMEOUT, limits=limits, readable=[tmp_path]
            )

    @needs_seccomp
    def test_modes_stay_as_they_are(self, sandbox: Sandbox, tmp_path: Path) -> None:
        with pytest.raises(SandboxError, match="PermissionError"):
            sandbox.call(acts.change_mode, str(tmp_path), timeout=TIMEOUT, writable=[tmp_path])

    def test_it_has_no_descriptors_but_its_own(self, sandbox: Sandbox) -> None:
        # the null device three times, the channel, and the one that lists them
        assert sandbox.call(acts.open_descriptors, timeout=TIMEOUT) == ["0", "1", "2", "3", "4"]


def test_the_environment_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOVETAIL_REDIS_URL", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LC_TIME", "C")
    with Sandbox(preload=["tests.media.sandbox_acts"]) as sandbox:
        names = sandbox.call(acts.environment, timeout=TIMEOUT)
    assert "LC_TIME" in names
    assert not {"DOVETAIL_REDIS_URL", "AWS_SECRET_ACCESS_KEY", "SOME_TOKEN"} & set(names)


@needs_linux
def test_a_kernel_that_lacks_a_protection_is_reported_once(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with Sandbox(preload=["tests.media.sandbox_acts", "tests.media.sandbox_old_kernel"]) as sandbox:
        for _ in range(2):
            assert sandbox.call(acts.add, 1, 1, timeout=TIMEOUT) == 2
        with pytest.raises(SandboxError, match="File too large"):  # the limits hold all the same
            sandbox.call(acts.write_path, tmp_path / "a", timeout=TIMEOUT, writable=[tmp_path])
    assert [record.getMessage() for record in caplog.records] == [
        "files are read without seccomp and landlock, which this system lacks"
    ]


def test_only_preloaded_modules_are_there() -> None:
    with real_programs(), Sandbox() as probing:
        assert probing.call(acts.loaded_modules, timeout=TIMEOUT) == ["av", "numpy"]
    with real_programs(), Sandbox(preload=READ_MODULES) as reading:
        assert reading.call(acts.loaded_modules, timeout=TIMEOUT) == ["av", "torch", "numpy"]
        with pytest.raises(InputMemoryError):  # torch has words of its own for it
            reading.call(
                acts.allocate_tensor, 4 << 30, timeout=TIMEOUT, limits=SandboxLimits(memory_bytes=64 * MIB)
            )


def test_the_caller_needs_neither_torch_nor_av() -> None:
    code = "import media.sandbox, sys; sys.exit(len({'torch', 'av', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_importing_probing_needs_no_torch() -> None:
    code = "from media import probe, InputLimits; import sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


class TestLives:
    def test_threads_share_a_sandbox(self, sandbox: Sandbox) -> None:
        before = len(list(Path("/dev/fd").iterdir()))
        with ThreadPoolExecutor(8) as pool:
            results = list(
                pool.map(lambda number: sandbox.call(acts.add, number, 1, timeout=TIMEOUT), range(40))
            )
        assert results == list(range(1, 41))
        assert len(list(Path("/dev/fd").iterdir())) == before

    def test_killing_one_leaves_the_others(self, sandbox: Sandbox) -> None:
        first, second = (sandbox.start(acts.announce_and_spin) for _ in range(2))
        try:
            _, pid, _ = first.receive(timeout=TIMEOUT)
            _, other, _ = second.receive(timeout=TIMEOUT)
            with Watch(pid, other) as watch:
                threading.Timer(0.1, first.kill).start()
                with pytest.raises(SandboxError, match="died of signal 9"):
                    first.receive(timeout=TIMEOUT)
                assert watch.ended(pid)
                assert not watch.ended(other, timeout=0)
                second.close()
                assert watch.ended(other)
        finally:
            first.close()
            second.close()

    def test_a_request_to_end_leaves_what_is_being_read(self, sandbox: Sandbox) -> None:
        """Service managers send it to all processes of a service, also where the caller wants to finish."""
        with contextlib.closing(sandbox.start(acts.announce_and_spin)) as process:
            _, pid, server = process.receive(timeout=TIMEOUT)
            with Watch(pid, server) as watch:
                for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                    os.kill(server, number)
                    os.kill(pid, number)
                assert sandbox.call(acts.add, 1, 1, timeout=TIMEOUT) == 2
                assert not watch.ended(pid, timeout=0)
                assert not watch.ended(server, timeout=0)

    @needs_linux
    def test_a_killed_server_is_replaced(self) -> None:
        with Sandbox(preload=["tests.media.sandbox_acts"]) as sandbox:
            process = sandbox.start(acts.announce_and_spin)
            _, pid, server = process.receive(timeout=TIMEOUT)
            with Watch(pid) as watch, contextlib.closing(process):
                os.kill(server, signal.SIGKILL)
                with pytest.raises(SandboxError):
                    process.receive(timeout=TIMEOUT)
                assert watch.ended(pid)
            assert sandbox.call(acts.add, 1, 1, timeout=TIMEOUT) == 2

    @needs_linux
    def test_nothing_survives_a_killed_caller(self) -> None:
        code = """
from media.sandbox import Sandbox
from tests.media import sandbox_acts as acts
processes = [Sandbox().start(acts.announce_and_spin) for _ in range(2)]
print(*(pid for process in processes for pid in process.receive(timeout=60)[1:]), flush=True)
acts.sleep(600)
"""
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as caller:
            assert caller.stdout is not None
            pids = [int(word) for word in caller.stdout.readline().split()]
            assert len(pids) == 4
            with Watch(*pids) as watch:
                assert not any(watch.ended(pid, timeout=0) for pid in pids)
                caller.kill()
                assert all(watch.ended(pid) for pid in pids)

    def test_a_sandbox_can_be_used_after_it_was_closed(self) -> None:
        sandbox = Sandbox(preload=["tests.media.sandbox_acts"])
        for _ in range(2):
            assert sandbox.call(acts.add, 1, 1, timeout=TIMEOUT) == 2
            sandbox.close()
            sandbox.close()

    def test_a_server_that_does_not_start_is_an_error(self) -> None:
        with pytest.raises(SandboxError, match="does not start"):
            Sandbox(preload=["no_such_module"]).call(acts.add, 1, 1, timeout=TIMEOUT)


class Watch:
    """Sees processes end, without mistaking later ones of the same number for them."""

    def __init__(self, *pids: int) -> None:
        self._files = {pid: os.fdopen(os.pidfd_open(pid), "rb") for pid in pids}

    def ended(self, pid: int, *, timeout: float = 30.0) -> bool:
        poll = select.poll()
        poll.register(self._files[pid], select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.close()


@pytest.mark.parametrize(
    ("field", "value"), [("memory_bytes", 0), ("cpu_seconds", 0), ("open_files", 0), ("file_bytes", -1)]
)
def test_limits_must_make_sense(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=field):
        SandboxLimits(**{field: value})
