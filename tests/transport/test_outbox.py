"""Merging what is sent: fewer messages, and for each execution the order in which its commands were sent."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagengine.wire import limits
from dagengine.wire.v1.session_pb2 import OrchestratorMessage
from orchestrator.errors import TransportError
from orchestrator.transport.outbox import Outbox

FIELDS = ("drops", "adopts", "histories", "starts", "deliveries", "acks", "resends")
ORDERED = FIELDS[:4]

Command = tuple[str, str, int]
"""Field, execution, and a number that tells commands apart (an epoch, mostly)."""


def message_of(*commands: Command) -> OrchestratorMessage:
    message = OrchestratorMessage()
    for field, execution, number in commands:
        if field == "deliveries":
            message.deliveries.add(execution=execution, id=str(number))
        else:
            getattr(message, field).add(execution=execution, epoch=number)
    return message


def obeyed(message: OrchestratorMessage) -> list[Command]:
    """The commands of a message in the order in which an engine obeys them."""
    return [
        (field, item.execution, int(item.id) if field == "deliveries" else item.epoch)
        for field in FIELDS
        for item in getattr(message, field)
    ]


async def drain(outbox: Outbox) -> list[OrchestratorMessage]:
    outbox.put(message_of(("acks", "the end", 0)))
    messages = []
    while True:
        messages.append(await outbox.next())
        if ("acks", "the end", 0) in obeyed(messages[-1]):
            return messages


commands = st.lists(
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(["e1", "e2", "e3"]), st.integers(1, 1_000_000)), max_size=4
)


@given(sent=st.lists(commands, max_size=30))
def test_each_execution_sees_its_commands_in_the_order_they_were_sent(sent: list[list[Command]]) -> None:
    async def pass_through() -> list[OrchestratorMessage]:
        outbox = Outbox()
        for items in sent:
            outbox.put(message_of(*items))
        return await drain(outbox)

    came = [command for message in asyncio.run(pass_through()) for command in obeyed(message)]
    meant = [command for items in sent for command in obeyed(message_of(*items))]
    assert sorted(came) == sorted([*meant, ("acks", "the end", 0)])
    for execution in ("e1", "e2", "e3"):
        for fields in (ORDERED, *((field,) for field in FIELDS)):
            assert [c for c in came if c[1] == execution and c[0] in fields] == [
                c for c in meant if c[1] == execution and c[0] in fields
            ]


async def test_many_small_messages_become_one() -> None:
    outbox = Outbox()
    for number in range(1_000):
        outbox.put(message_of(("acks", f"e{number % 7}", number)))
        outbox.put(message_of(("starts", f"new-{number}", 1)))
    [message] = await drain(outbox)
    assert (len(message.acks), len(message.starts)) == (1_001, 1_000)


async def test_a_start_and_the_drop_after_it_never_share_a_message() -> None:
    outbox = Outbox()
    outbox.put(message_of(("starts", "e1", 1)))
    outbox.put(message_of(("drops", "e1", 1)))
    outbox.put(message_of(("starts", "e1", 2)))
    assert [obeyed(message)[0][0] for message in await drain(outbox)] == ["starts", "drops"]


async def test_merged_messages_keep_within_a_batch() -> None:
    outbox = Outbox()
    for number in range(10):
        outbox.put(OrchestratorMessage(starts=[{"execution": f"e{number}", "inputs": b"x" * 300_000}]))
    messages = await drain(outbox)
    assert [len(message.starts) for message in messages] == [3, 3, 3, 1]
    assert all(message.ByteSize() <= limits.BATCH_BYTES for message in messages)


async def test_what_is_queued_is_a_copy_and_empty_messages_are_nothing() -> None:
    outbox = Outbox()
    mine = message_of(("acks", "e1", 1))
    outbox.put(mine)
    outbox.put(OrchestratorMessage())
    outbox.put(message_of(("acks", "e2", 2)))
    assert obeyed(mine) == [("acks", "e1", 1)]
    [message] = await drain(outbox)
    assert len(message.acks) == 3


async def test_a_large_message_goes_in_parts() -> None:
    outbox = Outbox()
    facts = [bytes([number]) * 300_000 for number in range(10)]
    large = OrchestratorMessage(
        drops=[{"execution": "e1", "epoch": 1}],
        histories=[{"execution": "e1", "epoch": 2, "first_seq": 5, "facts": facts}],
        starts=[{"execution": f"e{number}", "inputs": b"x" * 700_000} for number in (1, 2, 3)],
    )
    outbox.put(large)
    messages = await drain(outbox)
    assert [name for message in messages for name, *_ in obeyed(message)][:-1] == (
        ["drops"] + ["histories"] * 4 + ["starts"] * 3
    )
    assert max(message.ByteSize() for message in messages) <= limits.BATCH_BYTES
    came: list[bytes] = []
    for history in (history for message in messages for history in message.histories):
        assert (history.first_seq, history.epoch) == (5 + len(came), 2)
        came += history.facts
    assert came == facts


async def test_a_command_that_is_too_large_is_refused_and_nothing_of_its_message_is_sent() -> None:
    outbox = Outbox()
    with pytest.raises(TransportError, match="a message of"):
        outbox.put(OrchestratorMessage(starts=[{"execution": "e1"}, {"inputs": b"x" * limits.MAX_MESSAGE_BYTES}]))
    assert [len(message.starts) for message in await drain(outbox)] == [0]


async def test_a_lease_leaves_with_the_next_message_whatever_is_queued() -> None:
    outbox = Outbox()
    for number in range(3):
        large = OrchestratorMessage()
        large.histories.add(execution=f"e{number}", epoch=1, first_seq=1, facts=[b"x" * limits.BATCH_BYTES])
        outbox.put(large)
    outbox.put(OrchestratorMessage(lease={"beat": 7, "milliseconds": 30_000}))
    outbox.put(OrchestratorMessage(lease={"beat": 8, "milliseconds": 30_000}))
    first, *rest = await drain(outbox)
    assert (first.lease.beat, len(first.histories)) == (8, 1)
    assert not any(message.HasField("lease") for message in rest)


async def test_merged_acknowledgements_tell_the_last_position() -> None:
    outbox = Outbox()
    for number, position in enumerate([4, 9, 0], start=1):
        outbox.put(OrchestratorMessage(acks=[{"execution": "e", "epoch": 1, "seq": number}], position=position))
    [message] = await drain(outbox)
    assert ([ack.seq for ack in message.acks], message.position) == ([1, 2, 3, 0], 9)


async def test_whoever_sends_much_waits_for_it_to_leave() -> None:
    outbox = Outbox()
    await outbox.room()
    for _ in range(9):
        outbox.put(_history(4 << 20))
    waiting = asyncio.ensure_future(outbox.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.next()
    await outbox.next()
    await asyncio.wait_for(waiting, 5)


async def test_nobody_waits_for_a_session_that_is_over() -> None:
    outbox = Outbox()
    for _ in range(9):
        outbox.put(_history(4 << 20))
    waiting = asyncio.ensure_future(outbox.room())
    await asyncio.sleep(0)
    outbox.close()
    await asyncio.wait_for(waiting, 5)


def _history(size: int) -> OrchestratorMessage:
    message = OrchestratorMessage()
    message.histories.add(execution="e", epoch=1, first_seq=1, facts=[bytes(size)])
    return message
