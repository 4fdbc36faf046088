"""Operator commands, each declared once: its name, arguments, access and effect. Chat, forms and
the command line only render them (DESIGN 4)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.base.errors import OperatorError
from agents.base.text import counted
from agents.core.effects import Effect, Send, Write
from agents.core.fleet.fleet import View
from agents.core.fleet.incidents import names
from agents.core.fleet.placing_inputs import FleetChange, Target
from agents.core.fleet.summary import health_word, summarise
from agents.core.model.feeds import FleetSummary
from agents.core.model.messages import DrainCommand, ResumeCommand
from agents.core.model.placement import PAUSE, Intent, State, drain_intent
from agents.core.model.plan import Scored
from agents.core.model.topology import Partition, WorkerKind, short_name
from agents.core.operators import look
from agents.core.operators.arguments import (
    LANE,
    NODE,
    PAGE,
    WORKER,
    Argument,
    Type,
    keyed_of,
    lane_of,
    node_of,
    page_of,
)
from agents.core.operators.charts import LOOKS
from agents.core.operators.command import Access, Command, Context, Dry, Fetch, Result
from agents.core.operators.dead_letters import LETTERS
from agents.core.operators.explain import explain
from agents.core.operators.held_back import back_when
from agents.core.operators.history import ARGUMENTS as HISTORY
from agents.core.operators.history import history
from agents.core.operators.reset import RESET
from agents.core.operators.rewind import REWIND, rewind
from agents.core.operators.rollout import ROLLOUTS
from agents.core.operators.subscriptions import FEEDS, follow, unfollow
from agents.core.operators.tune import DEFAULT, tune
from agents.core.operators.whatif import USAGE, whatif
from agents.core.planning.damping import MUST
from agents.settings.tunables import TUNABLES
from kernels import terms as terms_of
from kernels.reference import may_be

# ---- commands that look ----


def _help(c: Context, args: Sequence[str]) -> str:
    if args:
        command = find(args[0])
        needs = {Access.ACT: " Needs admin.", Access.TUNE: " Changing anything needs owner."}.get(
            command.most, ""
        )
        does = command.help[:1].upper() + command.help[1:]
        return f"Usage: {command.goes or command.usage}\n{does}.{needs}"
    shown = [x for x in COMMANDS.values() if c.chat or not x.chat_only]
    look = ", ".join(x.brief for x in shown if x.access is Access.LOOK)
    act = ", ".join(x.brief for x in shown if x.access is Access.ACT)
    own = ", ".join(x.goes for x in shown if x.most is Access.TUNE)
    ask = "In the room, begin with !; one to one, without it.\n" if c.chat else ""
    return (
        f"{ask}Look: {look}.\nAct (admin): {act}.\nTune (owner): {own}.\nhelp COMMAND shows more."
    )


def _status(c: Context, args: Sequence[str]) -> str:
    return look.status(c.fleet, c.placing, c.news.troubles, c.now)


def _figures(c: Context) -> dict[str, str]:
    troubles = c.news.troubles
    s = summarise(c.fleet, c.placing.inputs.rates, troubles, c.now, paused=PAUSE in c.fleet.intents)
    values = {name: getattr(s, name) for name in FleetSummary.figures()}
    values |= {"troubles": len(troubles.standing())}
    values |= {f"troubles_{kind}": count for kind, count in troubles.count().items() if count}
    return {
        name: str(v).lower() if isinstance(v, bool) else f"{v:.12g}" for name, v in values.items()
    }


def _nodes(c: Context, args: Sequence[str]) -> str:
    return look.nodes(c.fleet, page_of(args), c.rows)


def _one_node(c: Context, args: Sequence[str]) -> str:
    name = args[0].strip().lower()
    view = c.fleet.views[name] if name in c.fleet.views else node_of(c.fleet, name)
    return look.node(c.fleet, view, c.now)


def _lanes(c: Context, args: Sequence[str]) -> str:
    return look.lanes(c.fleet, page_of(args), c.rows)


def _explain(c: Context, args: Sequence[str]) -> str:
    return explain(c.placing, lane_of(c.fleet, args[0]), c.now)


def _whatif(c: Context, args: Sequence[str]) -> str:
    return whatif(c.placing, c.now, c.now_ms, args)


def _hotspots(c: Context, args: Sequence[str]) -> str:
    return "Analytics is not running yet, so I know of no hotspots. The busiest lanes: !lanes."


def _one_lane(c: Context, args: Sequence[str]) -> str | Fetch:
    if len(args) > 1:
        return rewind(c, args)
    return look.lane(c.fleet, c.placing, lane_of(c.fleet, args[0]), c.now, c.now_ms)


# ---- commands that change something ----


def _effect(scored: Scored, only: frozenset[str] | None = None) -> str:
    """The predicted effect of a plan, for people: moves, ms, load."""
    moves = [m for m in scored.plan.moves if only is None or m.reason in only]
    before, after = scored.plan.before, scored.plan.after
    if not moves:
        return "Nothing would move now."
    some = ", ".join(
        f"{m.lane} to {short_name(scored.workers[m.to])} ({m.delta_ms:+.1f} ms)" for m in moves[:4]
    )
    return (
        f"Moves: {some}{' ...' if len(moves) > 4 else '.'}\n"
        f"RTT an event {before.mean_rtt_ms:.1f} -> {after.mean_rtt_ms:.1f} ms (modelled); "
        f"busiest node {before.utilisation:.0%} -> {after.utilisation:.0%}."
    )


def _emptied(c: Context, view: View) -> Scored:
    """The plan with that node drained. Raises OperatorError when no other node takes lanes."""
    if not any(
        c.fleet.statuses[v.spec.worker].takes
        for v in c.fleet.views.values()
        if v is not view and v.spec.kind == WorkerKind.NODE
    ):
        raise OperatorError(f"No other node takes lanes: {view.spec.name} would keep its lanes.")
    return c.placing.what_if(c.now, c.now_ms, FleetChange(empty=frozenset({view.spec.worker})))


def _drain(c: Context, args: Sequence[str]) -> Dry:
    view = node_of(c.fleet, args[0])
    worker, name = view.spec.worker, view.spec.name
    if drain_intent(worker) in c.fleet.intents:
        raise OperatorError(f"{name} is already drained; resume {name} undoes that.")
    scored = _emptied(c, view)
    owned = c.fleet.owned_by(worker)
    text = (
        f"Drain {name}: {names(owned)} would move away, a few at a time.\n{_effect(scored, MUST)}"
    )
    if scored.plan.stuck:
        text += f"\nNo room elsewhere for {len(scored.plan.stuck)} of them: they stay."

    version, stuck = c.fleet.version, len(scored.plan.stuck)

    def act(done: Context) -> Iterator[Effect]:
        # Planned again only if the fleet has changed: more lanes without room void the dry run.
        if done.fleet.version != version and len(_emptied(done, view).plan.stuck) > stuck:
            raise OperatorError(f"There is less room elsewhere now. Ask again: drain {name}")
        intent = Intent(done.jid, done.now_ms)
        then: tuple[Effect, ...] = ()
        if view.present and view.boot:
            then = (Send(worker, DrainCommand(done.fleet.leader_epoch, view.boot)),)
        mine = done.fleet.owned_by(worker)
        done.news.asked(f"drain {name} ({names(mine)})", mine, done.nick, done.now, empties=worker)
        yield Write(intents={drain_intent(worker): intent}, then=then)

    return Dry(f"drain {name}", text, act, nodes=(worker,))


def _resume(c: Context, args: Sequence[str]) -> Dry:
    view = node_of(c.fleet, args[0])
    worker, name = view.spec.worker, view.spec.name
    if not c.fleet.statuses[worker].drained:
        raise OperatorError(f"{name} is not drained.")

    def act(done: Context) -> Iterator[Effect]:
        then: tuple[Effect, ...] = ()
        if view.present and view.boot:
            then = (Send(worker, ResumeCommand(done.fleet.leader_epoch, view.boot)),)
        done.news.line(f"{done.nick}: {name} takes lanes again.")
        done.news.resumed(worker)
        yield Write(intents={drain_intent(worker): None}, then=then)

    return Dry(
        f"resume {name}",
        f"Resume {name}: it may take lanes again. {back_when(c.placing)}",
        act,
        nodes=(worker,),
    )


def _fits(c: Context, p: Partition, view: View) -> tuple[float, float, float]:
    """If the lane were moved to that node: the change of RTT in ms, the node's load, and its limit
    (events/s). Raises OperatorError when the lane may not be moved there now."""
    worker, name, s = view.spec.worker, view.spec.name, c.fleet.partitions[p]
    if not c.fleet.statuses[worker].takes:
        raise OperatorError(f"{name} takes no lanes now: it is {health_word(c.fleet, view)}.")
    if not c.placing.can_move(p):
        raise OperatorError(
            f"Lane {p.n} cannot be moved now: it is {s.state}. Try again when it is assigned."
        )
    scored = c.placing.what_if(c.now, c.now_ms)
    row = scored.partitions.index(p)
    to, own = scored.workers.index(worker), scored.workers.index(s.worker)
    one = np.array([row], dtype=np.int32)
    terms = terms_of(scored.problem, one)
    if not may_be(scored.problem, one)[0, to]:
        raise OperatorError(
            f"Lane {p.n} may not be placed on {name}: explain {p.n} shows which rule forbids it."
        )
    delta = float(terms.rtt_ms[0, to] - terms.rtt_ms[0, own])
    load = sum(
        w
        for w, lane in zip(scored.plan.load_eps, scored.moment.lanes, strict=True)
        if lane.owner == to
    )
    after = load + scored.plan.load_eps[row]
    calm = c.placing.inputs.settings.calm
    limit = calm.target_utilisation * c.fleet.statuses[worker].capacity_eps
    if after > limit:
        raise OperatorError(
            f"Lane {p.n} does not fit: {name} would have {after:,.0f} of {limit:,.0f} events/s "
            "allowed."
        )
    return delta, after, limit


def _move(c: Context, args: Sequence[str]) -> Dry:
    p, view = lane_of(c.fleet, args[0]), node_of(c.fleet, args[1])
    worker, name = view.spec.worker, view.spec.name
    s = c.fleet.partitions[p]
    if s.worker == worker and s.state is State.ASSIGNED:
        raise OperatorError(f"Lane {p.n} is already on {name}.")
    delta, after, limit = _fits(c, p, view)
    version, frm = c.fleet.version, short_name(s.worker)
    text = (
        f"Move lane {p.n} from {frm} to {name}: {delta:+.1f} ms RTT (modelled).\n"
        f"{name} would have {after:,.0f} of {limit:,.0f} events/s allowed."
    )

    def act(done: Context) -> Iterator[Effect]:
        if done.fleet.version != version or not done.placing.can_move(p):
            _fits(done, p, view)  # raises if the move is no longer possible
        done.placing.hold(p, done.now)
        done.news.asked(f"move lane {p.n} from {frm} to {name}", [p], done.nick, done.now)
        yield from done.placing.begin(
            {p: Target(worker, f"asked by {done.nick}", done.jid, delta)}, done.now_ms
        )

    return Dry(f"move {p.n} {name}", text, act, lanes=(p.n,), nodes=(s.worker, worker))


def _rebalance(c: Context, args: Sequence[str]) -> Dry:
    scored = c.placing.what_if(c.now, c.now_ms, eager=True)
    if not scored.plan.moves:
        raise OperatorError("Nothing to gain: no move is worth its cost now.")

    def act(done: Context) -> Iterator[Effect]:
        again = done.placing.what_if(done.now, done.now_ms, eager=True)
        targets = {
            WorkerKind.NODE.partition(m.lane): Target(
                again.workers[m.to], f"rebalance, asked by {done.nick}", done.jid, m.delta_ms
            )
            for m in again.plan.moves
        }
        done.news.asked(
            f"rebalance ({names(targets)})",
            [p for p in targets if done.placing.can_move(p)],
            done.nick,
            done.now,
        )
        yield from done.placing.begin(targets, done.now_ms)

    text = (
        f"Rebalance now: {counted(len(scored.plan.moves), 'lane')} would move.\n{_effect(scored)}"
    )
    return Dry("rebalance", text, act, lanes=tuple(m.lane for m in scored.plan.moves))


def _pause(c: Context, args: Sequence[str]) -> Dry:
    if PAUSE in c.fleet.intents:
        raise OperatorError("The planner is already paused; unpause ends that.")

    def act(done: Context) -> Iterator[Effect]:
        done.news.line(
            f"{done.nick}: the planner is paused. Orphans are still placed, and drains continue."
        )
        yield Write(intents={PAUSE: Intent(done.jid, done.now_ms)})

    text = "Pause the planner: nothing moves to cut latency or load; orphans are still placed."
    return Dry("pause", text, act, rests=_paused)


def _unpause(c: Context, args: Sequence[str]) -> Dry:
    if PAUSE not in c.fleet.intents:
        raise OperatorError("The planner is not paused.")

    def act(done: Context) -> Iterator[Effect]:
        done.news.line(f"{done.nick}: the planner is no longer paused.")
        yield Write(intents={PAUSE: None})

    text = f"End the planner's pause.\n{_effect(c.placing.what_if(c.now, c.now_ms))}"
    return Dry("unpause", text, act, rests=_paused)


def _paused(c: Context) -> bool:
    return PAUSE in c.fleet.intents


def find(word: str) -> Command:
    """The command of that name. Raises OperatorError with the nearest known name."""
    command = COMMANDS.get(word.lower())
    if command is None:
        near = difflib.get_close_matches(word.lower(), COMMANDS, 1)
        raise OperatorError(
            f"There is no command {word[:40]!r}."
            + (f" Did you mean {near[0]}?" if near else "")
            + " Try help."
        )
    return command


def fit(command: Command, args: Sequence[str]) -> None:
    """Raises OperatorError for a wrong number of arguments."""
    plain, _ = keyed_of(command.args, args)
    positional = [a for a in command.args if not a.keyed]
    needed = sum(not a.optional for a in positional)
    most = len(plain) if positional and positional[-1].many else len(positional)
    if not needed <= len(plain) <= most:
        raise OperatorError(f"Usage: {command.goes or command.usage}")


def run(command: Command, context: Context, args: Sequence[str]) -> Result:
    """Run the command. Raises OperatorError for a wrong number of arguments, or an argument that
    names nothing."""
    fit(command, args)
    return command.run(context, args)


_ID = Argument("id", Type.WORD, "the id that the dry run gave")
_CHANGE = (
    Argument("change", Type.WORD, "what changes", choices=("drain", "lose", "add", "rate")),
    Argument(
        "what", Type.WORD, "NODE, or REGION, or SITE CAPACITY, or LANE xF", optional=True, many=True
    ),
)
_REWIND = (
    Argument(
        "what",
        Type.WORD,
        "rewind, or nothing to show the lane",
        optional=True,
        choices=(REWIND,),
    ),
    Argument(
        "to",
        Type.WORD,
        "rewind to: -10m, 10:00 (today, UTC), 2026-07-01T10:00:00Z, or an offset",
        optional=True,
    ),
)
_TUNE = (
    Argument("name", Type.WORD, "which setting", optional=True, choices=tuple(TUNABLES)),
    Argument(
        "value", Type.WORD, f"the new value, or {DEFAULT} (as in the settings)", optional=True
    ),
)
_FEED = Argument("feed", Type.WORD, "which feed", optional=True, choices=FEEDS)
_LIST = (
    Command(
        "help",
        (Argument("command", Type.COMMAND, "which command", optional=True),),
        Access.LOOK,
        "what I can do",
        _help,
    ),
    Command("status", (), Access.LOOK, "the state of the fleet", _status, figures=_figures),
    Command("nodes", (PAGE,), Access.LOOK, "all workers, those in trouble first", _nodes),
    Command("node", (WORKER,), Access.LOOK, "one worker", _one_node),
    Command("lanes", (PAGE,), Access.LOOK, "all lanes, the largest lag first", _lanes),
    Command(
        "lane",
        (LANE, *_REWIND),
        Access.LOOK,
        "one lane; rewind: process its events again",
        _one_lane,
        goes="lane LANE rewind TIME",
        changes=Access.TUNE,
        looks=1,
    ),
    Command("explain", (LANE,), Access.LOOK, "why a lane is where it is, in ms", _explain),
    Command(
        "whatif", _CHANGE, Access.LOOK, f"what a change would do: {USAGE}", _whatif, goes=USAGE
    ),
    *LOOKS,
    *LETTERS,
    Command("hotspots", (), Access.LOOK, "where events pile up", _hotspots),
    Command("history", HISTORY, Access.LOOK, "what happened and who asked for it", history),
    Command("follow", (_FEED,), Access.LOOK, "get a feed's items one to one", follow),
    Command(
        "unfollow",
        (replace(_FEED, optional=False),),
        Access.LOOK,
        "stop following a feed",
        unfollow,
    ),
    Command(
        "tune",
        _TUNE,
        Access.LOOK,
        "change a setting at once, for all workers or the planner",
        tune,
        goes="tune NAME VALUE",
        changes=Access.TUNE,
        looks=1,
    ),
    Command("drain", (NODE,), Access.ACT, "move all lanes away and give it no new ones", _drain),
    Command("resume", (NODE,), Access.ACT, "let a drained node take lanes again", _resume),
    Command("move", (LANE, NODE), Access.ACT, "move one lane", _move),
    Command("rebalance", (), Access.ACT, "move at once the lanes that would gain", _rebalance),
    RESET,
    *ROLLOUTS,
    Command("pause", (), Access.ACT, "stop all moves except orphans and drains", _pause),
    Command("unpause", (), Access.ACT, "end the pause", _unpause),
    Command("confirm", (_ID,), Access.ACT, "carry out a dry run", lambda c, a: "", chat_only=True),
)
COMMANDS: Mapping[str, Command] = {c.name: c for c in _LIST}
