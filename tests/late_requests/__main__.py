"""All 144 cases, in each setup of each version of Kafka that is named:

    python -m tests.late_requests [4.0.1 ...]

`--only 112,118` runs some, in the first setup alone, and leaves the page as it is."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

import structlog

from tests.late_requests import page
from tests.late_requests.broker import OURS, Setup
from tests.late_requests.cases import cases
from tests.late_requests.life import Outcome
from tests.late_requests.run import run

SEED = 7


def setups(version: str) -> list[Setup]:
    """With transactions of version 2 (from 4.0 on) and 0, new leases, and leases whose producer id
    ends soon: commits raise the epoch under version 2, only fences do so under 0."""
    newest_first = (2, 0) if int(version.partition(".")[0]) >= 4 else (0,)
    return [
        Setup(version, level, epoch)
        for level in newest_first
        for epoch in (0, 32_760 if level else 32_764)
    ]


def tell(outcome: Outcome) -> None:
    o = outcome
    print(
        f"{o.case.n:4} {o.seconds:5.1f} s  {o.case.words}: {'; '.join(o.wrong) or 'clean'}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.late_requests", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument(
        "kafka", nargs="*", default=[OURS], help="versions whose jars are in .local"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default="", help="numbers of cases, with commas")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    only = {int(n) for n in asked.only.split(",") if n}
    runs = {}
    for setup in [s for version in asked.kafka for s in setups(version)][: 1 if only else None]:
        chosen = [
            c for c in cases(asked.seed, first_epoch=setup.first_epoch) if not only or c.n in only
        ]
        print(setup, flush=True)
        runs[setup] = asyncio.run(run(setup, chosen, tell=tell))
        print("\n".join(page.HEAD), page.row(setup, runs[setup]), sep="\n", flush=True)
        if not only:
            page.write(runs)
    return any(page.unexpected(setup, outcomes) for setup, outcomes in runs.items())


if __name__ == "__main__":
    sys.exit(main())
