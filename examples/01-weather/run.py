"""The main job: Seattle's weather, 1,461 days of it, over an orchestrator and two engine processes on this machine.

    python examples/01-weather/run.py

Starts the three processes on free loopback ports, registers `workflow.yaml` over REST, starts it with the CSV file as
its input, shows its nodes while they run, prints the report, and stops everything. Ends with 0 if all of that worked.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from orchestrator.cli import following, progress, report
from orchestrator.cli.cluster import Cluster
from orchestrator.client import Client
from orchestrator.errors import OrchestratorError

HERE = Path(__file__).parent


async def main() -> int:
    began = time.monotonic()
    async with Cluster(engines=2) as cluster, Client(cluster.url, token=cluster.token) as client:
        say(f"orchestrator {cluster.url}, engines {', '.join(engine.address for engine in cluster.engines)}")
        registered = await client.apply((HERE / "workflow.yaml").read_text(encoding="utf-8"))
        reference = f"{registered.id}@{registered.version}"
        view = await client.start(reference, {"data": (HERE / "seattle-weather.csv").read_text(encoding="utf-8")})
        board = await following.board(client, view)
        await following.follow(client, board)
        view = await client.wait(view.id)
        if view.outputs is None:
            say(report.explain(board))
            return 1
        sys.stdout.write(view.outputs["report"].rstrip() + "\n\n")
        took = progress.duration((view.finished_at or 0) - (view.started_at or 0))
        sys.stdout.write(f"{reference} ran on {view.engine} in {took}: {view.last_seq} facts, execution {view.id}\n")
        sys.stdout.flush()
    say(f"everything is stopped again; {time.monotonic() - began:.1f}s in all")
    return 0


def say(message: str) -> None:
    sys.stderr.write(f"{message}\n")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        sys.exit(asyncio.run(main()))
    except OrchestratorError as exc:
        sys.exit(f"it did not work: {exc}")
    except KeyboardInterrupt:
        sys.exit(130)
