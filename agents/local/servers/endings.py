"""What ended by itself in a run: reported once with its last words, and shown until it has been
back for a while."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from agents.base.progress import PrintLine

TAIL_BYTES = 64 << 10
WORDS = 200
FULL_BYTES = 1 << 20
SHOWN_S = 60.0
SHOWN = 3
_CAUSE = re.compile(r"^\S*(Exception|Error): \S")
"""The line of Java or Python with the cause; the lines of the trace begin with a space."""
_GRAVE = re.compile(r"(?i)\b(error|fatal|critical|assertion)\b")


class Logs:
    """The logs of one process, from where they ended when it started (`mark_start`)."""

    def __init__(self, *files: Path) -> None:
        self._files = files
        self._from = dict.fromkeys(files, 0)

    def mark_start(self) -> None:
        self._from = {file: _size_or_zero(file) for file in self._files}

    def find_cause(self) -> str:
        """The line that best explains why the process ended; "" if none does. A full disk is named
        first, since the log that should report it lies on that disk."""
        cause = grave = ""
        for file in self._files:
            for line in _read_tail_lines(file, self._from[file]):
                if line.startswith("{"):
                    cause = _cause_from_event(line) or cause
                elif _CAUSE.search(line):
                    cause = line
                elif _GRAVE.search(line) and not line[0].isspace():
                    grave = line
        words = "".join(c if c.isprintable() else " " for c in cause or grave)[:WORDS].strip()
        full = next((f.parent for f in self._files if _is_disk_full(f.parent)), None)
        return (
            words if full is None else f"no space left in {full}" + (f"; {words}" if words else "")
        )


def _is_disk_full(folder: Path) -> bool:
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < FULL_BYTES


def _size_or_zero(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _read_tail_lines(file: Path, begin: int) -> Sequence[str]:
    try:
        with file.open("rb") as f:
            size = f.seek(0, os.SEEK_END)
            f.seek(
                max(begin if begin <= size else 0, size - TAIL_BYTES)
            )  # a shorter log was begun anew
            return [
                line
                for line in f.read(TAIL_BYTES).decode("utf-8", "replace").splitlines()
                if line.strip()
            ]
    except OSError:
        return ()


def _cause_from_event(line: str) -> str:
    try:
        event = orjson.loads(line)
        if event.get("level") not in ("error", "critical"):
            return ""
        detail = event.get("error") or str(event.get("exception", "")).strip().rpartition("\n")[2]
        return f"{event['event']}: {detail}" if detail else str(event["event"])
    except (orjson.JSONDecodeError, AttributeError, KeyError):
        return ""


@dataclass(slots=True)
class _Ending:
    text: str
    at: float
    back: bool = False


class Endings:
    """`say` gets each ending once; the same ending of the same process again only after a
    minute."""

    def __init__(self, say: PrintLine, now: Callable[[], float] = time.monotonic) -> None:
        self._say, self._now = say, now
        self._last: dict[str, _Ending] = {}

    def note_ending(self, name: str, how: int | str, words: str) -> None:
        """`how`: an exit code (negative: a signal), or words. The ending is shown while the process
        is away, and for at least a minute."""
        text = f"{name} ended ({how if isinstance(how, str) else describe_exit_code(how)})" + (
            f": {words}" if words else ""
        )
        before, now = self._last.get(name), self._now()
        if before is None or before.text != text or now - before.at >= SHOWN_S:
            self._say(text)
        self._last[name] = _Ending(text, now)

    def note_restart(self, name: str) -> None:
        if name in self._last:
            self._last[name].back = True

    def describe_last(self, name: str) -> str:
        """How it ended last; "" if it has not."""
        return self._last[name].text if name in self._last else ""

    def shown_lines(self) -> list[str]:
        """The endings to show now, the newest first."""
        now = self._now()
        shown = sorted(
            (e for e in self._last.values() if not e.back or now - e.at < SHOWN_S),
            key=lambda e: -e.at,
        )
        return [f"! {e.text}, {now - e.at:.0f} s ago" for e in shown[:SHOWN]]


def describe_exit_code(code: int) -> str:
    """An exit code, or (negative) a signal, in words."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit {code}"
    except ValueError:
        return f"signal {-code}"
