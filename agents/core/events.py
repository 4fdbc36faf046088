"""What the core is told: frozen values, each checked by the shell that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.core.effects import (
    PlanFailed,
    ReleaseRead,
    WriteRefused,
    WriteTaken,
)
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    Accelerator,
    Announcement,
    Telemetry,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.placement import Intent, Lease, Placed, Tuning
from agents.core.model.plan import LanePlaces, RuleWarning, Scored
from agents.core.model.topology import Partition

# ---- What the XMPP shell tells the coordinator's core: who sent it was checked before the event
# was made (PROTOCOL 4).


@dataclass(frozen=True, slots=True)
class Led:
    """We hold the name `geolane@fleet.DOMAIN/leader`; room, feeds and presences follow as
    events."""


@dataclass(frozen=True, slots=True)
class NotLeading:
    """We held the name and do not any more. `reason`: `link_down`, `replaced`, `stepped_down`."""

    reason: str


@dataclass(frozen=True, slots=True)
class LinkUp:
    """There is a session, leading or standing by."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The session is gone; what it told is history (absence is not death now, PROTOCOL 2.10)."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A provisioned worker's presence. `unavailable` comes with an empty boot: it says that the
    session is gone."""

    announcement: Announcement


@dataclass(frozen=True, slots=True)
class TelemetryIn:
    """An item of the feed `telemetry/WORKER`, published by that worker."""

    worker: str
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class QuestionAsked:
    """Somebody said something: in the room (`room`), or one to one.

    `jid` is the bare real JID. `nick` is what the room calls them, empty one to one. `message_id`
    is the message's own id, which a correction names; `replaces` is the id of the message that this
    one corrects (XEP-0308), else None. `stanza_id` is the room's stanza-id, or one to one the
    origin-id: no two events carry the same one."""

    jid: str
    nick: str
    text: str
    room: bool
    stanza_id: str
    replaces: str | None
    message_id: str


@dataclass(frozen=True, slots=True)
class AffiliationChanged:
    """The room changed what `jid` (bare) is: owner, admin, member, or none and outcast."""

    jid: str
    affiliation: str


@dataclass(frozen=True, slots=True)
class Flooded:
    """`sender` (a bare JID, a feed, an occupant) sends more than is read: `count` stanzas of it
    were left out since the last time. `blocked_s`: for how long the server holds back what it
    sends; 0: not."""

    sender: str
    count: int
    blocked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """What `worker` sent is no proper `what` (presence, telemetry), and `why`."""

    worker: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class AdHocList:
    """Somebody's client asks which commands it may give (XEP-0050 2.2). `ref` names the request
    that waits for the answer."""

    ref: str
    jid: str


@dataclass(frozen=True, slots=True)
class AdHoc:
    """Somebody's client gives a command, or goes on with one (XEP-0050 2.3).

    `jid` is the bare JID, `command` its name, `session` empty at the beginning, `action` one of
    execute, next, prev, complete, cancel. `fields`: what was filled in, by the fields' names; empty
    ones may be missing."""

    ref: str
    jid: str
    command: str
    session: str
    action: str
    fields: Mapping[str, str] = field(default_factory=dict)


XmppEvent = (
    Led
    | NotLeading
    | LinkUp
    | LinkDown
    | WorkerSeen
    | TelemetryIn
    | QuestionAsked
    | AffiliationChanged
    | Flooded
    | NotUnderstood
    | AdHocList
    | AdHoc
)

# ---- events ----


@dataclass(frozen=True, slots=True)
class Tick:
    """Once a second. `devices`: the accelerators of the coordinator's own machine."""

    devices: tuple[Accelerator, ...] = ()


@dataclass(frozen=True, slots=True)
class Wake:
    """What `WakeAt` asked for."""


@dataclass(frozen=True, slots=True)
class LeaseMade:
    """InitProducerId of `worker`'s transactional id succeeded, and so whoever had it is fenced.
    `offsets`: the committed offset of each partition asked for, read after the fence; absent where
    nothing was ever committed."""

    worker: str
    new_boot: str
    transactional_id: str
    producer_id: int
    producer_epoch: int
    offsets: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class LeaseFailed:
    """`undecided`: it is fenced, but how its last transaction ended is not known, so nobody may go
    on from there."""

    worker: str
    reason: str
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class PlacementWritten:
    """The transaction over these records is committed."""

    partitions: Mapping[Partition, Placed]
    leases: Mapping[str, Lease]
    intents: Mapping[str, Intent | None]
    tuning: Tuning | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """`worker` has obeyed `command`."""

    worker: str
    command: WorkerCommand
    answer: WorkerAnswer


@dataclass(frozen=True, slots=True)
class CommandWasRefused:
    """`worker` has refused `command`; `seen` is the higher epoch that it knows, when that was the
    reason."""

    worker: str
    command: WorkerCommand
    condition: str
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class CommandUnanswered:
    """Nothing came back in time, or there was no connection."""

    worker: str
    command: WorkerCommand


@dataclass(frozen=True, slots=True)
class Ponged:
    """The outcome of a ping."""

    worker: str
    alive: bool


@dataclass(frozen=True, slots=True)
class OffsetsRead:
    """Committed offsets, as asked by ReadOffsets."""

    offsets: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class AffiliationsRead:
    """All that the room knows: bare JID -> owner, admin, member."""

    affiliations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QueryFinished:
    """The outcome of the Errand of that `ref`: what was found, or in words why not."""

    ref: str
    result: object = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class InventoryRead:
    """The inventory's file is another, and in order. `places`: the lanes as its rules and
    priorities bind them; `warnings`: what people should know of the rules."""

    inventory: Inventory
    places: LanePlaces
    warnings: tuple[RuleWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class InventoryRefused:
    """The inventory's file `origin` is another, and `why` it cannot be taken up."""

    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class KafkaDown:
    """The rewriting of `leader` fails."""


@dataclass(frozen=True, slots=True)
class KafkaUp:
    """It succeeds again, or for the first time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a PlanWanted, which its moment tells."""

    scored: Scored


CoreEvent = (
    Tick
    | Wake
    | LeaseMade
    | LeaseFailed
    | PlacementWritten
    | WriteRefused
    | WriteTaken
    | Answered
    | CommandWasRefused
    | CommandUnanswered
    | Ponged
    | OffsetsRead
    | ReleaseRead
    | AffiliationsRead
    | QueryFinished
    | InventoryRead
    | InventoryRefused
    | KafkaDown
    | KafkaUp
    | Planned
    | PlanFailed
)
