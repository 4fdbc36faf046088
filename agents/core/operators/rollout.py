"""The command `rollout`: new pipeline code, node by node; core/fleet/rollout.py carries it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.base.errors import OperatorError
from agents.base.text import counted
from agents.core.effects import Effect
from agents.core.fleet.rollout import BACK_S, format_versions
from agents.core.model.topology import WorkerKind, short_name
from agents.core.operators.arguments import Argument, Type, find_node
from agents.core.operators.command import Access, Command, Context, Dry, Result


def _predict_rollout(c: Context, args: Sequence[str]) -> Result:
    if list(args) == ["stop"]:
        if not c.rollout.running:
            raise OperatorError("No rollout is under way.")
        return Dry(
            "rollout stop",
            "Stop the rollout: workers that were told to restart still do.",
            _stop_rollout,
            only_stops=True,
        )
    if c.rollout.running:
        raise OperatorError(
            f"A rollout is under way: {c.rollout.done} done, {len(c.rollout.queue)} to go. rollout "
            "stop ends it."
        )
    nodes = [find_node(c.fleet, name) for name in args] or [
        v for v in c.fleet.views.values() if v.spec.kind == WorkerKind.NODE
    ]
    here = sorted(v.spec.worker for v in nodes if v.present)
    if not here:
        raise OperatorError("None of them is here: they run the new code when they start.")
    lanes = sum(len(c.fleet.owned_by(w)) for w in here)
    some = ", ".join(short_name(w) for w in here[:6]) + (" ..." if len(here) > 6 else "")
    text = (
        f"Restart {counted(len(here), 'node')} one after the other: {some}\n"
        f"Each hands its lanes over first: {counted(lanes, 'lane')} to move, and back, one after "
        "the other. "
        f"It stops at the first node that is not back within {BACK_S:.0f} s or whose lanes stop.\n"
        f"{format_versions(c.fleet)}"
    )

    def begin_rollout(done: Context) -> Iterator[Effect]:
        done.news.add_line(
            f"{done.nick}: rollout of {counted(len(here), 'node')} begins.", done.reply
        )
        yield from done.rollout.begin(here, done.nick, done.jid, done.now_ms, done.reply)

    return Dry(
        f"rollout {' '.join(args)}".strip(),
        text,
        begin_rollout,
        rests=lambda then: then.rollout.running,
    )


def _stop_rollout(c: Context) -> Iterator[Effect]:
    yield from c.rollout.stop(f"{c.nick} stopped it")


ROLLOUTS = (
    Command(
        "rollout",
        (
            Argument(
                "nodes",
                Type.WORD,
                "NODE ... (all if none is named), or stop",
                optional=True,
                many=True,
            ),
        ),
        Access.ACT,
        "restart nodes one by one, for new pipeline code",
        _predict_rollout,
        goes="rollout [NODE ... | stop]",
    ),
)
