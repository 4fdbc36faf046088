"""Operator commands, each declared once: its name, arguments, access and effect. Chat, forms and
the command line only render them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from agents.base.errors import OperatorError
from agents.base.text import counted
from agents.core.effects import Effect, Send, Write
from agents.core.fleet.fleet import View
from agents.core.fleet.incidents import format_partitions
from agents.core.fleet.placing_inputs import FleetChange, Target
from agents.core.fleet.summary import health_word
from agents.core.model.answers import Answer, CommandRow, HelpData
from agents.core.model.feeds import OPERATOR_FEEDS, MoveItem
from agents.core.model.messages import DrainCommand, ResumeCommand
from agents.core.model.placement import PAUSE, Intent, State, drain_intent
from agents.core.model.plan import Scored
from agents.core.model.topology import Partition, WorkerKind, short_name
from agents.core.operators import look
from agents.core.operators.ack import ACK
from agents.core.operators.arguments import (
    LANE,
    NODE,
    PAGE,
    WORKER,
    Argument,
    Type,
    find_lane,
    find_node,
    parse_page,
    split_keyed_words,
)
from agents.core.operators.charts import LOOKS
from agents.core.operators.command import Access, Command, Context, Dry, Fetch, Result
from agents.core.operators.dead_letters import LETTERS
from agents.core.operators.details import describe_lane, describe_node
from agents.core.operators.explain import describe_network, explain_lane
from agents.core.operators.held_back import describe_return
from agents.core.operators.history import ARGUMENTS as HISTORY
from agents.core.operators.history import query_history
from agents.core.operators.hotspots import show_hotspots
from agents.core.operators.places import query_place
from agents.core.operators.reset import RESET
from agents.core.operators.rewind import REWIND, query_rewind
from agents.core.operators.rollout import ROLLOUTS
from agents.core.operators.second_person import CONFIRM
from agents.core.operators.subscriptions import follow_feed, unfollow_feed
from agents.core.operators.tables import list_lanes, list_nodes
from agents.core.operators.traffic import show_traffic
from agents.core.operators.tune import DEFAULT, show_or_tune_setting
from agents.core.operators.whatif import USAGE, answer_whatif
from agents.core.planning.damping import MUST
from agents.settings.tunables import TUNABLES
from kernels import compute_terms as terms_of
from kernels.reference import compute_feasible_pairs

# ---- commands that look ----


def _show_help(c: Context, args: Sequence[str]) -> Answer:
    shown = [x for x in COMMANDS.values() if c.chat or x.name != CONFIRM]
    if args:
        shown = [find_command(args[0])]
    return Answer(
        describe_command(shown[0]) if args else _describe_commands(c, shown),
        HelpData(commands=tuple(_command_row(x) for x in shown)),
    )


def _command_row(x: Command) -> CommandRow:
    acts = Access.ACT if x.may_change or x is ACK else Access.LOOK  # these check it themselves
    return CommandRow(
        name=x.name,
        usage=x.goes or x.usage,
        help=x.help,
        needs=x.access.affiliation,
        changes_need=max(x.highest_access, acts).affiliation,
    )


def _describe_commands(c: Context, shown: Sequence[Command]) -> str:
    lines = [f"{c.prefix}help COMMAND shows more. In brackets: the affiliation that you need."]
    if c.chat:
        to = f" ({c.address})" if c.address else ""
        lines.append(f"In the room a command begins with !; one to one{to} without it.")
    for title, is_in in _GROUPS:
        lines.append(title)
        lines += [f"{c.prefix}{x.brief_usage}: {x.brief_help}" for x in shown if is_in(x)]
    lines.append("Change settings, offsets (owner)")
    for x in (x for x in shown if x.highest_access is Access.TUNE):
        usage = x.usage if x.access is Access.TUNE else x.goes
        lines.append(f"{c.prefix}{usage}: {x.help.rpartition(': ')[2]}")
    return "\n".join(lines)


def _show_status(c: Context, args: Sequence[str]) -> Answer:
    shown = look.TROUBLES if c.chat else c.rows
    return look.describe_fleet(c.fleet, c.placing, c.news.troubles, c.now, shown, c.prefix)


def _show_nodes(c: Context, args: Sequence[str]) -> Answer:
    return list_nodes(c.fleet, c.paths, parse_page(args), c.rows, prefix=c.prefix, chat=c.chat)


def _show_node(c: Context, args: Sequence[str]) -> Answer:
    name = args[0].strip().lower()
    view = c.fleet.views[name] if name in c.fleet.views else find_node(c.fleet, name)
    return describe_node(c.fleet, c.paths, view, c.now)


def _show_lanes(c: Context, args: Sequence[str]) -> Answer:
    return list_lanes(c.fleet, parse_page(args), c.rows, prefix=c.prefix, chat=c.chat)


def _show_explanation(c: Context, args: Sequence[str]) -> Answer:
    return explain_lane(c.placing, find_lane(c.fleet, args[0]), c.now)


def _show_whatif(c: Context, args: Sequence[str]) -> Answer:
    return answer_whatif(c.placing, c.now, c.now_ms, args)


def _show_or_rewind_lane(c: Context, args: Sequence[str]) -> Answer | Fetch:
    if len(args) > 1:
        return query_rewind(c, args)
    return describe_lane(c, find_lane(c.fleet, args[0]))


# ---- commands that change something ----


def _describe_effect(scored: Scored, only: frozenset[str] | None = None) -> str:
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
        f"RTT an event {before.mean_rtt_ms:.1f} -> {after.mean_rtt_ms:.1f} ms "
        f"({describe_network(scored)}); "
        f"busiest node, as forecast: {before.utilisation:.0%} -> {after.utilisation:.0%}."
    )


def _moves_of(scored: Scored, only: frozenset[str] | None = None) -> tuple[MoveItem, ...]:
    """The moves of a plan as they are published, without an epoch."""
    return tuple(
        MoveItem(
            m.lane,
            short_name(scored.workers[m.frm]),
            short_name(scored.workers[m.to]),
            0,
            m.delta_ms,
        )
        for m in scored.plan.moves
        if only is None or m.reason in only
    )


def _plan_without_node(c: Context, view: View) -> Scored:
    """The plan with that worker drained. Raises OperatorError when no other one of its kind takes
    its partitions."""
    if not any(
        c.fleet.statuses[v.spec.worker].takes
        for v in c.fleet.views.values()
        if v is not view and v.spec.kind == view.spec.kind
    ):
        kind, word = view.spec.kind.name, view.spec.kind.partitions_word
        raise OperatorError(
            f"No other {kind} takes {word}: {view.spec.label} would keep its {word}."
        )
    return c.placing.what_if(c.now, c.now_ms, FleetChange(empty=frozenset({view.spec.worker})))


def _predict_drain(c: Context, args: Sequence[str]) -> Dry:
    view = find_node(c.fleet, args[0])
    worker, name = view.spec.worker, view.spec.label
    if drain_intent(worker) in c.fleet.intents:
        raise OperatorError(f"{name} is already drained; resume {name} undoes that.")
    scored = _plan_without_node(c, view)
    owned = c.fleet.owned_by(worker)
    word = view.spec.kind.partitions_word
    text = f"Drain {name}: {format_partitions(owned)} would move away, a few at a time."
    if not owned:
        text = f"Drain {name}: it has no {word} now, and would get none."
    elif view.spec.kind.planned:
        text += f"\n{_describe_effect(scored, MUST)}"
    if scored.plan.stuck:
        text += f"\nNo room elsewhere for {len(scored.plan.stuck)} of them: they stay."

    version, stuck = c.fleet.version, len(scored.plan.stuck)

    def drain_node(done: Context) -> Iterator[Effect]:
        # Planned again only if the fleet has changed: more lanes without room void the dry run.
        if done.fleet.version != version and len(_plan_without_node(done, view).plan.stuck) > stuck:
            raise OperatorError(f"There is less room elsewhere now. Ask again: drain {name}")
        intent = Intent(done.jid, done.now_ms)
        then: tuple[Effect, ...] = ()
        if view.present and view.boot:
            then = (Send(worker, DrainCommand(done.fleet.leader_epoch, view.boot)),)
        mine = done.fleet.owned_by(worker)
        which = f" ({format_partitions(mine)})" if mine else ""
        done.news.open_command_incident(
            f"drain {name}{which}",
            mine,
            done.nick,
            done.now,
            empties=worker,
            reply=done.reply,
        )
        yield Write(intents={drain_intent(worker): intent}, then=then)

    moves = _moves_of(scored, MUST) if view.spec.kind.planned else ()
    return Dry(f"drain {name}", text, drain_node, nodes=(worker,), moves=moves)


def _predict_resume(c: Context, args: Sequence[str]) -> Dry:
    view = find_node(c.fleet, args[0])
    worker, name, word = view.spec.worker, view.spec.label, view.spec.kind.partitions_word
    if not c.fleet.statuses[worker].drained:
        raise OperatorError(f"{name} is not drained.")

    def resume_node(done: Context) -> Iterator[Effect]:
        then: tuple[Effect, ...] = ()
        if view.present and view.boot:
            then = (Send(worker, ResumeCommand(done.fleet.leader_epoch, view.boot)),)
        done.news.add_line(f"{done.nick}: {name} takes {word} again.", done.reply)
        done.news.end_drain_incidents(worker)
        yield Write(intents={drain_intent(worker): None}, then=then)

    return Dry(
        f"resume {name}",
        f"Resume {name}: it may take {word} again. {describe_return(c.placing)}",
        resume_node,
        nodes=(worker,),
    )


def _check_move(c: Context, p: Partition, view: View) -> tuple[float, float, float]:
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
    if not compute_feasible_pairs(scored.problem, one)[0, to]:
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


def _predict_move(c: Context, args: Sequence[str]) -> Dry:
    p, view = find_lane(c.fleet, args[0]), find_node(c.fleet, args[1])
    worker, name = view.spec.worker, view.spec.label
    if view.spec.kind != WorkerKind.NODE:
        raise OperatorError(f"{name} is not a node: only nodes work lanes.")
    s = c.fleet.partitions[p]
    if s.worker == worker and s.state is State.ASSIGNED:
        raise OperatorError(f"Lane {p.n} is already on {name}.")
    delta, after, limit = _check_move(c, p, view)
    rests_on = describe_network(c.placing.last) if c.placing.last else "modelled"
    version, frm = c.fleet.version, short_name(s.worker)
    text = (
        f"Move lane {p.n} from {frm} to {name}: {delta:+.1f} ms RTT ({rests_on}).\n"
        f"{name} would have {after:,.0f} of {limit:,.0f} events/s allowed."
    )

    def move_lane(done: Context) -> Iterator[Effect]:
        if done.fleet.version != version or not done.placing.can_move(p):
            _check_move(done, p, view)  # raises if the move is no longer possible
        done.placing.begin_cooldown(p, done.now)
        done.news.open_command_incident(
            f"move lane {p.n} from {frm} to {name}", [p], done.nick, done.now, reply=done.reply
        )
        yield from done.placing.begin_moves(
            {p: Target(worker, f"asked by {done.nick}", done.jid, delta)}, done.now_ms
        )

    moves = (MoveItem(p.n, frm, name, 0, delta),)
    return Dry(
        f"move {p.n} {name}", text, move_lane, lanes=(p.n,), nodes=(s.worker, worker), moves=moves
    )


def _predict_rebalance(c: Context, args: Sequence[str]) -> Dry:
    scored = c.placing.what_if(c.now, c.now_ms, eager=True)
    if not scored.plan.moves:
        raise OperatorError("Nothing to gain: no move is worth its cost now.")

    def rebalance_lanes(done: Context) -> Iterator[Effect]:
        again = done.placing.what_if(done.now, done.now_ms, eager=True)
        targets = {
            WorkerKind.NODE.partition(m.lane): Target(
                again.workers[m.to], f"rebalance, asked by {done.nick}", done.jid, m.delta_ms
            )
            for m in again.plan.moves
        }
        done.news.open_command_incident(
            f"rebalance ({format_partitions(targets)})",
            [p for p in targets if done.placing.can_move(p)],
            done.nick,
            done.now,
            reply=done.reply,
        )
        yield from done.placing.begin_moves(targets, done.now_ms)

    text = (
        f"Rebalance now: {counted(len(scored.plan.moves), 'lane')} would move.\n"
        f"{_describe_effect(scored)}"
    )
    lanes = tuple(m.lane for m in scored.plan.moves)
    return Dry("rebalance", text, rebalance_lanes, lanes=lanes, moves=_moves_of(scored))


def _predict_pause(c: Context, args: Sequence[str]) -> Dry:
    if PAUSE in c.fleet.intents:
        raise OperatorError("The planner is already paused; unpause ends that.")

    def pause_planner(done: Context) -> Iterator[Effect]:
        done.news.add_line(
            f"{done.nick}: the planner is paused. Orphans are still placed, and drains continue.",
            done.reply,
        )
        yield Write(intents={PAUSE: Intent(done.jid, done.now_ms)})

    text = "Pause the planner: nothing moves to cut latency or load; orphans are still placed."
    return Dry("pause", text, pause_planner, rests=_is_paused)


def _predict_unpause(c: Context, args: Sequence[str]) -> Dry:
    if PAUSE not in c.fleet.intents:
        raise OperatorError("The planner is not paused.")

    def unpause_planner(done: Context) -> Iterator[Effect]:
        done.news.add_line(f"{done.nick}: the planner is no longer paused.", done.reply)
        yield Write(intents={PAUSE: None})

    text = f"End the planner's pause.\n{_describe_effect(c.placing.what_if(c.now, c.now_ms))}"
    return Dry("unpause", text, unpause_planner, rests=_is_paused)


def _is_paused(c: Context) -> bool:
    return PAUSE in c.fleet.intents


def describe_command(command: Command, prefix: str = "") -> str:
    """Usage, effect and who may use it. `prefix`: begins a command where it was asked for."""
    needs = {Access.ACT: " Needs admin.", Access.TUNE: " Changing anything needs owner."}
    does = command.help[:1].upper() + command.help[1:]
    usage = f"Usage: {prefix}{command.goes or command.usage}"
    return f"{usage}\n{does}.{needs.get(command.highest_access, '')}"


def _leave_to_fronts(c: Context, args: Sequence[str]) -> Result:
    raise AssertionError("chat and forms carry out `confirm` themselves")


def find_command(word: str, prefix: str = "") -> Command:
    """The command of that name. Raises OperatorError with the nearest known name. `prefix`: begins
    a command where it was asked for."""
    command = COMMANDS.get(word.lower())
    if command is None:
        near = difflib.get_close_matches(word.lower(), COMMANDS, 1)
        raise OperatorError(
            f"There is no command {word[:40]!r}."
            + (f" Did you mean {prefix}{near[0]}?" if near else "")
            + f" {prefix}help lists them."
        )
    return command


def check_argument_count(command: Command, args: Sequence[str]) -> None:
    """Raises OperatorError for a wrong number of arguments."""
    plain, _ = split_keyed_words(command.args, args)
    positional = [a for a in command.args if not a.keyed]
    needed = sum(not a.optional for a in positional)
    most = len(plain) if positional and positional[-1].many else len(positional)
    if not needed <= len(plain) <= most:
        raise OperatorError(f"Usage: {command.goes or command.usage}")


def run_command(command: Command, context: Context, args: Sequence[str]) -> Result:
    """Run the command. Raises OperatorError for a wrong number of arguments, or an argument that
    names nothing."""
    check_argument_count(command, args)
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
_FEED = Argument("feed", Type.WORD, "which feed", optional=True, choices=OPERATOR_FEEDS)
_LIST = (
    Command(
        "help",
        (Argument("command", Type.COMMAND, "which command", optional=True),),
        Access.LOOK,
        "what I can do",
        _show_help,
    ),
    Command("status", (), Access.LOOK, "the state of the fleet", _show_status),
    Command("nodes", (PAGE,), Access.LOOK, "all workers, those in trouble first", _show_nodes),
    Command("node", (WORKER,), Access.LOOK, "one worker", _show_node),
    Command("lanes", (PAGE,), Access.LOOK, "all lanes, the largest lag first", _show_lanes),
    Command(
        "lane",
        (LANE, *_REWIND),
        Access.LOOK,
        "one lane; rewind: process its events again",
        _show_or_rewind_lane,
        goes="lane LANE rewind TIME",
        changes=Access.TUNE,
        looks=1,
    ),
    Command("explain", (LANE,), Access.LOOK, "why a lane is where it is, in ms", _show_explanation),
    Command(
        "whatif", _CHANGE, Access.LOOK, f"what a change would do: {USAGE}", _show_whatif, goes=USAGE
    ),
    *LOOKS,
    *LETTERS,
    Command("hotspots", (), Access.LOOK, "where events pile up", show_hotspots),
    Command(
        "traffic",
        (PAGE,),
        Access.LOOK,
        "the traffic around lanes, the slowest first",
        show_traffic,
    ),
    Command(
        "place",
        (Argument("name", Type.WORD, "a name, or LAT,LON", many=True),),
        Access.LOOK,
        "where a place is, or what is at coordinates",
        query_place,
    ),
    Command("history", HISTORY, Access.LOOK, "what happened and who asked for it", query_history),
    Command("follow", (_FEED,), Access.LOOK, "get a feed's items one to one", follow_feed),
    Command(
        "unfollow",
        (replace(_FEED, optional=False),),
        Access.LOOK,
        "stop following a feed",
        unfollow_feed,
    ),
    Command(
        "tune",
        _TUNE,
        Access.LOOK,
        "change a setting at once, for all workers or the planner",
        show_or_tune_setting,
        goes="tune NAME VALUE",
        changes=Access.TUNE,
        looks=1,
    ),
    Command(
        "drain", (NODE,), Access.ACT, "move all lanes away and give it no new ones", _predict_drain
    ),
    Command("resume", (NODE,), Access.ACT, "let a drained node take lanes again", _predict_resume),
    Command("move", (LANE, NODE), Access.ACT, "move one lane", _predict_move),
    Command(
        "rebalance", (), Access.ACT, "move at once the lanes that would gain", _predict_rebalance
    ),
    RESET,
    *ROLLOUTS,
    Command("pause", (), Access.ACT, "stop all moves except orphans and drains", _predict_pause),
    Command("unpause", (), Access.ACT, "end the pause", _predict_unpause),
    ACK,
    Command(
        CONFIRM,
        (_ID,),
        Access.ACT,
        "carry out a dry run, or what somebody else asked for",
        _leave_to_fronts,
    ),
)
COMMANDS: Mapping[str, Command] = {c.name: c for c in _LIST}
_OF_LANES = {"lanes", "lane", "explain", "whatif", "traffic", "dead", "place"}
_OF_A_PERSON = {"help", "follow", "unfollow"}
_GROUPS: tuple[tuple[str, Callable[[Command], bool]], ...] = (
    (
        "See the fleet (member)",
        lambda x: (
            x.access is Access.LOOK and x.name not in _OF_LANES | _OF_A_PERSON | {"tune", "ack"}
        ),
    ),
    ("See lanes and places (member)", lambda x: x.name in _OF_LANES),
    ("For you alone (member)", lambda x: x.name in _OF_A_PERSON),
    ("Act (admin)", lambda x: x.access is Access.ACT or x is ACK),
)
"""How `help` groups the commands, with those that an owner needs at the end."""
