"""What ended by itself is said once, with its last words, and shown until it is back."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.local.servers.broker import Broker
from agents.local.servers.children import Child, Family
from agents.local.servers.endings import SHOWN_S, WORDS, Endings, Logs
from agents.local.servers.folder import RunFolder
from tests.local.servers.test_children import until

KAFKA = """\
[2026-11-28 19:51:41,150] ERROR Error while appending records to in-0 (o.a.k.storage.LogDirFailureChannel)
java.io.IOException: No space left on device
\tat java.base/sun.nio.ch.FileDispatcherImpl.write0(Native Method)
[2026-11-28 19:51:41,186] ERROR Shutdown broker because all log dirs in data have failed (kafka.log.LogManager)
"""  # noqa: E501
AGENT = """\
{"signal":"x","event":"starting","level":"info"}
{"error":"main/lease/node-a: fenced","exit":3,"event":"ended","level":"error"}
{"event":"stopping","level":"info"}
"""
FAULT = """\
{"event":"fault","level":"error","exception":"Traceback (most recent call last):\\n  File\\nValueError: no"}
"""  # noqa: E501
ABORT = "python: src/unix/core.c:646: uv__close: Assertion `fd > STDERR_FILENO' failed.\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (KAFKA, "java.io.IOException: No space left on device"),
        (AGENT, "ended: main/lease/node-a: fenced"),
        (FAULT, "fault: ValueError: no"),
        (ABORT, ABORT.strip()),
        ("all is well\n", ""),
        ("", ""),
        (
            '{"level": 5\n[1]\nValueError: \x1b[31m' + "x" * 999,
            "ValueError:  [31m" + "x" * (WORDS - 17),
        ),
    ],
)
def test_last_words_are_the_line_that_says_why(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.log").write_text(text)
    assert Logs(tmp_path / "nothing", tmp_path / "a.log").find_cause() == words


def test_words_of_an_earlier_life_are_not_the_last(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text(KAFKA)
    logs = Logs(file)
    logs.mark_start()
    assert logs.find_cause() == ""
    file.write_text(ABORT)  # begun anew since, and shorter
    assert logs.find_cause() == ABORT.strip()


def test_an_ending_is_said_once_and_shown_until_it_has_been_back_for_a_minute() -> None:
    said: list[str] = []
    now = 100.0
    endings = Endings(said.append, lambda: now)
    endings.note_ending("kafka", "it is started again", "no space")
    endings.note_ending("iad-1", -9, "")
    for _ in range(3):
        endings.note_ending("iad-2", 1, "fault")
    assert said == [
        "kafka ended (it is started again): no space",
        "iad-1 ended (SIGKILL)",
        "iad-2 ended (exit 1): fault",
    ]
    endings.note_restart("iad-1")
    now += SHOWN_S - 1
    assert "! iad-1 ended (SIGKILL), 59 s ago" in endings.shown_lines()
    now += 1
    assert endings.shown_lines() == [
        "! kafka ended (it is started again): no space, 60 s ago",
        "! iad-2 ended (exit 1): fault, 60 s ago",
    ]
    endings.note_ending("iad-2", 1, "fault")
    assert len(said) == 4
    assert endings.describe_last("iad-2") == said[-1]


async def test_a_child_that_ends_tells_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    with RunFolder(tmp_path / "run") as folder:
        family = Family()
        family.start(
            Child(
                folder,
                "asks",
                ["nodes", "list", "--settings", os.devnull],
                {},
                Endings(said.append),
            )
        )
        await until(lambda: bool(said))
        await family.stop()
    assert said[0].startswith("asks ended (exit 2)")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 64 MiB."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # Kafka's own user passes through
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=755", "tmpfs", name]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("needs root, and the right to mount")
        yield Path(name)
        subprocess.run(["umount", "-l", name], check=True)


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(1 << 16))


@pytest.mark.stack
async def test_a_full_disk_is_kafkas_last_word(small_disk: Path) -> None:
    broker = Broker(small_disk / "kafka", heap_mb=256)
    logs = Logs(*broker.logs)
    try:
        await broker.start()
        logs.mark_start()
        with pytest.raises(OSError, match="No space left"):
            fill(small_disk)
        # Its controller writes twice a second, whether anybody sends something or not.
        await until(lambda: broker.pid is None, 60)
        assert f"no space left in {broker.folder}/log" in logs.find_cause()
    finally:
        broker.kill()
