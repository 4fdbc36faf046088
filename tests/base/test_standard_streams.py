"""Standard streams that are closed, full or not read any more: a command works, or ends with a
clear error."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import uvloop

from agents.base.standard_streams import watch_stdin

GEOLANE = [sys.executable, "-m", "agents"]
_HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
CLOSED = [set(fds) for n in (1, 2, 3) for fds in itertools.combinations((0, 1, 2), n)]


def run(arguments: Sequence[str], closed: set[int], **streams: int) -> subprocess.Popen[bytes]:
    """A command of geolane whose standard streams in `closed` are closed before it starts, as `<&-`
    does."""
    close = (
        "import os, sys; [os.close(int(f)) for f in sys.argv[1]]; os.execv(sys.argv[2], "
        "sys.argv[2:])"
    )
    between = [sys.executable, "-c", close, "".join(map(str, closed))]
    given = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        **streams,
    }
    return subprocess.Popen([*between, *GEOLANE, *arguments], **given)  # type: ignore[call-overload, no-any-return]


def test_streams_that_are_closed_at_the_start_abort_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "s.toml"
    settings.write_text('[kafka]\nbootstrap = "127.0.0.1:1"\n', "utf-8")
    # A command that runs on uvloop, and refuses: there is no inventory beside its settings.
    arguments = ["nodes", "add", "x-1", "--site", "iad", "--settings", str(settings)]
    all_at_once = [(closed, run(arguments, closed)) for closed in CLOSED]
    for closed, process in all_at_once:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, (closed, err)
        if 2 not in closed:
            assert err.startswith(b"geolane: ")
            assert err.endswith(b"no such file\n")
            assert err.count(b"\n") == 1


def test_what_is_printed_to_a_closed_stream_goes_nowhere() -> None:
    process = run(["settings", "example"], {1})
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize(
    "arguments", [["settings", "example"], ["settings", "show", "--json"], ["--help"]]
)
def test_a_full_disk_under_standard_output_is_one_line(arguments: list[str]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        process = run(arguments, set(), stdout=full)
        _, err = process.communicate(timeout=60)
    finally:
        os.close(full)
    assert err == b"geolane: standard output: No space left on device\n"
    assert process.returncode == 2


def test_what_standard_output_cannot_show_is_a_question_mark_and_a_files_name_stays() -> None:
    environ = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    command = [
        sys.executable,
        "-c",
        "import os, sys; from agents.base import standard_streams as streams; "
        "streams.prepare_streams(); "
        "print('\\xfc\\u2502', os.fsdecode(sys.argv[1]))",
        "f-ü",
    ]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ)
    assert (done.stdout, done.stderr) == ("?? f-ü\n".encode(), b"")


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    code = (
        "import os; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); from agents.__main__ "
        "import "
        "main; main()"
    )
    command = [sys.executable, "-c", code, "up", "--no-replay"]
    done = subprocess.run(
        command, capture_output=True, timeout=60, check=False, cwd=tmp_path, env=_HERE
    )
    assert done.returncode == 2
    assert done.stderr == b"geolane: the current folder no longer exists; cd to another\n"


def test_a_pipe_that_nobody_reads_ends_a_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        process = run(["settings", "example"], set(), stdout=write)
        _, err = process.communicate(timeout=60)
    finally:
        os.close(write)
    assert (process.returncode, err) == (1, b"")


def test_a_full_output_that_does_not_block_is_waited_for() -> None:
    """A terminal becomes so by any program that has it open."""
    reads, writes = os.pipe()
    size = fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writes, False)
    process = run(["settings", "example"], set(), stdout=writes)
    os.close(writes)
    until_s = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until_s and _waiting(reads) < size:
        time.sleep(0.01)
    with os.fdopen(reads, "rb") as pipe:
        got = pipe.read()
    assert (process.wait(60), process.communicate()[1]) == (0, b"")
    assert len(got) > size


def test_a_terminal_stays_blocking_while_its_keys_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()

    async def watch() -> bool:
        watch_stdin(lambda: None)
        try:
            return os.get_blocking(theirs)
        finally:
            asyncio.get_running_loop().remove_reader(theirs)

    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            assert runner.run(watch())
    os.close(ours)


def _waiting(fd: int) -> int:
    """The bytes that can be read."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)
