"""A pipeline that ends its process, hangs, forks, eats memory or answers nonsense on some events:
each of these is one dead letter, all others come out once, and no node is lost."""

from __future__ import annotations

import itertools

import orjson
import psutil
import pytest

from agents.core.lanes.dead_letters import LetterQuery
from agents.kafka.dead_letters import DeadLetters
from agents.local.demo import flights
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

EVENTS = 5951
ACTS = {
    "os._exit(1)": "ended the process (exit code 1)",
    "ctypes.string_at(0)": "ended the process (signal 11, SIGSEGV)",
    "hog()": "MemoryError",
    "time.sleep(600)": "took longer than 3 s",
    "sys.exit(4)": "SystemExit: 4",
    "raise asyncio.CancelledError": "CancelledError",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "return Record('k', r.value, r.src, r.ts_ms, r.cell)": "a record's key must be bytes or None, "
    "is str",
    "os.closerange(0, 1000)": "closed its connection to the node",
    "os.fork() or time.sleep(600)": "",
    "print('x' * 100_000)": "",
}
WORKER = {"pipeline_timeout_s": 3.0, "pipeline_memory_mb": 300}
PIPELINE = """
import asyncio, ctypes, orjson, os, pathlib, sys, time
from agents.core.lanes.records import Record
HERE = pathlib.Path(__file__).parent
ACTS = {}
def pipeline(records):
    if not ACTS and (HERE / "acts.json").exists():
        ACTS.update(orjson.loads((HERE / "acts.json").read_bytes()))
    return [one(r) for r in records]
def one(r):
    act = ACTS.get(orjson.loads(r.value)["id"])
    if act is None:
        return r
    space = {**globals(), "r": r}
    exec("def do():\\n    " + act + "\\n    return r", space)
    return space["do"]()
def hog():
    x = []
    while True:
        x.append(bytes(1 << 20))
"""


async def test_each_costs_its_record_and_nothing_else(running: Running) -> None:
    folder, a, family = (
        running.stack.folder.path,
        running.stack.accounting,
        running.stack.family.children,
    )
    ids = [
        orjson.loads(value)["id"] for _, value in itertools.islice(flights.endless_events(), EVENTS)
    ]
    acts = {ids[500 * (i + 1)]: act for i, act in enumerate(ACTS)}
    (folder / "acts.json").write_bytes(orjson.dumps(acts))
    starts = {name: child.starts for name, child in family.items()}
    pids = {name: child.pid for name, child in family.items()}
    replay, sending = running.replay(EVENTS)
    await running.account(replay, sending)
    expected = sorted(error for error in ACTS.values() if error)
    assert (a.dead, a.clean) == (len(expected), EVENTS - len(expected))
    assert running.stack.follower.fences == 0
    assert {name: child.starts for name, child in family.items()} == starts
    assert {name: child.pid for name, child in family.items()} == pids
    found = await DeadLetters(running.stack.base.kafka).find_letters(LetterQuery(), 50)
    assert found.reasons == (("pipeline_error", len(expected)),)
    assert sorted(letter.header_text("geolane-detail") for letter in found.letters) == expected
    for name, child in family.items():
        if name.startswith("node-"):
            assert child.pid is not None
            assert len(psutil.Process(child.pid).children(recursive=True)) <= 3 * 2 + 1
    logs = "".join(child.log_file.read_text("utf-8") for child in family.values())
    assert '"event": "pipeline_printed"' in logs
    assert "Segmentation fault" in logs
    assert max(map(len, logs.splitlines())) < 5000
