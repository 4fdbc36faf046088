"""Checks handover.pml with Spin: nothing is violated with all rules, and something is without each.

python -m tests.handover_model.check                  each rule taken out      (3 minutes)
python -m tests.handover_model.check --wide           wider bounds as well     (15 minutes, 2 GB)
python -m tests.handover_model.check -DWITHOUT=SEEK   one check, and the story of what breaks"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("handover.pml")
PRINTED = re.compile(r"^\s*((?:C\d|W\d|K:|[A-Z][A-Z -]+:|VIOLATED|refused).*)$")

SMALL = [
    "-DFAULTS=1",
    "-DFAULTS=1 -DTRANSACTIONS=2",
    "-DFAULTS=1 -DMOVES=2 -DIN_FLIGHT=2",
    "-DFAULTS=1 -DPARTITIONS=2",
    "-DFAULTS=1 -DREWINDS=1",
]
WIDE = [
    "-DFAULTS=1 -DCOLD",
    "-DFAULTS=2",
    "-DFAULTS=2 -DTRANSACTIONS=2",
    "-DFAULTS=2 -DREWINDS=1",
    "-DFAULTS=1 -DPARTITIONS=2 -DMOVES=2",
]

OVERTAKING = "-DFAULTS=1 -DMOVES=2 -DIN_FLIGHT=2"
BREAKS: dict[str, tuple[str, str]] = {
    "OWN_INIT": ("-DFAULTS=2", "former"),
    "ONE_LEASE": ("-DFAULTS=2", "former"),
    "FENCE": ("-DFAULTS=1", "former"),
    "FENCE_FIRST": ("-DFAULTS=2", "former"),
    "TOLD": ("-DFAULTS=2", "at_work"),
    "RETRY": ("-DFAULTS=2", "former"),
    "WRITE_FIRST": ("-DFAULTS=2", "former"),
    "INIT_FIRST": ("-DFAULTS=2", "at_work"),
    "OWNER_STAYS": ("-DFAULTS=2", "former"),
    "BOOT": ("-DFAULTS=2 -DIN_FLIGHT=2 -DLATE=0", "former"),
    "EPOCH": (OVERTAKING, "former"),
    "NOTED": (OVERTAKING, "former"),
    "LEADER+EPOCH": ("-DFAULTS=2", "former"),
    "SHOWN+WAITED": ("-DFAULTS=2", "once"),
    "START": ("-DFAULTS=1", "at_work"),
    "NEW_BOOT": ("-DFAULTS=1", "at_work"),
    "AGAIN": ("-DFAULTS=2", "at_work"),
    "NO_GROUP": ("-DFAULTS=2", "former"),
    "ENDS": ("-DFAULTS=2", "at_work"),
    "SENT": ("-DFAULTS=1", "once"),
    "SEEK": ("-DFAULTS=1", "once"),
    "UNKNOWN": ("-DFAULTS=1", "once"),
    "ANSWERED": ("-DFAULTS=1", "once"),
    "GROWS": ("-DFAULTS=1 -DTRANSACTIONS=2", "once"),
    "BACK_WHOLE": ("-DFAULTS=1 -DREWINDS=1", "at_work"),
    "BACK_NOBODYS": ("-DFAULTS=1 -DREWINDS=1", "once"),
    "BACK_SHOWN": ("-DFAULTS=1 -DREWINDS=1", "once"),
}
"""Rule taken out -> the bounds in which that shows, and the property that it breaks (one of them,
where it breaks two)."""

DEPTH = {"BOOT": 32}
"""How deep to look for it, where that is not 80 steps."""


@dataclass(frozen=True)
class Outcome:
    """`violated`: the property's name, "" when none is. `story`: what happened until then.
    `complete`: every state within the bounds was visited."""

    violated: str
    states: int
    complete: bool
    story: tuple[str, ...]
    seconds: float


def missing() -> str:
    """Which program is not here, and how to get it; "" when both are."""
    lacking = [program for program in ("spin", "gcc") if shutil.which(program) is None]
    return (
        f"{' and '.join(lacking)} missing: apt-get install -y {' '.join(lacking)}"
        if lacking
        else ""
    )


def check(
    flags: Sequence[str], *, short: bool = False, depth: int = 80, limit_s: float = 900
) -> Outcome:
    """One search. `short`: look for a short way to a violation, of at most `depth` steps, instead
    of at every state."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MODEL, folder)
        run = _Runner(Path(folder))
        run("spin", "-a", *flags, MODEL.name)
        # A short search ends before what the optimizer saves is as much as it costs.
        options = ["-O0", "-DREACH"] if short else ["-O1"]
        run(
            "gcc",
            "-w",
            "-DSAFETY",
            "-DNOREDUCE",
            "-DCOLLAPSE",
            "-DMEMLIM=8000",
            *options,
            "-o",
            "pan",
            "pan.c",
        )
        log = run(
            "./pan", "-E", *(["-i", f"-m{depth}"] if short else ["-m100000"]), limit_s=limit_s
        )
        story: tuple[str, ...] = ()
        if (Path(folder) / f"{MODEL.name}.trail").exists():
            replay = run("spin", "-t", *flags, MODEL.name)
            story = tuple(m.group(1) for line in replay.splitlines() if (m := PRINTED.match(line)))
    stored = re.search(r"([\d.e+]+) states, stored", log)
    cut = (
        "Search not completed" in log
        or "max search depth" in log
        or "out of memory" in log
        or not stored
    )
    end = next((i for i, line in enumerate(story) if line.startswith("VIOLATED")), None)
    violated = "" if end is None else story[end].split()[1].rstrip(":")
    story = story[: None if end is None else end + 1]
    return Outcome(
        violated,
        int(float(stored.group(1))) if stored else 0,
        not cut,
        story,
        time.monotonic() - began,
    )


class _Runner:
    """Runs a program in `folder`; what it prints. One that runs past its limit is stopped, and what
    it had printed counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *command: str, limit_s: float = 120) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            return e.stdout.decode() if isinstance(e.stdout, bytes) else ""
        if done.returncode and command[0] != "./pan":
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout


def main(arguments: Sequence[str]) -> int:
    if lacking := missing():
        sys.exit(lacking)
    if arguments and arguments[0] != "--wide":
        found = check(arguments, short=True, limit_s=300)
        print(
            *found.story,
            f"{found.violated or 'nothing'} violated, {found.states:,} states",
            sep="\n",
        )
        return 1 if found.violated else 0
    wrong = 0
    for bounds in SMALL + (WIDE if arguments else []):
        found = check(bounds.split())
        wrong += bool(found.violated) or not found.complete
        print(
            f"{found.violated or 'holds'}: {bounds} ({found.states:,} states, {found.seconds:.0f} "
            "s)",
            flush=True,
        )
    for rule, (bounds, breaks) in BREAKS.items():
        found = check(
            [*bounds.split(), f"-DWITHOUT={rule}"],
            short=True,
            depth=DEPTH.get(rule, 80),
            limit_s=300,
        )
        wrong += not found.violated
        broken = (
            f"{found.violated or 'NOTHING'} violated ({breaks} expected; {bounds}, "
            f"{found.seconds:.0f} s)"
        )
        print(
            f"without {rule}: {broken}",
            *(f"      {line}" for line in found.story),
            sep="\n",
            flush=True,
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
