"""`python -m tests.record_fuzz`: fuzzes whole records through a stack of its own, and says in one
line of JSON what came of each. Exit 0: nothing is missing, doubled or stopped."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Sequence

import orjson

from tests.record_fuzz.cases import PIPELINE
from tests.record_fuzz.drive import Fuzz, Rogue, Run
from tests.stack.conftest import Outcome, started


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="python -m tests.record_fuzz", description=__doc__)
    p.add_argument(
        "--records", type=int, default=None, help="send this many (100,000 without --seconds)"
    )
    p.add_argument(
        "--seconds", type=float, default=0.0, help="send for this long, or until --records are sent"
    )
    p.add_argument(
        "--max-eps",
        type=float,
        default=0.0,
        help="send at most this many records a second (0: no limit)",
    )
    p.add_argument("--seed", type=int, default=1)
    p.add_argument(
        "--settings", action="store_true", help="change the settings of topics meanwhile"
    )
    p.add_argument("--coordinators", type=int, default=2)
    p.add_argument(
        "--rogue",
        action="append",
        default=[],
        metavar="MODULE:NAME",
        help="at work meanwhile; more than one may be given",
    )
    a = p.parse_args(argv)
    records = a.records if a.records is not None else 0 if a.seconds else 100_000
    rogues = [_rogue(name) for name in a.rogue]
    return asyncio.run(
        _run(Run(a.seed, records, a.seconds, a.settings, a.max_eps), a.coordinators, rogues)
    )


async def _run(run: Run, coordinators: int, rogues: Sequence[Rogue]) -> int:
    outcome = Outcome(1)
    async with started(outcome, coordinators=coordinators, pipeline=PIPELINE) as running:
        result = await Fuzz(running, run, lambda text: print(text, file=sys.stderr, flush=True)).go(
            rogues
        )
        outcome.testsfailed = int(not result["ok"])
    print(orjson.dumps(result).decode(), flush=True)
    return outcome.testsfailed


def _rogue(name: str) -> Rogue:
    module, _, function = name.partition(":")
    rogue: Rogue = getattr(importlib.import_module(module), function)
    return rogue


if __name__ == "__main__":
    sys.exit(main())
