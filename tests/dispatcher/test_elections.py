"""A leader that is elected outside the store: it leads when the store agrees, and gives all up when another one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dagengine.spec.model import Document

Journal = Callable[..., list[bytes]]


class Ballot:
    """An election whose outcome the test decides: a `dispatcher.election.Election`."""

    def __init__(self) -> None:
        self.term: int | None = None
        self.trouble = ""
        self.outbid_by: list[int] = []
        self.looks = 0
        self.released: list[int] = []
        """How many replicas there were when it was released."""
        self.replicas: Callable[[], Any] | None = None
        self._changed: Callable[[], None] = lambda: None
        self._fit: Callable[[], bool] = lambda: False

    @property
    def fit(self) -> bool:
        return self._fit()

    def look(self) -> None:
        self.looks += 1

    def outbid(self, term: int) -> None:
        self.outbid_by.append(term)

    async def run(self, changed: Callable[[], None], *, fit: Callable[[], bool]) -> None:
        self._changed, self._fit = changed, fit
        await asyncio.Event().wait()

    async def release(self) -> None:
        assert self.replicas is not None
        self.released.append(len(await self.replicas()))

    def elects(self, term: int | None) -> None:
        self.term = term
        self._changed()


@pytest.fixture
async def ballot(bench: Any) -> Ballot:
    """The election of the replica on the bench, which nobody has won yet."""
    ballot = Ballot()
    ballot.replicas = bench.store.replicas
    bench.told = []
    await bench.restart(election=ballot, led=bench.told.append)
    await bench.quiet()
    return ballot


@pytest.fixture
async def keyed(bench: Any, document: Any, ballot: Ballot) -> tuple[str, str]:
    """Two executions that share a key, of which one may run at a time, under a leader of term 5."""
    ballot.elects(5)
    await bench.quiet()
    queue = document([{"id": "a"}], id="queue", concurrency={"max": 1})
    return await bench.start(queue, concurrency_key="k"), await bench.start(queue, concurrency_key="k")


async def leads(bench: Any) -> list[bool]:
    return [replica.leads for replica in await bench.store.replicas()]


async def test_nobody_leads_before_somebody_is_elected(bench: Any, ballot: Ballot) -> None:
    await bench.advance(30)
    assert (bench.dispatcher.leads, bench.told, await leads(bench)) == (False, [], [False])
    ballot.elects(5)
    await bench.quiet()
    assert (bench.dispatcher.leads, bench.told, await leads(bench)) == (True, [True], [True])


async def test_it_leads_for_as_long_as_the_election_says_nothing_else(bench: Any, ballot: Ballot) -> None:
    ballot.elects(5)
    await bench.advance(60)
    assert (bench.dispatcher.leads, bench.told) == (True, [True])
    assert (await bench.store.renew()).term == 5


async def test_a_term_that_the_store_has_seen_is_not_led_under(bench: Any, ballot: Ballot) -> None:
    """The bench has led under term 1 before there was an election."""
    ballot.elects(1)
    await bench.quiet()
    assert not bench.dispatcher.leads
    assert set(ballot.outbid_by) == {1}
    ballot.elects(2)
    await bench.quiet()
    assert bench.dispatcher.leads


async def test_who_is_elected_no_more_stops_at_once_and_joins_again(
    bench: Any, ballot: Ballot, lua: Document, journal: Journal
) -> None:
    ballot.elects(5)
    engine = await bench.engine()
    execution = await bench.start(lua)
    await engine.gets("starts")
    [before] = await bench.store.replicas()
    ended = bench.dispatcher.feed.end(execution)
    ballot.elects(None)
    assert (bench.told, bench.dispatcher.leads) == ([True, False], False)  # without waiting for anything
    await bench.quiet()
    [after] = await bench.store.replicas()
    assert (after.id != before.id, after.leads) == (True, False)
    await bench.advance(1)
    [adopt] = await engine.gets("adopts")
    assert (adopt.execution, adopt.epoch) == (execution, 2)
    await engine.facts(execution, journal(lua, execution), epoch=2)
    assert (await ended).status == "succeeded"


async def test_a_store_that_is_away_meanwhile_is_told_later(bench: Any, ballot: Ballot) -> None:
    ballot.elects(5)
    await bench.quiet()
    bench.store.failing.add("join")
    ballot.elects(None)
    await bench.advance(5)
    assert bench.dispatcher.out_of_touch
    assert not ballot.fit
    bench.store.failing.clear()
    await bench.advance(3)
    assert not bench.dispatcher.out_of_touch
    assert ballot.fit


async def test_the_next_leader_counts_keys_anew(bench: Any, ballot: Ballot, keyed: tuple[str, str]) -> None:
    engine = await bench.engine()
    [start] = await engine.gets("starts")
    assert start.execution == keyed[0]
    ballot.elects(None)
    await bench.quiet()
    await bench.advance(3)
    assert engine.told("adopts") == []  # nobody leads, and only a leader may own them
    ballot.elects(6)
    await bench.advance(1)
    assert [adopt.execution for adopt in await engine.gets("adopts")] == [keyed[0]]
    assert await bench.waiting_on(keyed[1]) == "concurrency"


async def test_another_term_is_another_leadership(bench: Any, ballot: Ballot) -> None:
    ballot.elects(5)
    await bench.quiet()
    ballot.elects(7)
    await bench.advance(1)
    assert bench.told == [True, False, True]
    assert (await bench.store.renew()).term == 7


async def test_what_the_store_has_ended_is_outbid_by_its_own_term(bench: Any, ballot: Ballot) -> None:
    """Its lease was ended while it stood still: the term was led under by somebody that it is not any more."""
    ballot.elects(5)
    await bench.quiet()
    await bench.store.leave()
    await bench.advance(3)
    assert not bench.dispatcher.leads
    assert ballot.outbid_by[-1] == 5
    ballot.elects(6)
    await bench.quiet()
    assert bench.dispatcher.leads


async def test_an_answer_about_the_past_makes_no_leader(bench: Any, ballot: Ballot) -> None:
    """It is elected no more while the store is asked to have it lead."""
    gate = bench.store.hold("lead")
    ballot.elects(5)
    await bench.store.reached("lead")
    ballot.elects(None)
    gate.set()
    await bench.quiet()
    await bench.advance(1)
    assert not bench.dispatcher.leads
    assert await leads(bench) == [False]


async def test_news_of_other_replicas_are_a_reason_to_look(bench: Any, ballot: Ballot) -> None:
    before = ballot.looks
    bench.dispatcher.heard("replicas")
    assert ballot.looks == before + 1


async def test_the_leadership_is_released_before_others_hear_of_the_leaving(bench: Any, ballot: Ballot) -> None:
    ballot.elects(5)
    await bench.quiet()
    await bench.dispatcher.close()
    assert ballot.released == [1]
    assert await bench.store.replicas() == []
