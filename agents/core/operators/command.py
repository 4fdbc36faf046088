"""Operator commands as values: who may give them, what they may read, and what they return
(registry.py has the list).

A command that only reads returns an `Answer`: text, and the same figures for programs. One that
changes something returns a `Dry` run: its predicted effect, and how to do it once confirmed. One
that concerns only the person who asks returns `Done`. One that first needs something from outside
the core returns `Fetch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from agents.core.effects import Effect, Reply, Write
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.geo_questions import GeoQuestions
from agents.core.fleet.hotspots import Hotspots
from agents.core.fleet.incidents import News
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.placing import Placing
from agents.core.fleet.queries import PendingQueries
from agents.core.fleet.rewinds import Rewinds
from agents.core.fleet.rollout import Rollout
from agents.core.fleet.tuner import Tuner
from agents.core.model.answers import Affiliation, Answer
from agents.core.model.feeds import MoveItem
from agents.core.model.placement import drain_intent
from agents.core.model.topology import WorkerKind
from agents.core.operators import tables
from agents.core.operators.arguments import Argument


class Access(IntEnum):
    """What a person may do, by the affiliation of the real JID in the ops room: a member looks, an
    admin also acts, an owner also tunes."""

    NONE = 0
    LOOK = 1
    ACT = 2
    TUNE = 3

    @property
    def affiliation(self) -> Affiliation:
        """The least affiliation that has it; everybody else may do nothing."""
        return "owner" if self is self.TUNE else "admin" if self is self.ACT else "member"

    @classmethod
    def from_affiliation(cls, affiliation: str) -> Access:
        return {"member": cls.LOOK, "admin": cls.ACT, "owner": cls.TUNE}.get(affiliation, cls.NONE)


@dataclass(frozen=True, slots=True)
class Remembered:
    """One line of `history`. `ms`: epoch ms. `who`: a bare JID, empty for the coordinator. `kind`:
    `action`, `decision`, `alert` or `hotspot`."""

    ms: int
    who: str
    text: str
    kind: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a command may read. `jid`: the person's bare JID. `nick`: how the answer addresses the
    person. `errands`: begins queries outside the core. `tuner`, `rewinds`, `rollout`: carry on
    after a command was confirmed. `access`: what the person may do. `commanding`: whether anything
    may be changed now. `chat`: the answer is read in a chat, perhaps on a phone, so tables are
    short and say how to see more. `prefix`: begins a command there (`!` in the room). `address`:
    ours, for messages one to one. `reply`: the message in the room that asked."""

    fleet: Fleet
    placing: Placing
    news: News
    jid: str
    nick: str
    now: float
    now_ms: int
    errands: PendingQueries
    tuner: Tuner
    rewinds: Rewinds
    rollout: Rollout
    hotspots: Hotspots
    paths: MeasuredPaths
    geo: GeoQuestions
    access: Access = Access.LOOK
    chat: bool = True
    commanding: bool = True
    prefix: str = ""
    address: str = ""
    reply: Reply | None = None

    @property
    def domain(self) -> str:
        """The fleet's name: the domain of its people; empty if it is not known."""
        return self.address.rpartition("@")[2].removeprefix("fleet.")

    @property
    def rows(self) -> int:
        """The rows of a table."""
        return tables.ROWS if self.chat else tables.ROWS_ELSEWHERE

    @property
    def entries(self) -> int:
        """The entries of a list of sentences."""
        return tables.ENTRIES if self.chat else tables.ROWS_ELSEWHERE


@dataclass(frozen=True, slots=True)
class Dry:
    """A change that waits to be confirmed. `text`: the predicted effect. `act`: does it; it gets
    the context of the confirmation. `lanes`, `nodes` (accounts): what it is about, for `history`,
    and what the prediction rests on. `rests`: what else the prediction rests on. `moves`: the lanes
    that it would move, for those who draw them. `only_stops`: it ends something, so it never needs
    a second person."""

    title: str
    text: str
    act: Callable[[Context], Iterator[Effect]]
    lanes: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    rests: Callable[[Context], object] = lambda c: None
    moves: tuple[MoveItem, ...] = ()
    only_stops: bool = False

    def rests_on(self, c: Context) -> object:
        """A value that must be the same at the confirmation: where its lanes are; without lanes,
        what its nodes own and whether they are the same processes. Other workers and changes of
        health do not void it: `act` checks what it needs of them."""
        fleet = c.fleet
        lanes = [fleet.partitions.get(WorkerKind.NODE.partition(n)) for n in self.lanes]
        where = [(s.worker, s.epoch, s.state) if s else None for s in lanes]
        nodes = [] if self.lanes else [_holdings_of_worker(fleet, worker) for worker in self.nodes]
        return where, nodes, self.rests(c)


def _holdings_of_worker(fleet: Fleet, worker: str) -> object:
    view = fleet.views.get(worker)
    if view is None:
        return None
    owned = [
        (p, fleet.partitions[p].epoch, fleet.partitions[p].state) for p in fleet.owned_by(worker)
    ]
    return view.present, view.boot, drain_intent(worker) in fleet.intents, owned


@dataclass(frozen=True, slots=True)
class Done:
    """A change without a dry run, since it concerns only the person who asks. The answer is given
    once `write` is committed."""

    answer: Answer
    write: Write


@dataclass(frozen=True, slots=True)
class Fetch:
    """A query for the shell (agents/coordinator/queries.py). `answer` gets its result, with the
    context of that moment. `slow`: said in a chat if it takes longer than 2 s."""

    what: object
    answer: Callable[[Context, object], Result]
    slow: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """A picture at an address that people's clients can load, and what it shows."""

    url: str
    answer: Answer


Result = Answer | Dry | Done | Fetch | Image


@dataclass(frozen=True, slots=True)
class Command:
    """One command. `run`: gets the words after the name. `goes`: its usage, if that is more than
    its arguments. `changes`: the access that it needs with more than `looks` words; with fewer it
    only looks (None: always `access`). `may_change`: some of its words change something, which it
    checks itself."""

    name: str
    args: tuple[Argument, ...]
    access: Access
    help: str
    run: Callable[[Context, Sequence[str]], Result]
    goes: str = ""
    changes: Access | None = None
    may_change: bool = False
    looks: int = 0

    @property
    def usage(self) -> str:
        return " ".join((self.name, *(a.usage for a in self.args)))

    @property
    def brief_usage(self) -> str:
        """The usage in a list of commands: only the words that look, without filters."""
        args = self.args if self.changes is None else self.args[: self.looks]
        return " ".join((self.name, *(a.usage for a in args if not a.keyed)))

    @property
    def brief_help(self) -> str:
        """Its help in a list of commands: up to the first `;` or `:`."""
        return self.help.partition(";")[0].partition(":")[0]

    @property
    def highest_access(self) -> Access:
        """The access that its most powerful form needs."""
        return self.changes or self.access

    def access_for(self, words: int) -> Access:
        """The access that it needs with this number of words."""
        return self.changes if self.changes is not None and words > self.looks else self.access

    @property
    def needs_arguments(self) -> bool:
        """Whether it needs arguments."""
        return any(not a.optional for a in self.args)
