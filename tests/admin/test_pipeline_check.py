"""A pipeline is tried before it is shipped: what would hurt is found, and nothing that it does
hurts whoever tries it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from agents.admin.pipeline_check import PipelineVerdict, check_pipeline, parse_pipeline_name
from agents.base.errors import PipelineError
from agents.node.pipeline_version import version_of
from tests.cli.held import hold_line

HEAD = """import orjson
import os, sys, time, threading, itertools
from agents.core.lanes.records import Record
N = itertools.count()
"""


def written(tmp_path: Path, body: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(f"{HEAD}def pipeline(records):\n    {body}\n")
    return str(file)


GOOD = "return [r.with_value(orjson.dumps({**orjson.loads(r.value), 'seen': 1})) for r in records]"


def test_a_good_one_is_good_and_its_version_is_its_source(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    v = check_pipeline(file, None, 60)
    assert (v.wrong, v.odd, v.failed, v.filtered) == ([], [], 0, 0)
    assert v.records == v.out > 4000
    assert v.rate_eps > 0 < v.p50_ms <= v.p99_ms
    assert v.version.startswith("mine:pipeline@")
    assert check_pipeline(file, None, 60).version == v.version
    assert check_pipeline(written(tmp_path, GOOD + "  # other"), None, 60).version != v.version


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ("return records[1:]", "fail: they would be dead letters"),
        ("return [r.with_value('text') for r in records]", "fail: they would be dead letters"),
        ("return 1 / 0", "fail: they would be dead letters"),
        ("os._exit(3)", "it ended the process (exit code 3)"),
        ("os.abort()", "it ended the process (signal 6, SIGABRT)"),
        (
            "return [Record('k', r.value, r.src, r.ts_ms, r.cell) for r in records]",
            "fail: they would be dead letters",
        ),
        ("sys.exit(3)", "fail: they would be dead letters"),
        ("os.fork(); return records", "it leaves processes behind"),
        ("os.fork() or time.sleep(600); return records", "it leaves processes behind"),
        (
            "threading.Thread(target=time.sleep, args=(600,)).start(); return records",
            "it leaves threads behind",
        ),
        (
            "return [time.sleep(600) if r.src.endswith('/7') else r for r in records]",
            "it took longer than",
        ),
        (
            "return [r.with_value(b'x' * 1200000) if r.src.endswith('/7') else None for r in "
            "records]",
            "larger than 1 MiB",
        ),
        ("return bytearray(1 << 40)", "memory"),
    ],
)
def test_what_would_hurt_is_found(tmp_path: Path, body: str, wrong: str) -> None:
    v = check_pipeline(written(tmp_path, body), None, 8)
    assert any(wrong in x for x in v.wrong) or (
        wrong == "memory" and "MemoryError" in v.first_failure
    ), v


def test_one_that_hangs_is_ended(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    v = check_pipeline(written(tmp_path, "time.sleep(60)"), None, 3)
    assert "it did not finish within 3 s" in v.wrong
    assert v.first_failure == "took longer than 0.75 s"
    assert set(psutil.Process().children(recursive=True)) <= before


def test_one_that_cannot_even_be_loaded_in_time_or_ends_there_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    Path(file).write_text("import os\nos._exit(7)\n")
    assert check_pipeline(file, None, 60).wrong == [
        "worker.pipeline: 'mine:pipeline' cannot be loaded: ended the process (exit code 7)"
    ]


def test_what_it_prints_is_shown_and_bounded(tmp_path: Path) -> None:
    found = run(
        "pipeline", "check", written(tmp_path, "print('x' * 9000, flush=True); " + GOOD), "--json"
    )
    assert hold_line(found.stdout, PipelineVerdict).wrong == []
    assert 0 < len(found.stderr) < 50_000
    assert "printed: xxx" in found.stderr


def test_one_that_answers_otherwise_each_time_is_noted(tmp_path: Path) -> None:
    v = check_pipeline(
        written(tmp_path, "return [r.with_value(b'%d' % next(N)) for r in records]"), None, 60
    )
    assert v.wrong == []
    assert any("run again, it answers differently" in x for x in v.odd)


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    assert (
        "cannot be loaded" in check_pipeline(written(tmp_path, GOOD) + ":other", None, 60).wrong[0]
    )
    with pytest.raises(PipelineError, match="there is no such file"):
        parse_pipeline_name("nowhere.py")
    with pytest.raises(PipelineError, match="give FILE"):
        parse_pipeline_name("mine")


def test_the_command_says_so_by_its_exit_code(tmp_path: Path) -> None:
    good = run("pipeline", "check", written(tmp_path, GOOD), "--json")
    assert (good.returncode, hold_line(good.stdout, PipelineVerdict).wrong) == (0, [])
    bad = run("pipeline", "check", written(tmp_path, "return 1 / 0"))
    assert bad.returncode == 1
    assert "ZeroDivisionError" in bad.stdout
    events = tmp_path / "events.jsonl"
    events.write_text('{"id": "a", "ts": 1, "origin": {"lat": 1.0, "lon": 2.0}}\nnot json\n')
    own = run("pipeline", "check", written(tmp_path, "return records"), "--events", str(events))
    assert own.returncode == 0
    assert "1 record, 1 out" in own.stdout
    assert run("pipeline", "check", "nowhere.py").returncode == 2


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agents", *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_packages_version_is_that_of_all_its_files() -> None:
    import agents.node.flights  # noqa: F401  # it must be loaded

    assert version_of("agents.node.flights:pipeline").startswith("agents.node.flights:pipeline@")
    assert version_of("sys:exit") == "sys:exit@unknown"
