"""What an operator command is, as values: who may, what it may look at, and what it answers with
(commands.py has the list).

What looks answers with text. What changes answers with a `Dry` run: its predicted effect, and how
to do it once confirmed. What concerns the asker alone is `Done` at once. What has to be looked up
outside the core first answers with `Fetch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from agents.core.effects import Effect, Write
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.incidents import News
from agents.core.fleet.placing import Placing
from agents.core.fleet.queries import PendingQueries
from agents.core.fleet.rewinds import Rewinds
from agents.core.fleet.rollout import Rollout
from agents.core.fleet.tuner import Tuner
from agents.core.model.placement import drain_intent
from agents.core.model.topology import LANES, Partition
from agents.core.operators import look
from agents.core.operators.arguments import Argument


class Access(IntEnum):
    """By the real JID's affiliation in the ops room: member looks, admin acts, owner tunes."""

    NONE = 0
    LOOK = 1
    ACT = 2
    TUNE = 3

    @classmethod
    def of(cls, affiliation: str) -> Access:
        return {"member": cls.LOOK, "admin": cls.ACT, "owner": cls.TUNE}.get(affiliation, cls.NONE)


@dataclass(frozen=True, slots=True)
class Remembered:
    """One line of `history`: epoch ms, who (empty: the coordinator itself), what."""

    ms: int
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """What a command may look at. `jid` is the asker's bare JID, `nick` how the answer addresses
    them. `errands`: where what is done outside the core is begun; `tuner`, `rewinds`, `rollout`:
    what goes on after a command was confirmed. `commanding`: whether anything may be changed now.
    `access`: what they may do.

    `chat`: the answer is read in a chat, maybe on a phone: short tables, and how to ask on."""

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
    access: Access = Access.LOOK
    chat: bool = True
    commanding: bool = True

    @property
    def rows(self) -> int:
        """Of a table."""
        return look.ROWS if self.chat else look.ROWS_ELSEWHERE


@dataclass(frozen=True, slots=True)
class Dry:
    """`text` is the predicted effect; `act` does it, and is called with the context of the
    confirmation. `lanes`, `nodes` (accounts): what it is about, so that `history` finds it, and
    what the prediction rests on; `rests`: what else it does."""

    title: str
    text: str
    act: Callable[[Context], Iterator[Effect]]
    lanes: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    rests: Callable[[Context], object] = lambda c: None

    def rests_on(self, c: Context) -> object:
        """What must be the same when it is confirmed: where its lanes are, else what its nodes
        have, and whether they are the same processes. What others do, and health that comes and
        goes, void nothing: `act` checks what it needs of them."""
        fleet = c.fleet
        lanes = [fleet.partitions.get(Partition(LANES, n)) for n in self.lanes]
        where = [(s.worker, s.epoch, s.state) if s else None for s in lanes]
        nodes = [] if self.lanes else [_holding(fleet, worker) for worker in self.nodes]
        return where, nodes, self.rests(c)


def _holding(fleet: Fleet, worker: str) -> object:
    view = fleet.views.get(worker)
    if view is None:
        return None
    owned = [
        (p, fleet.partitions[p].epoch, fleet.partitions[p].state) for p in fleet.owned_by(worker)
    ]
    return view.present, view.boot, drain_intent(worker) in fleet.intents, owned


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to predict, since it concerns nobody but the asker: `text` is said once `write` is
    committed."""

    text: str
    write: Write


@dataclass(frozen=True, slots=True)
class Fetch:
    """`what` is for the shell to find (agents/coordinator/queries.py); `answer` then takes it, with
    the context of that moment."""

    what: object
    answer: Callable[[Context, object], Result]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that was put where people's clients can have it, and what it shows in words."""

    url: str
    text: str


Result = str | Dry | Done | Fetch | Image


@dataclass(frozen=True, slots=True)
class Command:
    """`run` takes the words after the name. `chat_only`: it makes sense in a conversation alone.
    `goes`: how it is written, where that is more than its arguments. `figures`: what the answer
    says in numbers, for programs.

    `changes`: what it takes to give it with more than `looks` words; with fewer it only looks
    (None: `access` always)."""

    name: str
    args: tuple[Argument, ...]
    access: Access
    help: str
    run: Callable[[Context, Sequence[str]], Result]
    chat_only: bool = False
    goes: str = ""
    figures: Callable[[Context], Mapping[str, str]] | None = None
    changes: Access | None = None
    looks: int = 0

    @property
    def usage(self) -> str:
        return " ".join((self.name, *(a.usage for a in self.args)))

    @property
    def brief(self) -> str:
        """Usage for a list of many, of what it looks at: without filters."""
        args = self.args if self.changes is None else self.args[: self.looks]
        return " ".join((self.name, *(a.usage for a in args if not a.keyed)))

    @property
    def most(self) -> Access:
        """What it takes to do all that it can."""
        return self.changes or self.access

    def needs(self, words: int) -> Access:
        """What it takes to give it with so many words."""
        return self.changes if self.changes is not None and words > self.looks else self.access

    @property
    def asks(self) -> bool:
        """Whether it cannot be run without arguments."""
        return any(not a.optional for a in self.args)
