"""Links to what discoveries name."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.discovery.static import StaticDiscovery, parse_addresses
from orchestrator.linking import Linking


async def test_links_are_made_in_the_order_of_addresses(bench: Any) -> None:
    """A set of addresses is in another order in each process: what follows from that could not be told again."""
    named = [f"engine-{number:02}:1" for number in range(20)]
    linking = Linking({"static": StaticDiscovery(parse_addresses(",".join(reversed(named))))}, bench.dispatcher)
    [(_, follow)] = linking.works({"grpc": bench})
    following = asyncio.create_task(follow)
    await bench.soon(lambda: len(bench.engines) == len(named))
    await linking.close()
    await following
    assert list(bench.engines) == named
