"""Runs `workflow.yaml` on an orchestrator in this process, with a press to publish at, and asks you to sign off.

    python examples/03-sign-off/run.py                 # asks at the terminal
    python examples/03-sign-off/run.py --approve       # both approve
    python examples/03-sign-off/run.py --reject        # the first one rejects

Ends with 0 when the figures were published.
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagengine import DAGEngine
from dagengine.executors.http.policy import Policy
from orchestrator import Orchestrator

HERE = Path(__file__).parent
DATA = HERE.parent / "01-weather" / "seattle-weather.csv"


class Press(http.server.ThreadingHTTPServer):
    """Numbers reports and prints notices. It is busy when the first report comes, and asks to come again at once."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), PressHandler)
        self.reports: list[Any] = []
        self.notices: list[Any] = []
        self.busy = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class PressHandler(http.server.BaseHTTPRequestHandler):
    server: Press

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/notices":
            self.server.notices.append(content)
            self.answer(204)
        elif self.server.busy:
            self.server.busy = False
            self.answer(503, {"Retry-After": "0"})
        else:
            self.server.reports.append(content)
            self.answer(201, body={"number": len(self.server.reports)})

    def answer(self, status: int, headers: dict[str, str] | None = None, body: object = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        sys.stderr.write(f"press: {format % args}\n")


@contextmanager
def press() -> Iterator[Press]:
    with Press() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


async def main(answer: str | None, data: str) -> int:
    with press() as at:
        engine = DAGEngine(http=Policy(allow=("127.0.0.1",)))  # this machine is out of reach unless it is allowed
        async with Orchestrator() as orchestrator:
            orchestrator.register_engine("engine-1", engine)
            await orchestrator.apply((HERE / "workflow.yaml").read_text(encoding="utf-8"))
            execution = await orchestrator.start("sign-off", {"data": data, "press": at.url})
            async for event in orchestrator.events(execution.id):
                fact = json.loads(bytes(event.fact))
                match fact:
                    case {"type": "NodeSucceeded", "node": "figures", "result": figures}:
                        sys.stdout.write(f"{json.dumps(figures)}\n")
                    case {"type": "NodeFailed", "node": "figures", "index": int(), "error": error}:
                        sys.stdout.write(f"left out: {error['message']}\n")
                    case {"type": "NodeWaiting", "node": "sign_off"}:
                        await sign_off(orchestrator, execution.id, answer)
            view = await orchestrator.wait(execution.id)
        said = view.error.message if view.error else json.dumps(view.outputs)
        sys.stdout.write(f"{view.status}: {said}\n")
        sys.stdout.write(f"the press was told: {json.dumps(at.notices)}\n")
        return 0 if view.status == "succeeded" else 1


async def sign_off(orchestrator: Orchestrator, execution: str, answer: str | None) -> None:
    """Two people approve, or the first one rejects: you are all of them."""
    if answer is None:
        said = await asyncio.to_thread(input, "publish these figures? [y/N] ")
        answer = "approve" if said.strip().lower() in ("y", "yes") else "reject"
    if answer == "approve":
        await orchestrator.approve(execution, "sign_off", author="editor", reason="looks right")
        await orchestrator.approve(execution, "sign_off", author="analyst")
    else:
        await orchestrator.reject(execution, "sign_off", author="editor", reason="not today")


def answers() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--approve", dest="answer", action="store_const", const="approve", help="both approve")
    parser.add_argument("--reject", dest="answer", action="store_const", const="reject", help="the first one rejects")
    parser.add_argument("--data", type=Path, default=DATA, help="the CSV file")
    return parser.parse_args()


if __name__ == "__main__":
    given = answers()
    sys.exit(asyncio.run(main(given.answer, given.data.read_text(encoding="utf-8"))))
