"""The core's input: frozen events, each checked by the shell that made it (who sent an XMPP event
is checked before the event exists, PROTOCOL 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agents.core.model.geo import GeoAnswer, GeoCommand
from agents.core.model.hotspots import Hotspot
from agents.core.model.inventory import Inventory
from agents.core.model.messages import (
    Accelerator,
    Announcement,
    ReleaseCommand,
    Telemetry,
    WorkerAnswer,
    WorkerCommand,
)
from agents.core.model.placement import Intent, Lease, Placed, Tuning
from agents.core.model.topology import Partition

if TYPE_CHECKING:  # a plan needs NumPy, which workers do not load
    from agents.core.model.plan import LanePlaces, Moment, RuleWarning, Scored


@dataclass(frozen=True, slots=True)
class Now:
    """When an event is handled. `s`: monotonic seconds. `ms`: Kafka's clock in epoch milliseconds,
    as far as it is known; it is shown, and chooses offsets by time."""

    s: float
    ms: int


# ---- from XMPP ----


@dataclass(frozen=True, slots=True)
class Led:
    """We hold the address `geolane@fleet.DOMAIN/leader`. Room, feeds and presences follow as
    events."""


@dataclass(frozen=True, slots=True)
class NotLeading:
    """We no longer hold the leader's address. `reason`: `link_down`, `replaced`,
    `stepped_down`."""

    reason: str


@dataclass(frozen=True, slots=True)
class LinkUp:
    """There is an XMPP session, as leader or as standby."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The XMPP session is gone, and with it all we knew of presences. A worker's absence does not
    mean that it is dead (PROTOCOL 2.10)."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A provisioned worker's presence. An `unavailable` has an empty boot: only the session is
    known to be gone."""

    announcement: Announcement


@dataclass(frozen=True, slots=True)
class TelemetryIn:
    """An item of the feed `telemetry/WORKER`, published by that worker."""

    worker: str
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class QuestionAsked:
    """A chat message, in the room (`room`) or one to one.

    `jid`: the sender's bare real JID. `nick`: the sender's name in the room, empty one to one.
    `message_id`: the message's own id, which a correction names. `replaces`: the id of the message
    that this one corrects (XEP-0308), else None. `stanza_id`: the room's stanza-id, or one to one
    the origin-id; unique among events."""

    jid: str
    nick: str
    text: str
    room: bool
    stanza_id: str
    replaces: str | None
    message_id: str


@dataclass(frozen=True, slots=True)
class Reacted:
    """Somebody in the room (`jid`: bare real JID) reacted (XEP-0444) to a message of ours that told
    of the troubles `about` (Say)."""

    jid: str
    about: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AffiliationChanged:
    """The room has changed the affiliation of `jid` (bare): owner, admin, member, none or
    outcast."""

    jid: str
    affiliation: str


@dataclass(frozen=True, slots=True)
class Flooded:
    """`sender` (a bare JID, a feed, an occupant) sends more than we read: `count` of its stanzas
    were dropped since the last report. `blocked_s`: for how long the server holds back its stanzas;
    0: it does not."""

    sender: str
    count: int
    blocked_s: float = 0.0


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """`worker` sent something that is not a valid `what` (presence, telemetry); `why` says what is
    wrong with it."""

    worker: str
    what: str
    why: str


@dataclass(frozen=True, slots=True)
class AdHocList:
    """A client asks which commands its user may give (XEP-0050 2.2). `ref` names the request that
    waits for the answer."""

    ref: str
    jid: str


@dataclass(frozen=True, slots=True)
class AdHoc:
    """A client begins a command, or continues one (XEP-0050 2.3).

    `jid`: the user's bare JID. `command`: the command's name. `session`: empty at the beginning.
    `action`: execute, next, prev, complete or cancel. `fields`: the values filled in, by field
    name; empty ones may be missing."""

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
    | Reacted
    | AffiliationChanged
    | Flooded
    | NotUnderstood
    | AdHocList
    | AdHoc
)

# ---- from Kafka, the clock and the shells' own work ----


@dataclass(frozen=True, slots=True)
class WriteRefused:
    """The topic `placement` refuses a write; `why` is for people. Nothing of it is committed. The
    performer tries again every second, and all other Kafka effects wait behind it."""

    why: str


@dataclass(frozen=True, slots=True)
class WriteTaken:
    """The topic `placement` accepts writes again; the refused one is committed."""


@dataclass(frozen=True, slots=True)
class ReleaseRead:
    """Kafka's offsets of the partitions that `worker` says it released, read after its answer: the
    committed offset (absent where nothing is committed) and the log's end. `error`: why they could
    not be read."""

    worker: str
    command: ReleaseCommand
    answer: WorkerAnswer
    committed: Mapping[Partition, int] = field(default_factory=dict)
    ends: Mapping[Partition, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class PlanFailed:
    """The plan that a PlanWanted asked for could not be made."""

    moment: Moment
    error: Exception


@dataclass(frozen=True, slots=True)
class Tick:
    """Once a second. `devices`: the accelerators of the coordinator's own machine. `ahead_s`: how
    far its clock is ahead of Kafka's. `journal_fault`: why its journal cannot be written; empty if
    it can."""

    devices: tuple[Accelerator, ...] = ()
    ahead_s: float = 0.0
    journal_fault: str = ""


@dataclass(frozen=True, slots=True)
class Wake:
    """The time that `WakeAt` asked for has come."""


@dataclass(frozen=True, slots=True)
class LeaseMade:
    """InitProducerId of `worker`'s transactional id succeeded, so its former holder is fenced.
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
    """No lease was made for `worker`. `undecided`: the worker is fenced, but the outcome of its
    last transaction is unknown, so no other worker may continue from there. `refused`: Kafka
    refuses it, for example since the coordinator lacks the right."""

    worker: str
    reason: str
    undecided: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True)
class PlacementWritten:
    """The transaction that wrote these records to `placement` is committed. An intent of None is
    deleted."""

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
    """`worker` has refused `command`. `seen`: the higher epoch that it knows, if that was the
    reason."""

    worker: str
    command: WorkerCommand
    condition: str
    seen: int | None = None


@dataclass(frozen=True, slots=True)
class CommandUnanswered:
    """No answer came in time, or there was no connection."""

    worker: str
    command: WorkerCommand


@dataclass(frozen=True, slots=True)
class GeoAnswered:
    """The outcome of an AskGeo: an `answer`, or None and `why` there is none, for people."""

    worker: str
    command: GeoCommand
    answer: GeoAnswer | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Ponged:
    """The outcome of a ping. `alive`: None if nothing is known, since the server did not answer us
    either."""

    worker: str
    alive: bool | None


@dataclass(frozen=True, slots=True)
class OffsetsRead:
    """The committed offsets that ReadOffsets asked for."""

    offsets: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class AffiliationsRead:
    """All affiliations of the room: bare JID -> owner, admin, member."""

    affiliations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QueryFinished:
    """The outcome of the Errand `ref`: its `result`, or an `error` for people."""

    ref: str
    result: object = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class InventoryRead:
    """The inventory file has changed and is valid. `places`: the lanes with its rules and
    priorities. `warnings`: what people should know about its rules."""

    inventory: Inventory
    places: LanePlaces
    warnings: tuple[RuleWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class InventoryRefused:
    """The inventory file `origin` has changed and cannot be used; `why` says why."""

    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class KafkaDown:
    """Writing the record `leader` again has failed."""


@dataclass(frozen=True, slots=True)
class KafkaUp:
    """Writing the record `leader` has succeeded again, or for the first time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan that a PlanWanted asked for; `scored.moment` is that request's."""

    scored: Scored


@dataclass(frozen=True, slots=True)
class HotspotChange:
    """A record of the topic `hotspots`, appended at `appended_ms` (the broker's clock), `age_s`
    before it was read."""

    hotspot: Hotspot
    appended_ms: int
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HotspotsRead:
    """Records of the topic `hotspots`, in order. `past`: they were there before this leader began
    to read; the first event that is not `past` says that all of these were read. `skipped`: how
    many records among them are not valid."""

    changes: tuple[HotspotChange, ...] = ()
    past: bool = False
    skipped: int = 0


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
    | GeoAnswered
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
    | HotspotsRead
)
