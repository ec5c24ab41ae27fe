"""Results that may be used again: known from the commit of their facts on, and until they expire."""

from __future__ import annotations

from orchestrator.store.base import Batch, KnownResult, Store


def known(digest: str, result: bytes = b"1", *, until: int | None = None, found_at: int = 10) -> KnownResult:
    return KnownResult(digest=digest, result=result, execution="e1", found_at=found_at, until=until)


def batch(*results: KnownResult, first_seq: int = 1, epoch: int = 1) -> Batch:
    return Batch(execution="e1", epoch=epoch, first_seq=first_seq, facts=[b'{"at":1}'], results=results)


async def test_they_are_known_with_the_facts_that_hold_them(dispatched: Store) -> None:
    await dispatched.append([batch(known("a"), known("b", b"2", until=50))])
    assert await dispatched.known_results({"a", "b", "c"}, now=20) == {
        "a": known("a"),
        "b": known("b", b"2", until=50),
    }
    assert await dispatched.known_results(set(), now=20) == {}


async def test_they_expire(dispatched: Store) -> None:
    await dispatched.append([batch(known("a", until=50))])
    assert await dispatched.known_results({"a"}, now=49)
    assert await dispatched.known_results({"a"}, now=50) == {}


async def test_a_later_one_replaces_an_earlier_one(dispatched: Store) -> None:
    await dispatched.append([batch(known("a"))])
    await dispatched.append([batch(known("a", b"2", found_at=30, until=90), first_seq=2)])
    assert await dispatched.known_results({"a"}, now=40) == {"a": known("a", b"2", found_at=30, until=90)}


async def test_facts_that_are_refused_make_nothing_known(dispatched: Store) -> None:
    answers = await dispatched.append([batch(known("a"), epoch=9), batch(known("b"), first_seq=7)])
    assert [answer.outcome for answer in answers] == ["fenced", "gap"]
    assert await dispatched.known_results({"a", "b"}, now=0) == {}


async def test_expired_ones_do_not_pile_up(dispatched: Store) -> None:
    old = [known(f"old-{number}", until=20) for number in range(300)]
    await dispatched.append([batch(*old)])
    for seq in range(2, 12):
        await dispatched.append([batch(known(f"new-{seq}", found_at=100), first_seq=seq)])
    assert await dispatched.known_results({result.digest for result in old}, now=0) == {}
