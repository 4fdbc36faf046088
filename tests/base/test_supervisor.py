"""How a process ends, and what it answers."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents.base import supervisor
from agents.base.errors import InstallError, KafkaUnavailable, LeadershipLost, LeaseLost


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (LeaseLost("fenced"), 3),
        (LeadershipLost("fenced"), 3),
        (InstallError("no java"), 2),
        (ValueError("a fault"), 1),
        (
            ExceptionGroup(
                "", [KafkaUnavailable("away"), ExceptionGroup("", [LeaseLost("fenced")])]
            ),
            3,
        ),
        (ExceptionGroup("", [KafkaUnavailable("away"), InstallError("no java")]), 2),
        (ExceptionGroup("", [KafkaUnavailable("away"), ValueError("a fault")]), 1),
    ],
)
def test_the_gravest_error_gives_the_exit_code(error: Exception, code: int) -> None:
    async def main() -> None:
        raise error

    assert supervisor.run(main) == code


def test_what_main_returns_is_the_exit_code() -> None:
    async def main() -> int:
        return 5

    assert supervisor.run(main) == 5


_MAIN = """
import asyncio, sys, time
from agents.base import supervisor
async def main():
    print("up", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        {last}
sys.exit(supervisor.run(main, stop_s={stop_s}))
"""


def _script(last: str, stop_s: float = 30.0) -> list[str]:
    """A process that waits, and does `last` when it is told to end."""
    return [sys.executable, "-c", _MAIN.format(last=last, stop_s=stop_s)]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_in_order(sign: signal.Signals) -> None:
    with subprocess.Popen(
        _script("print('put away')"),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGHUP, signal.SIG_DFL
        ),  # the tests may run under nohup
    ) as p:
        assert p.stdout is not None
        p.stdout.readline()
        p.send_signal(sign)
        assert p.stdout.read().splitlines()[-1] == "put away"
        assert p.wait(10) == 0


def test_it_ends_in_order_when_its_terminal_is_closed(tmp_path: Path) -> None:
    """Though it writes to it while it ends, and is told twice, by the kernel and by the shell."""
    away = tmp_path / "away"
    last = (
        f"await asyncio.sleep(0.2); print('to nobody', flush=True); open({str(away)!r}, "
        "'w').close()"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
        os.execv(sys.executable, _script(last))
    said = b""
    while not said.endswith(b"\n"):  # the terminal may give a line in parts
        said += os.read(terminal, 100)
    os.close(terminal)
    os.kill(pid, signal.SIGHUP)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert away.exists()


def test_who_is_not_to_hear_of_the_terminal_goes_on() -> None:
    with subprocess.Popen(
        _script("print('put away')"),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    ) as p:
        assert p.stdout is not None
        p.stdout.readline()
        p.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            p.wait(0.3)
        p.terminate()
        assert p.wait(10) == 0


def test_stopping_has_a_bound_even_when_the_loop_is_blocked() -> None:
    with subprocess.Popen(
        _script("time.sleep(60)", stop_s=0.5), stdout=subprocess.PIPE, text=True
    ) as p:
        assert p.stdout is not None
        p.stdout.readline()
        p.terminate()
        assert p.wait(10) == 1
