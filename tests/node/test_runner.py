"""Whatever a pipeline does to its process, its node learns of it, finds the record, and goes on;
nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from agents.base.errors import PipelineError
from agents.core.lanes.records import Record
from agents.node.contract import FAILED, Answers, RecordColumns, columns_from_records
from agents.node.part import Calls, Failures, Part
from agents.node.runner import Pipelines, try_pipeline

HEAD = """
import asyncio, ctypes, os, signal, sys, threading, time
from agents.core.lanes.records import Record
def pipeline(records):
    return [act(r) if r.value == b"7" else r for r in records]
"""


def columns(count: int = 20) -> RecordColumns:
    return columns_from_records(
        [Record(b"k", b"%d" % i, f"raw/0/{i}", i, "cell") for i in range(count)]
    )


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], str]:
    def write(body: str) -> str:
        (tmp_path / "mine.py").write_text(f"{HEAD}def act(r):\n    {body}\n")
        return str(tmp_path)

    return write


@contextmanager
def running(path: str, memory_mb: int = 0, lines: list[str] | None = None) -> Iterator[Pipelines]:
    said = [] if lines is None else lines
    before = set(psutil.Process().children(recursive=True))
    pipelines = Pipelines(
        "mine:pipeline", memory_mb, path=path, printed=lambda text, _: said.append(text)
    )
    try:
        yield pipelines
    finally:
        pipelines.close()
        assert set(psutil.Process().children(recursive=True)) <= before


def work(pipelines: Pipelines, some: RecordColumns, timeout_s: float = 10.0) -> Answers:
    part = Part(pipelines, some, Failures(), Calls(), timeout_s)
    assert part.continue_until()
    return part.answers


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("os._exit(0)", "ended the process (exit code 0)"),
        ("os._exit(9)", "ended the process (exit code 9)"),
        ("ctypes.string_at(0)", "ended the process (signal 11, SIGSEGV)"),
        ("os.abort()", "ended the process (signal 6, SIGABRT)"),
        ("os.kill(os.getpid(), 9)", "ended the process (signal 9, SIGKILL)"),
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise asyncio.CancelledError", "CancelledError"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("raise BaseException('x\\x1b[2J' * 1000)", "BaseException: x\\x1b[2J"),
        (
            "return Record('k', r.value, r.src, r.ts_ms, r.cell)",
            "a record's key must be bytes or None, is str",
        ),
        ("return r.with_value(bytearray(1))", "a record's value must be bytes, is bytearray"),
        ("return [r] * 20_000", "a list of 20000 records for one, the limit is 10000"),
        ("return r.with_value(bytes(100 << 20))", "1 records of 104857601 bytes in one answer"),
        ("os.closerange(0, 100)", "closed its connection to the node"),
        ("time.sleep(60)", "took longer than 0.5 s"),
        (
            "threading.Lock().acquire() and 0; a = threading.Lock(); a.acquire(); a.acquire()",
            "took longer than",
        ),
        ("while True: pass", "took longer than 0.5 s"),
        (
            "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64)); time.sleep(60)",
            "took longer than 0.5 s",
        ),
        ("bytearray(1 << 40)", "MemoryError"),
        ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()", "E: ?"),
    ],
)
def test_the_record_is_found_and_the_others_come_out(
    written: Callable[[str], str], body: str, error: str
) -> None:
    # The limit is what refuses the memory: a kernel with vm.overcommit_memory=1 gives all of it.
    with running(written(body), 4096) as pipelines:
        found = work(pipelines, columns(), 0.5)
        assert [i for i, kind in enumerate(found.kinds) if kind == FAILED] == [7]
        assert found.errors[0].startswith(error)
        assert len(found.errors[0]) < 300
        assert found.values == [b"%d" % i for i in range(20) if i != 7]


@pytest.mark.parametrize(
    "body",
    [
        "os.closerange(0, 3); return r",
        "asyncio.run(asyncio.sleep(0)); return r",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); return r",
        "threading.Thread(target=time.sleep, args=(600,)).start(); return r",
        "r.value = b'7'; r.key = b'k'; r.src = None; return r",
        "os.fork(); return r",
        "os.fork() or time.sleep(600); return r",
        "os.fork() or os.setsid() and os.fork() or time.sleep(600); return r",
        "sys.stdout = sys.stderr = None; return r",
        "os.chdir('/'); os.environ.clear(); return r",
    ],
)
def test_what_is_only_odd_costs_nothing_and_leaves_no_process(
    written: Callable[[str], str], body: str
) -> None:
    with running(written(body)) as pipelines:
        for _ in range(3):
            assert work(pipelines, columns()).values == [b"%d" % i for i in range(20)]
        assert len(pipelines.pids) == 1


def test_a_fork_for_each_event_is_ended_before_there_are_too_many(
    written: Callable[[str], str],
) -> None:
    with running(written("os.fork() or time.sleep(600); return r")) as pipelines:
        some = columns_from_records([Record(None, b"7", "", 0, "")] * 150)
        assert len(work(pipelines, some, 20).values) == 150
        deadline = time.monotonic() + 20
        while pipelines.count_leftovers()[0] > 100:
            assert time.monotonic() < deadline
            work(pipelines, columns(1))


def test_memory_is_bounded(written: Callable[[str], str]) -> None:
    with running(written("x = []\n    while True: x.append(bytes(1 << 20))"), 200) as pipelines:
        found = work(pipelines, columns())
        assert found.errors == ["MemoryError"] or found.errors[0].startswith("ended the process")
        assert len(found.values) == 19


def test_what_it_prints_is_bounded_and_escaped(written: Callable[[str], str]) -> None:
    lines: list[str] = []
    with running(
        written("print('\\x1b[2J' + 'y' * 10_000)\n    return r"), lines=lines
    ) as pipelines:
        for _ in range(200):
            work(pipelines, columns())
    assert 50 <= len(lines) < 100
    assert lines[0].startswith("\\x1b[2Jyyy")
    assert all(len(line) < 600 for line in lines)


def test_a_segfault_says_where(written: Callable[[str], str]) -> None:
    lines: list[str] = []
    with running(written("ctypes.string_at(0)"), lines=lines) as pipelines:
        work(pipelines, columns())
    assert any("mine.py" in line for line in lines)


@pytest.mark.parametrize(("hang", "timeouts", "poisoned"), [(1, 2, False), (50, 6, True)])
def test_so_many_time_outs_it_takes_until_records_that_hang_are_known(
    written: Callable[[str], str], hang: int, timeouts: int, poisoned: bool
) -> None:
    """As docs/pipelines.md says: the call with all, then each by itself; five in a row stop the
    lane."""
    with running(written("time.sleep(600)")) as pipelines:
        some = columns_from_records(
            [Record(None, b"7" if i < hang else b"0", "", 0, "") for i in range(50)]
        )
        calls = Calls()
        part = Part(pipelines, some, Failures(), calls, 0.3)
        assert part.continue_until()
        assert (calls.lost, part.is_poisoned) == (timeouts, poisoned)


def test_too_many_at_once_become_fewer(written: Callable[[str], str]) -> None:
    """The whole takes too long, none of its records does: nobody is a dead letter, and the next
    calls are smaller."""
    path = written("")
    Path(path, "mine.py").write_text(
        "import time\ndef pipeline(records):\n    time.sleep(0.02 * len(records))\n    return "
        "records\n"
    )
    with running(path) as pipelines:
        size = Calls()
        for _ in range(2):
            part = Part(pipelines, columns(60), Failures(), size, 0.5)
            assert part.continue_until()
            assert part.answers.errors == []
        assert size.records <= 30


def test_slow_work_is_gone_on_with_where_it_was(written: Callable[[str], str]) -> None:
    with running(written("time.sleep(1); return r")) as pipelines:
        part = Part(pipelines, columns(), Failures(), Calls(), 10)
        assert not part.continue_until(time.monotonic() + 0.2)
        assert part.describe_trouble() == ""
        assert part.continue_until()
        assert len(part.answers.values) == 20
        assert len(pipelines.pids) == 1


def test_when_the_node_is_killed_nothing_lives_on(
    written: Callable[[str], str], tmp_path: Path
) -> None:
    path = written("os.fork() or os.setsid() and os.fork() or time.sleep(600); return r")
    code = f"""
import sys, time
from agents.node.runner import Pipelines
from tests.node.test_runner import columns, work
p = Pipelines("mine:pipeline", 0, path={path!r})
work(p, columns())
print("ready", flush=True)
time.sleep(600)
"""
    node = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    assert node.stdout.readline() == "ready\n"
    family = psutil.Process(node.pid).children(recursive=True)
    assert len(family) >= 3
    os.kill(node.pid, signal.SIGKILL)
    node.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, 10)
    assert alive == []


def test_closing_does_not_wait_for_an_import(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time\ntime.sleep(600)\n")
    with running(str(tmp_path)) as pipelines:
        failed: list[str] = []

        def take() -> None:
            try:
                pipelines.acquire_process()
            except PipelineError as e:
                failed.append(str(e))

        thread = threading.Thread(target=take)
        thread.start()
        deadline = time.monotonic() + 10
        while not pipelines.pids:
            assert time.monotonic() < deadline
        pipelines.close()
        thread.join(10)
        assert len(failed) == 1


def test_an_import_is_waited_for_no_longer_than_said(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import time\ntime.sleep(600)\n")
    pipelines = Pipelines("mine:pipeline", 0, path=str(tmp_path), start_s=1)
    with pytest.raises(PipelineError, match="it did not start within 1 s"):
        pipelines.acquire_process()
    assert not pipelines.pids
    pipelines.close()


def test_when_the_warden_is_killed_the_pipeline_goes_too(written: Callable[[str], str]) -> None:
    with running(written("return r")) as pipelines:
        process = pipelines.acquire_process()
        theirs = psutil.Process(process.pid)
        os.kill(process.warden, signal.SIGKILL)
        theirs.wait(10)
        pipelines.end_process(process)
        assert len(work(pipelines, columns()).values) == 20


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(4)", "ended the process (exit code 4)"),
        ("import no_such", "No module named 'no_such'"),
        ("def pipeline(:", "SyntaxError"),
        ("pipeline = 3", "is not a function"),
    ],
)
def test_what_cannot_be_loaded_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, why: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PipelineError) as e:
        try_pipeline("broken:pipeline")
    assert why in str(e.value)
