"""`tune NAME VALUE`: a setting changed while the fleet runs; `tune`: what is tuned, and who has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agents.core.effects import Effect, Publish, Write
from agents.core.fleet import Fleet
from agents.core.model import Intent, short_name
from agents.core.nearest import hint
from agents.core.operators.arguments import Argument, Type
from agents.core.operators.command import Access, Command, Context, Dry, Result
from agents.core.tuning import (
    NAMES,
    PREFIX,
    WORKER_NAMES,
    Tunable,
    check_calm,
    lacking,
    next_version,
    tuned_calm,
    tuning_item,
    version,
    written,
)
from agents.errors import OperatorError

GOES = "tune [NAME VALUE | NAME default]"


def _tune(c: Context, args: Sequence[str]) -> Result:
    if not args:
        return _shown(c)
    tunables = c.tunables
    name = args[0].lower().rpartition(".")[2]
    if name not in tunables:
        raise OperatorError(f"{args[0][:40]!r} cannot be tuned. {hint(name, list(tunables))}")
    t = tunables[name]
    now = written(c.fleet.intents).get(name)
    is_now = f"{float(now):g}" if now is not None else f"{t.default:g}, as the settings say"
    if len(args) == 1:
        return f"{name} is {is_now}{' ' + t.unit if t.unit else ''}: {t.limits}. {t.text}"
    if c.access < Access.TUNE:
        raise OperatorError("tune NAME VALUE is for an owner of the ops room.")
    text = "" if args[1].lower() == "default" else f"{t.value(args[1]):g}"
    if text == (now or ""):
        raise OperatorError(f"{name} is {is_now} already.")
    _fits(c, name, text)
    who = "the coordinator's planner" if name not in WORKER_NAMES else f"{_workers(c.fleet)} workers"
    is_then = text or f"{t.default:g}, as the settings say"

    def act(done: Context) -> Iterator[Effect]:
        if done.access < Access.TUNE:
            raise OperatorError("tune NAME VALUE is for an owner of the ops room.")
        _fits(done, name, text)
        intent = Intent(done.jid, next_version(done.fleet.intents, done.now_ms), text)
        intents = {**done.fleet.intents, PREFIX + name: intent}
        then = (Publish(tuning_item(intents, done.fleet.leader_epoch)),) if name in WORKER_NAMES else ()
        done.news.tuned(f"{done.nick}: {name} is {is_then} (was {is_now})", name in WORKER_NAMES, done.now)
        yield Write(intents={PREFIX + name: intent}, then=then)

    return Dry(f"tune {name} {args[1]}", f"{name}: {is_now} -> {is_then} {t.unit}. {t.text}\nFor {who}, at once.", act)


def _fits(c: Context, name: str, text: str) -> None:
    if name not in WORKER_NAMES:
        check_calm(tuned_calm(c.calm, c.tunables, {**c.fleet.intents, PREFIX + name: Intent("", 0, text)}))


def _workers(fleet: Fleet) -> int:
    return sum(v.present for v in fleet.views.values())


def who_lacks(fleet: Fleet) -> tuple[int, list[str]]:
    """How many workers are here, and which of them do not show the newest version."""
    here = [v for v in fleet.views.values() if v.present]
    shown = [(short_name(v.spec.worker), v.telemetry.tuning if v.telemetry is not None else 0) for v in here]
    return len(here), lacking(shown, version(fleet.intents))


def acknowledged(fleet: Fleet) -> str:
    """`11 of 11 workers have it`, or who has not."""
    here, without = who_lacks(fleet)
    some = f"; not yet: {', '.join(without[:6])}{' ...' if len(without) > 6 else ''}" if without else ""
    return f"{here - len(without)} of {here} workers have it{some}"


def _shown(c: Context) -> str:
    tuned = written(c.fleet.intents)
    if not tuned:
        return f"Nothing is tuned: all is as the settings say. To tune: {GOES}; names: {', '.join(NAMES[:8])} ..."
    lines = [f"{len(tuned)} tuned; {acknowledged(c.fleet)}."]
    for name, value in sorted(tuned.items()):
        t: Tunable | None = c.tunables.get(name)
        usual = f" (settings: {t.default:g} {t.unit})" if t is not None else ""
        by = c.fleet.intents[PREFIX + name].by.partition("@")[0]
        lines.append(f"{name} {value}{usual}, by {by}")
    return "\n".join(lines)


TUNES = (
    Command(
        "tune",
        (
            Argument("name", Type.WORD, "which setting", optional=True, choices=NAMES),
            Argument("value", Type.WORD, "its new value, or default", optional=True),
        ),
        Access.LOOK,
        "a setting changed while the fleet runs (owners); alone: what is tuned, and who has it",
        _tune,
        goes=GOES,
    ),
)
