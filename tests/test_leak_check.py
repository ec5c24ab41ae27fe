"""The check in `conftest.py` notices what a test leaves behind, and leaves alone what cleans up after itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "import asyncio, os, socket, subprocess, sys, threading\nkept = []\n"

LEAKS = {
    "task": (
        "async def test_it():\n    kept.append(asyncio.ensure_future(asyncio.Event().wait()))",
        "leaves tasks behind",
    ),
    "thread": (
        "def test_it():\n    threading.Thread(target=threading.Event().wait, name='worker', daemon=True).start()",
        r"leaves behind: thread worker \(\d+\)",
    ),
    "process": (
        "def test_it():\n    kept.append(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE))",
        r"leaves behind: process \d+, open file pipe:",
    ),
    "zombie": (
        "def test_it():\n    if os.fork() == 0:\n        os._exit(0)",
        r"leaves behind: process \d+",
    ),
    "file": (
        "def test_it(tmp_path):\n    kept.append((tmp_path / 'left.txt').open('w'))",
        r"leaves behind: open file .*left\.txt",
    ),
    "socket": (
        "def test_it():\n    kept.append(socket.create_server(('127.0.0.1', 0)))",
        r"leaves behind: open file socket:\[\d+\]",
    ),
}

CLEAN = """
@pytest.fixture
async def server():
    server = await asyncio.start_server(lambda reader, writer: None, '127.0.0.1', 0)
    yield server
    server.close()
    await server.wait_closed()

@pytest.fixture(scope="module")
def module_thread():
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="module")
    thread.start()
    yield
    end.set()
    thread.join()

async def test_asynchronous(server, module_thread, tmp_path):
    await asyncio.to_thread(lambda: None)
    asyncio.ensure_future(asyncio.sleep(60)).cancel()
    with (tmp_path / "x").open("w"):
        pass

def test_synchronous(module_thread):
    subprocess.run([sys.executable, "-c", ""], check=True)
    kept.append(threading.Thread(target=lambda: None))
    kept[0].start()
"""


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """The tests in `code`, next to a copy of the conftest, in a pytest of their own."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder)
    (folder / "test_sample.py").write_text("import pytest\n" + HEAD + code, encoding="utf-8")
    options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir", str(folder)]
    fast = folder / "conftest.py"
    fast.write_text(fast.read_text(encoding="utf-8").replace("_GRACE = 3.0", "_GRACE = 0.1"), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(folder)], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("kind", list(LEAKS))
def test_what_is_left_behind_is_an_error_that_names_it(kind: str, tmp_path: Path) -> None:
    code, message = LEAKS[kind]
    ended = run(tmp_path, code)
    assert ended.returncode == 1, ended.stdout
    assert "1 passed, 1 error" in ended.stdout
    assert re.search(message, ended.stdout), ended.stdout


def test_tests_that_clean_up_are_left_alone(tmp_path: Path) -> None:
    ended = run(tmp_path, CLEAN)
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout
