"""The small process that programs are started from: `python keeper.py FD`, where FD is a socket to the engine.

It has no thread, no event loop and no gRPC in it, so that it may fork; the engine never does. For each attempt it forks
a *guard*, and the guard starts the program, in a session and a process group of its own. The guard adopts whatever the
program leaves behind (PR_SET_CHILD_SUBREAPER), so that all descendants can be found and killed, also those that have
left the group. It does so when the program has ended, when it is told to, and when the engine is gone, however that
came about: then it reads the end of its socket. At last it removes the attempt's directory.

A guard and the engine talk over a socket of their own, in messages of `NOTICE` (guard to engine) and single bytes
(engine to guard). Nothing here imports the rest of the package: the file runs by itself, and starts quickly.

Started by `custody`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import shutil
import signal
import socket
import struct
import sys
import time
from typing import Any, Final, NoReturn

__all__ = ["ENDED", "FAILED", "KILL", "NOTICE", "ORDER_FDS", "STARTED", "TERMINATE", "main"]

NOTICE: Final = struct.Struct("=cqq")
"""What a guard tells: a kind, a number, and how many microseconds ago the program was started."""

STARTED: Final = b"s"
"""The program runs; its process id."""
FAILED: Final = b"f"
"""The program could not be started; the error number."""
ENDED: Final = b"e"
"""The program and all that it started have ended; the status of the program, as of `os.waitpid`."""

TERMINATE: Final = b"t"
"""Ask the program's group to end: SIGTERM."""
KILL: Final = b"k"
"""End the program and all that it started: SIGKILL."""

ORDER_FDS: Final = 5
"""What comes with the byte of an order: the order itself (a file with JSON), stdin, stdout, stderr, the socket."""

_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_CHILD_SUBREAPER: Final = 36
_SET_NO_NEW_PRIVILEGES: Final = 38
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_CHILDREN: Final = "/proc/self/task/{}/children"
_LOOK_AGAIN: Final = 0.05
"""Seconds."""
_DEFAULT_PATH: Final = "/usr/local/bin:/usr/bin:/bin"

_prctl = ctypes.CDLL(None).prctl if sys.platform.startswith("linux") else None


def _control_process(option: int, value: int) -> None:
    if _prctl is not None:
        _prctl(option, value, 0, 0, 0)


class Keeper:
    """Forks guards, and waits for them when they have ended. Ends when the engine is gone and no guard is left."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._guards: set[int] = set()

    def serve(self) -> None:
        """Do as asked until the engine is gone."""
        awake = _notices_children()
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(awake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if awake.fileno() in ready:
                _drain(awake)
                self._reap()
            if self._control.fileno() in ready and not self._obey(awake):
                break
        while self._guards:
            self._wait(0)

    def _obey(self, awake: socket.socket) -> bool:
        """Take one order; False when the engine is gone."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 1, ORDER_FDS)
        except ConnectionError:
            return False
        if not message:
            return False
        for fd in fds:
            os.set_inheritable(fd, False)
        try:
            pid = os.fork()
        except OSError as exc:
            with contextlib.suppress(OSError):
                os.write(fds[-1], NOTICE.pack(FAILED, exc.errno or 0, 0))
        else:
            if pid == 0:
                _become_guard(fds, inherited=(self._control, awake))
            self._guards.add(pid)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _reap(self) -> None:
        while self._wait(os.WNOHANG):
            pass

    def _wait(self, options: int) -> bool:
        try:
            pid, _ = os.waitpid(-1, options)
        except ChildProcessError:
            self._guards.clear()
            return False
        if not pid:
            return False
        self._guards.discard(pid)
        for orphan in _children() - self._guards:  # its guard was killed; its own children come with its death
            _kill(orphan)
        return True


class Guard:
    """Starts one program, and sees to it that nothing of it is left."""

    def __init__(self, order: dict[str, Any], control: socket.socket) -> None:
        self._order = order
        self._control = control
        self._awake = _notices_children()
        self._program = 0
        self._started = time.monotonic_ns()

    def serve(self, stdio: list[int]) -> None:
        """Run the program to its end; the directory of the attempt is gone afterwards."""
        try:
            failed = self._start(stdio)
            for fd in stdio:
                os.close(fd)
            if failed:
                self._end()
                self._tell(FAILED, failed)
            else:
                self._tell(STARTED, self._program)
                self._watch()
                self._tell(ENDED, self._end())
            while self._control.recv(64):  # the engine takes what it wants from the directory, then it closes
                pass
        except ConnectionError:
            self._end()  # the engine is gone
        finally:
            _remove(self._order["directory"])

    def _start(self, stdio: list[int]) -> int:
        """Start the program. 0, or the number of the error that kept it from starting."""
        told, tell = os.pipe()
        guard = os.getpid()
        self._started = time.monotonic_ns()
        self._program = os.fork()
        if self._program == 0:
            self._become_program(stdio, tell, guard)
        os.close(tell)
        with open(told, "rb") as file:  # its other end is closed when the program runs
            failed = file.read()
        return int(failed) if failed else 0

    def _become_program(self, stdio: list[int], tell: int, guard: int) -> NoReturn:
        try:
            order = self._order
            os.setsid()
            for target, fd in enumerate(stdio):
                os.dup2(fd, target)
            signal.set_wakeup_fd(-1)
            for number in (*_IGNORED, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            _limit(memory=order["memory"], cpu=order["cpu"])
            os.chdir(order["workdir"])
            _control_process(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() == guard:
                _execute([_encode(word) for word in order["argv"]], order["env"])
        except BaseException as exc:
            os.write(tell, str(getattr(exc, "errno", None) or errno.EINVAL).encode())
        finally:
            os._exit(127)

    def _watch(self) -> None:
        """Return when the program has ended, or all of it is to end."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._awake.fileno() in ready:
                _drain(self._awake)
                if self._has_ended():
                    return
            if self._control.fileno() in ready:
                asked = self._control.recv(64)
                if not asked or KILL in asked:
                    return
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._program, signal.SIGTERM)

    def _has_ended(self) -> bool:
        """Whether the program has ended; it is not waited for yet, so that its number is still its own."""
        if not hasattr(os, "waitid"):  # macOS with Python before 3.13
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._program, 0)
                return os.waitpid(self._program, os.WNOHANG) != (0, 0)
            return True
        while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if found.si_pid == self._program:
                return True
            os.waitpid(found.si_pid, 0)
        return False

    def _end(self) -> int:
        """Kill the program and all its descendants; the status of the program."""
        status = 0
        if not self._program:
            return status
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._program, signal.SIGKILL)
        _kill(self._program)
        while True:
            for child in _children():
                _kill(child)
            try:
                pid, ended = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._program = 0
                return status
            if pid == self._program:
                status = ended
            elif not pid:  # the list of children may miss one while others end: look again even if nothing happens
                select.select([self._awake], [], [], _LOOK_AGAIN)
                _drain(self._awake)

    def _tell(self, kind: bytes, value: int) -> None:
        self._control.sendall(NOTICE.pack(kind, value, (time.monotonic_ns() - self._started) // 1_000))


def _become_guard(fds: list[int], inherited: tuple[socket.socket, ...]) -> NoReturn:
    code = 70  # EX_SOFTWARE of sysexits(3)
    try:
        signal.set_wakeup_fd(-1)
        for other in inherited:
            other.close()
        _adopt_orphans()
        with open(fds[0], "rb") as file:
            order = json.load(file)
        Guard(order, socket.socket(fileno=fds[4])).serve(fds[1:4])
        code = 0
    except BaseException as exc:
        # Its message might quote the order, and that holds values of secrets.
        with contextlib.suppress(OSError):
            os.write(2, f"the guard of a program failed: {type(exc).__name__}\n".encode())
    finally:
        os._exit(code)


def _execute(argv: list[bytes], env: dict[str, str]) -> NoReturn:
    """Become the program. Raises the OSError that says best why not."""
    environment = {_encode(name): _encode(value) for name, value in env.items()}
    if b"/" in argv[0]:
        os.execve(argv[0], argv, environment)  # noqa: S606 - no shell is what is wanted
    failure: OSError = FileNotFoundError(2, "not found")
    for folder in _encode(env.get("PATH") or _DEFAULT_PATH).split(b":"):
        try:
            os.execve(os.path.join(folder or b".", argv[0]), argv, environment)  # noqa: S606 - as above
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as exc:
            failure = exc
    raise failure


def _limit(*, memory: int | None, cpu: int | None) -> None:
    """Limits of each process: bytes of address space, seconds of processor time; first to go when memory is short."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(b"500")
    _lower(resource.RLIMIT_CORE, 0, 0)
    if memory is not None:
        _lower(resource.RLIMIT_AS, memory, memory)
    if cpu is not None:
        _lower(resource.RLIMIT_CPU, cpu, cpu + 5)


def _lower(kind: int, soft: int, hard: int) -> None:
    _, most = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    with contextlib.suppress(ValueError, OSError):  # not every system has every limit: the others still hold
        resource.setrlimit(kind, (soft, hard))


def _notices_children() -> socket.socket:
    """A socket that can be read when a child has ended."""
    awake, alarm = socket.socketpair()
    awake.setblocking(False)
    alarm.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(alarm.detach(), warn_on_full_buffer=False)
    return awake


def _drain(awake: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while awake.recv(512):
            pass


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end, where they can be listed then."""
    if os.path.exists(_CHILDREN.format(os.getpid())):
        _control_process(_SET_CHILD_SUBREAPER, 1)


def _children() -> set[int]:
    """The children of this process, adopted ones included; empty where the system does not tell."""
    try:
        with open(_CHILDREN.format(os.getpid()), "rb") as file:
            return {int(pid) for pid in file.read().split()}
    except OSError:
        return set()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _remove(directory: str) -> None:
    """Remove a directory, also when something in it was made unreadable."""
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.lexists(directory):
        for folder, _, _ in os.walk(directory):
            for name in os.listdir(folder):
                path = os.path.join(folder, name)
                if os.path.isdir(path) and not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(directory, ignore_errors=True)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def main(arguments: list[str]) -> None:
    """Keep the programs of the process that holds the other end of the socket FD."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.environ.clear()
    _adopt_orphans()
    _control_process(_SET_NO_NEW_PRIVILEGES, 1)
    Keeper(socket.socket(fileno=int(arguments[0]))).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
