"""`tune`, `follow` and `rewind` on the real stack: who applies it, who is told, and what comes out
again."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from agents.admin.replan import Span, replan_span
from agents.base.errors import CommandRefused
from agents.core.lanes.records import SRC
from agents.core.model.topology import TOPIC_CLEAN, WorkerKind
from agents.core.planning.recording import frame_from_json
from agents.journal.decisions import open_ticks
from agents.kafka.connection import client_kwargs
from agents.kafka.offsets import Offsets
from agents.xmpp.operator_client import OperatorClient
from kernels.scoring.choose import choose_numerics
from tests.stack.conftest import Running
from tests.stack.shared.asking import step, text

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="package")]


async def ask(person: OperatorClient, command: str, **fields: str) -> str:
    """What a look answers."""
    return text(await step(person, command, fields=fields))


async def do(running: Running, person: OperatorClient, command: str) -> str:
    """Say it in the room and confirm it; the dry run."""
    for _ in range(10):
        await person.send_to_room(f"!{command}")
        dry = (await person.wait_for_message(running.bot("To do it|already"), 20)).text
        await person.send_to_room(f"!confirm {dry.partition('confirm ')[2].split()[0]}")
        if "On it" in (await person.wait_for_message(running.bot("On it|has changed"), 20)).text:
            return dry
    raise AssertionError("the fleet changes faster than it can be confirmed")


async def until_it_says(person: OperatorClient, pattern: str, command: str, **fields: str) -> str:
    async with asyncio.timeout(40):
        while not re.search(pattern, said := await ask(person, command, **fields)):
            await asyncio.sleep(1)  # who asks more is not heard
    return said


async def test_all_workers_have_it_and_one_that_comes_later_too(running: Running) -> None:
    async with OperatorClient(running.login("operator"), "operator") as owner:
        await owner.join_room()
        await owner.send_to_room("!tune commit_gap_ms 99999")
        await owner.wait_for_message(running.bot("must be a whole number from 0 to 60000"))
        dry = await do(running, owner, "tune commit_gap_ms 250")
        assert "from 100 ms to 250 ms" in dry
        assert "4 workers apply it" in dry
        await owner.wait_for_message(
            running.bot(
                r"operator: commit_gap_ms is 250 ms \(was 100 ms\); 4 of 4 workers have it"
            ),
            10,
        )
    victim = running.stack.busiest_node().name
    log = running.stack.folder.log / f"{victim}.log"
    applied = log.read_text("utf-8").count('"tuned"')
    running.stack.kill_process(victim)
    await running.until(
        lambda: log.read_text("utf-8").count('"tuned"') > applied, "it fetches what holds", 30
    )
    async with OperatorClient(running.login("guest"), "guest", seen=False) as guest:
        await until_it_says(guest, "4 of 4 workers have it", "tune")
        assert "commit_gap_ms is 250 ms (settings: 100 ms)" in await ask(
            guest, "tune", name="commit_gap_ms"
        )
        with pytest.raises(CommandRefused, match="needs an owner"):
            await ask(guest, "tune", name="commit_gap_ms", value="100")


async def test_a_frozen_worker_is_shown_as_not_having_it(running: Running) -> None:
    victim = running.stack.busiest_node()
    name = victim.name.partition("-")[2]
    async with OperatorClient(running.login("operator"), "operator") as owner:
        await owner.join_room()
        victim.send_signal(signal.SIGSTOP)
        try:
            await do(running, owner, "tune batch_records 4000")
            said = await owner.wait_for_message(running.bot("batch_records is 4000 records"), 20)
            assert f"3 of 4 workers have it, not yet {name}" in said.text
            assert name in await until_it_says(
                owner, "3 of 4 workers have it", "tune", name="batch_records"
            )
        finally:
            victim.send_signal(signal.SIGCONT)
        healed = await owner.wait_for_message(
            running.bot("batch_records is 4000 records.*4 of 4 workers have it"), 40
        )
        assert healed.replaces == said.message_id, "one message, corrected"


async def test_a_calm_setting_takes_effect_and_plans_can_be_made_again(running: Running) -> None:
    journal = running.stack.folder.path / "journal.sqlite3"
    async with OperatorClient(running.login("operator"), "operator") as owner:
        await owner.join_room()
        dry = await do(running, owner, "tune target_utilisation 0.5")
        assert "The planner applies it" in dry
        await owner.wait_for_message(
            running.bot("target_utilisation is 0.5 share .was 0.85 share.; the planner has it")
        )
    numerics = await asyncio.to_thread(choose_numerics, "cpu")

    def shares() -> set[float]:
        with open_ticks(journal) as ticks:
            return {
                frame_from_json(ticks.read_frame_json(t.frame_id)).calm.target_utilisation
                for t in ticks.read_between(0, 1 << 50)
            }

    async with asyncio.timeout(20):  # until a plan is made by the new rule
        while not await asyncio.to_thread(shares) >= {0.85, 0.5}:
            await asyncio.sleep(0.2)
    redone = await asyncio.to_thread(replan_span, journal, Span(0, 1 << 50), numerics)
    assert redone.ticks == redone.same
    assert redone.ticks > 10


async def test_alerts_follow_a_person_and_survive_a_new_leader(running: Running) -> None:
    stack = running.stack
    bot_jid = stack.base.xmpp.coordinator
    async with OperatorClient(running.login("guest"), "guest") as guest:
        guest.send_to_person(bot_jid, "follow alerts")
        await guest.wait_for_message(running.bot("I will send you alerts here", room=False))
        first = stack.busiest_node().name
        stack.kill_process(first)
        await guest.wait_for_message(
            running.bot(f"^Critical: {first.partition('-')[2]} is gone", room=False), 20
        )
        await running.until(
            lambda: len(stack.follower.lanes_of(first)) > 0, "it is back at work", 60
        )
        leader = stack.follower.leader_epoch
        running.leader().send_signal(signal.SIGKILL)
        await running.until(lambda: stack.follower.leader_epoch > leader, "the standby leads", 20)
        await until_it_says(guest, "3/3 nodes, 12/12 lanes", "status")
        second = stack.busiest_node().name
        stack.kill_process(second)
        await guest.wait_for_message(
            running.bot(f"Critical: {second.partition('-')[2]} is gone", room=False), 30
        )
        said = await until_it_says(guest, "4 of 4 workers have it", "tune")
        assert "commit_gap_ms 250 ms (settings: 100 ms), by operator" in said, (
            "tuning outlives the leader"
        )
        guest.send_to_person(bot_jid, "unfollow alerts")
        await guest.wait_for_message(running.bot("You no longer follow alerts", room=False))


async def clean_of(running: Running, lane: int) -> Counter[str]:
    """How often each source came out of that lane."""
    consumer = AIOKafkaConsumer(
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **client_kwargs(running.stack.base.kafka),
    )
    tp, found = TopicPartition(TOPIC_CLEAN, lane), Counter[str]()
    await consumer.start()
    try:
        consumer.assign([tp])
        await consumer.seek_to_beginning(tp)
        end = (await consumer.end_offsets([tp]))[tp]
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.update(dict(r.headers)[SRC].decode() for r in records)
    finally:
        await consumer.stop()
    return found


async def test_a_lane_is_rewound_and_each_of_its_events_comes_out_once_more(
    running: Running,
) -> None:
    stack = running.stack
    replay, sending = running.replay(3000)
    await running.account(replay, sending)
    lane = stack.accounting.lane_out.most_common(1)[0][0]
    before, again_before = await clean_of(running, lane), stack.accounting.again
    offsets = Offsets(stack.base.kafka, WorkerKind.NODE.group)
    await offsets.start()
    try:
        at = await offsets.read_committed_offsets([WorkerKind.NODE.partition(lane)])
    finally:
        await offsets.stop()
    committed = at[WorkerKind.NODE.partition(lane)]
    assert committed is not None
    async with (
        OperatorClient(running.login("operator"), "operator") as owner,
        OperatorClient(running.login("ana"), "ana") as ana,
    ):
        await owner.join_room()
        await ana.join_room()
        await ana.send_to_room(f"!lane {lane} rewind 0")
        await ana.wait_for_message(running.bot("changing anything with lane needs an owner"))
        await owner.send_to_room(f"!lane {lane} rewind {committed[0] + 1000}")
        await owner.wait_for_message(running.bot("is not in the log"))
        await owner.send_to_room(f"!lane {lane} rewind now")
        await owner.wait_for_message(running.bot("Nothing was appended"))
        dry = await do(running, owner, f"lane {lane} rewind -1h")
        assert (
            f"{sum(before.values()):,} events will be processed again; events.clean will have them "
            "twice" in dry
        )
        await owner.wait_for_message(
            running.bot(f"operator: rewind lane {lane} to offset 0 .*: done in"), 30
        )
        assert f"lane {lane} rewound from offset {committed[0]:,} to 0" in await ask(
            owner, "history", lane=str(lane), kind="action"
        )
    more, sending = running.replay(500)
    await running.account(more, sending)
    async with asyncio.timeout(30):
        after = await clean_of(running, lane)
        while any(after[src] < 2 for src in before):
            await asyncio.sleep(0.2)
            after = await clean_of(running, lane)
    assert {src: after[src] for src in before} == dict.fromkeys(before, 2), (
        "each once more, none missing"
    )
    assert all(n == 1 for src, n in after.items() if src not in before)
    assert stack.accounting.again - again_before == sum(before.values())
