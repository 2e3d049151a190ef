"""Tests in several processes that are forked after collection: `pytest --processes N`.

Importing and collecting takes half a minute of processor time, and is done once. A process that has nothing
to do is given a file of tests, or a folder of those that share something expensive; what comes of each is
told at once. One that dies fails the test that it was in, and another takes the rest of its file.

Processes must be free of threads when they fork, which these are with `OMP_NUM_THREADS=1`. Warnings that
tests record are not told: here they are errors.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NoReturn

import pytest

from tests.scheduling import group_of

# What a process says; what is told to it are the numbers of tests to run, none to end, also in the middle.
_IDLE, _BEGUN, _REPORT, _ENDED, _FINISHED = "idle", "begun", "report", "ended", "finished"
_NO_TESTS: list[int] = []


@dataclass
class _Process:
    """A process of tests, seen from the one that forked it.

    Attributes:
        pid: Its number.
        tests: Places of those that it was given and has not ended.
        is_finished: Whether it has said that it ends.
    """

    pid: int
    tests: deque[int] = field(default_factory=deque)
    is_finished: bool = False


class _Processes:
    """Gives tests to processes and passes on what they report.

    Args:
        session: Has collected.
        number: Of processes.
    """

    def __init__(self, session: pytest.Session, number: int) -> None:
        self._session, self._config, self._number = session, session.config, number
        groups = itertools.groupby(range(len(session.items)), lambda n: group_of(session.items[n].nodeid))
        self._waiting = deque(list(numbers) for _, numbers in groups)
        self._processes: dict[Connection, _Process] = {}

    def run(self) -> None:
        """All tests.

        Raises:
            pytest.Session.Failed: After as many failures as the command line allows.
        """
        try:
            for _ in range(min(self._number, len(self._waiting))):
                self._begin()
            while self._processes:
                # Annotated as any object that could wait; here they are connections.
                for connection in wait(list(self._processes)):
                    assert isinstance(connection, Connection)
                    self._hear(connection)
                if self._session.shouldfail:
                    raise self._session.Failed(self._session.shouldfail)
        finally:
            for connection, process in self._processes.items():
                with contextlib.suppress(OSError, EOFError):
                    connection.send(_NO_TESTS)
                    while connection.recv() != (_FINISHED, None):
                        pass
                os.waitpid(process.pid, 0)

    def _begin(self) -> None:
        own, far = Pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        pid = os.fork()
        if pid == 0:
            own.close()
            for connection in self._processes:
                connection.close()
            _be_process(self._session, far)
        far.close()
        self._processes[own] = _Process(pid)

    def _hear(self, connection: Connection) -> None:
        process = self._processes[connection]
        try:
            kind, content = connection.recv()
        except (EOFError, ConnectionResetError):
            self._bury(connection)
            return
        hook = self._config.hook
        if kind == _IDLE:
            process.tests.extend(self._waiting.popleft() if self._waiting else ())
            connection.send(list(process.tests))
        elif kind == _BEGUN:
            item = self._session.items[content]
            hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        elif kind == _REPORT:
            report = hook.pytest_report_from_serializable(config=self._config, data=content)
            hook.pytest_runtest_logreport(report=report)
        elif kind == _ENDED:
            item = self._session.items[process.tests.popleft()]
            hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        elif kind == _FINISHED:
            process.is_finished = True

    def _bury(self, connection: Connection) -> None:
        """Of a process that is no more. If it did not say so, the test that it was in has failed."""
        process = self._processes.pop(connection)
        connection.close()
        _, status = os.waitpid(process.pid, 0)
        if process.is_finished:
            return
        code = os.waitstatus_to_exitcode(status)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        if process.tests:
            item = self._session.items[process.tests.popleft()]
            self._fail(item.nodeid, item.location, when="call", why=f"its process {how}")
        else:
            place = ("tests/processes.py", None, "after its tests")
            why = f"a process {how} after its tests; what it said of that is above"
            self._fail("::".join((place[0], place[2])), place, when="teardown", why=why)
        if process.tests:
            self._waiting.appendleft(list(process.tests))
        if self._waiting:
            self._begin()

    def _fail(
        self,
        nodeid: str,
        location: tuple[str, int | None, str],
        *,
        when: Literal["call", "teardown"],
        why: str,
    ) -> None:
        report = pytest.TestReport(nodeid, location, {}, "failed", why, when)
        self._config.hook.pytest_runtest_logreport(report=report)
        self._config.hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)


def _be_process(session: pytest.Session, connection: Connection) -> NoReturn:
    """Runs tests until there are no more."""
    status, terminal = 1, os.dup(2)
    try:
        _be_silent(session.config)
        session.config.pluginmanager.register(_Teller(session.config, connection))
        try:
            for number, following in _given(connection):
                _run(session, number, following, connection)
                if session.shouldfail or session.shouldstop:
                    break  # all fixtures are taken down already
        finally:
            session.config.hook.pytest_sessionfinish(session=session, exitstatus=pytest.ExitCode.OK)
        connection.send((_FINISHED, None))
        status = 0
    except KeyboardInterrupt:
        pass  # the one that forked this has it too, and tells of it
    except BaseException:
        os.write(terminal, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _run(session: pytest.Session, number: int, following: int | None, connection: Connection) -> None:
    item = session.items[number]
    connection.send((_BEGUN, number))
    # The session stands for a test that has nothing in common with this one but the session.
    item.config.hook.pytest_runtest_protocol(
        item=item, nextitem=session if following is None else session.items[following]
    )
    connection.send((_ENDED, number))


def _given(connection: Connection) -> Iterator[tuple[int, int | None]]:
    """Tests to run, each with the one that follows in its group."""
    while True:
        connection.send((_IDLE, None))
        numbers = connection.recv()
        if not numbers:
            return
        for pair in itertools.zip_longest(numbers, numbers[1:]):
            if connection.poll():
                return
            yield pair


def _be_silent(config: pytest.Config) -> None:
    """What a process prints is captured in files of its own; the terminal is for the one that hears."""
    manager = config.pluginmanager
    capture = manager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    manager.unregister(manager.getplugin("terminalreporter"))
    manager.register(_SilentReporter(config), "terminalreporter")


class _SilentReporter(pytest.TerminalReporter):
    """Tells nothing, but is there: failed assertions are coloured as it would."""

    # A hook may leave out arguments, and tests are not type-checked.

    def pytest_runtest_logstart(self) -> None:
        pass

    def pytest_runtest_logreport(self) -> None:
        pass

    def pytest_runtest_logfinish(self) -> None:
        pass

    def pytest_sessionfinish(self) -> None:
        pass


class _Teller:
    """Tells of reports.

    Args:
        config: To make them such that they can be sent.
        connection: To the process that hears.
    """

    def __init__(self, config: pytest.Config, connection: Connection) -> None:
        self._config, self._connection = config, connection

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data: dict[str, Any] | None = self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        self._connection.send((_REPORT, data))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("processes").addoption(
        *("--processes",),
        type=int,
        default=0,
        metavar="N",
        help="run tests in N processes, forked after collection; 0 runs them in this one",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    number = session.config.getoption("processes")
    if not number or session.config.option.collectonly or session.testsfailed:
        return None  # pytest's own loop says what is wrong
    # Files of several processes take turns: their names would say nothing between the dots.
    session.config.pluginmanager.getplugin("terminalreporter").showfspath = False
    # One folder for the files of all tests, or each process would leave one that nobody removes. A private
    # name: fixtures are the public way to it, and none is made here.
    session.config._tmp_path_factory.getbasetemp()
    _Processes(session, number).run()
    return True
