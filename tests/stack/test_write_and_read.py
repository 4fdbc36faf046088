"""docs/write-and-read.md as it is pasted, with the pipeline of README.md, against a stack."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from importlib.metadata import distribution
from pathlib import Path

import pytest

from agents.local.screen import describe_joining
from tests.stack.conftest import Running

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "write-and-read.md").read_text("utf-8")
[PIPELINE] = re.findall(r"```python\n(# mine\.py\n.*?)```", (ROOT / "README.md").read_text(), re.S)
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, re.S))
LIMIT_S = 60
# Debian 12's kcat has a librdkafka that cannot log in; the one in this package can.
_NEWER = next(p for p in distribution("confluent-kafka").files or () if "librdkafka" in p.name)
LIBRDKAFKA = str(_NEWER.locate())
DATABASE = "results.sqlite3"


@pytest.fixture
def here(running: Running, tmp_path: Path) -> Path:
    """A folder with the page's programs, and the file that they log in with."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    login = running.stack.folder.path / "kafka-client.conf"
    for file in (login, login.with_suffix(".properties")):
        assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "client.conf").symlink_to(login)
    return tmp_path


@asynccontextmanager
async def _started(here: Path, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    env = dict(os.environ) | {"PYTHONPATH": "", "LD_PRELOAD": LIBRDKAFKA}
    process = await asyncio.create_subprocess_exec(*command, cwd=here, env=env, stdout=-1)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _run(here: Path, *command: str) -> str:
    async with _started(here, *command) as process, asyncio.timeout(LIMIT_S):
        out, _ = await process.communicate()
    assert process.returncode == 0, command
    return out.decode()


async def _run_sink(running: Running, here: Path, rows: int, program: str = "sink.py") -> None:
    """Kill the page's sink once it has so many results that the pipeline has seen."""

    def has_all() -> bool:
        return sum(b"seen" in value for _, _, value in _rows_in(here / DATABASE)) == rows

    async with _started(here, sys.executable, program, "client.conf", DATABASE):
        await running.until(has_all, "the sink has all results", LIMIT_S)


def _rows_in(file: Path) -> list[tuple[str, str, bytes]]:
    with closing(sqlite3.connect(file)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master").fetchall():
            return []
        return database.execute("SELECT src, part, value FROM results").fetchall()


async def test_the_box_of_a_run_says_where_kafka_is(running: Running) -> None:
    file = running.stack.folder.path / "kafka-client.conf"
    box = describe_joining(running.stack)
    assert f"\nkafka     {running.stack.base.kafka.bootstrap}  " in box
    assert str(file) in box


async def test_kcat_writes_and_reads_as_the_page_has_it(running: Running, here: Path) -> None:
    [block] = re.findall(r"<!-- run -->\n```sh\n(.*?)```", PAGE, re.S)
    write, *reads = re.split(r"\n(?=kcat)", block)
    a = running.stack.accounting
    before = a.clean
    await _run(here, "sh", "-ec", write)
    await running.until(lambda: a.clean == before + 1, "the event has come out")
    clean, dead, listed = [await _run(here, "sh", "-ec", line) for line in reads]
    [line] = [x for x in clean.splitlines() if " jfk-1 " in x]
    assert re.search(r"geolane-src=events\.raw/\d/\d+,.*source=gate-7 .*\"seen\":true", line)
    assert (dead, "12 partitions" in listed) == ("", True)


async def test_the_pages_sink_has_each_result_once(running: Running, here: Path) -> None:
    a = running.stack.accounting
    expected = a.clean

    def came_out(count: int) -> bool:
        return a.clean == count

    for _ in range(2):  # it is killed in between
        await _run(here, sys.executable, "write.py", "client.conf")
        expected += 100
        await running.until(partial(came_out, expected), "all have come out")
        await _run_sink(running, here, expected)
    rows = _rows_in(here / DATABASE)
    with closing(sqlite3.connect(here / DATABASE)) as database, database:
        database.execute("UPDATE results SET value = CAST('old' AS BLOB)")
    # another group gets all of them once more
    (here / "again.py").write_text(FILES["sink.py"].replace("client-sink", "client-again"))
    await _run_sink(running, here, len(rows), "again.py")
    assert sorted(_rows_in(here / DATABASE)) == sorted(rows)
    assert (a.duplicates, a.dead) == (0, 0)
