"""The core's output: effects as values.

The performer performs effects of one kind in the order given and reports each outcome as an event
(events.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.core.model import forms
from agents.core.model.charts import Sample
from agents.core.model.feeds import FeedItem
from agents.core.model.geo import GeoCommand
from agents.core.model.messages import ReleaseCommand, WorkerAnswer, WorkerCommand
from agents.core.model.placement import Intent, Lease, Placed, Tuning
from agents.core.model.plan import Decided, Moment, PlanningFrame
from agents.core.model.topology import Partition


@dataclass(frozen=True, slots=True)
class MakeLease:
    """Call InitProducerId for `worker`'s transactional id, then read the committed offsets of
    `partitions`. This call is the fence. `new_boot`: the boot that gets the new lease, empty for
    none. LeaseMade or LeaseFailed follows."""

    worker: str
    new_boot: str
    transactional_id: str
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """Commit these records to `placement` in one transaction; an intent of None is deleted.
    PlacementWritten follows.

    `then`: effects to perform once the records are committed, since nothing may be said before
    (PROTOCOL 2.3). `offsets`: the offset and metadata to commit for the partition's consumer group
    in the same transaction; only for partitions that nobody owns (core/fleet/rewinds.py)."""

    partitions: Mapping[Partition, Placed] = field(default_factory=dict)
    leases: Mapping[str, Lease] = field(default_factory=dict)
    intents: Mapping[str, Intent | None] = field(default_factory=dict)
    then: tuple[Effect, ...] = ()
    tuning: Tuning | None = None
    offsets: Mapping[Partition, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    """Send a command. Answered, CommandWasRefused or CommandUnanswered follows."""

    worker: str
    command: WorkerCommand


@dataclass(frozen=True, slots=True)
class AskGeo:
    """Ask a geo worker. GeoAnswered follows. As the `what` of an Errand, QueryFinished follows
    instead, with the GeoAnswer as its result."""

    worker: str
    command: GeoCommand


@dataclass(frozen=True, slots=True)
class Ping:
    """Ping a worker. Ponged follows."""

    worker: str


@dataclass(frozen=True, slots=True)
class ReadOffsets:
    """Read the committed offsets. OffsetsRead follows."""

    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class ReadRelease:
    """Read from Kafka the offsets that `worker` gave in its `answer`. ReleaseRead follows."""

    worker: str
    command: ReleaseCommand
    answer: WorkerAnswer


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish an item on its operator feed."""

    item: FeedItem


@dataclass(frozen=True, slots=True)
class Reply:
    """A message in the room that is replied to (XEP-0461): the nick of its sender, and the id that
    the room gave it."""

    nick: str
    id: str


@dataclass(frozen=True, slots=True)
class Say:
    """Write to the room. Effects with the same `thread`, if not empty, correct the first one's
    message (XEP-0308). `reply`: the message that this one replies to.
    `about`: ids of the troubles that it tells; a reaction to it acknowledges them."""

    text: str
    thread: str = ""
    reply: Reply | None = None
    about: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Whisper:
    """Write to one person (bare JID), one to one."""

    jid: str
    text: str


@dataclass(frozen=True, slots=True)
class Show:
    """Show the picture at `url`: in the room, or to one person (`jid`, bare)."""

    url: str
    jid: str = ""


@dataclass(frozen=True, slots=True)
class Sampled:
    """Write one moment of the fleet, in numbers, to the journal."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class AnswerAdHoc:
    """Answer the AdHoc or AdHocList of that `ref`."""

    ref: str
    answer: forms.FormAnswer


@dataclass(frozen=True, slots=True)
class Errand:
    """Look something up, or do it, outside the core. `what`: one of the values that
    agents/coordinator/queries.py knows. QueryFinished with the same `ref` follows; one that comes
    too late is ignored."""

    ref: str
    what: object


@dataclass(frozen=True, slots=True)
class Subject:
    """Set the room's subject."""

    text: str


@dataclass(frozen=True, slots=True)
class MirrorAffiliations:
    """Let exactly the people with an affiliation in the room read the operator feeds; everybody
    else loses the subscription."""

    affiliations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Note:
    """Write one row to the journal. `kind`: decision, action, alert, hotspot or fleet. `data`:
    values that JSON can hold."""

    kind: str
    who: str
    text: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """Log an error of ours that the guard has caught. `name`: as people were told it (`fault
    3f2a`). `what`: one of guard.FAULTS. `who`: the sender, empty if there is none. `event`: the
    event that was handled. `story`: the traceback."""

    name: str
    what: str
    who: str
    event: str
    story: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Ask for a Wake `after_s` seconds from now; an earlier one that was asked for is kept."""

    after_s: float


@dataclass(frozen=True, slots=True)
class PlanWanted:
    """Make this plan (planner.make_scored_plan) in a thread of its own; Planned or PlanFailed
    follows. A plan that has not begun when the next is wanted may be skipped."""

    frame: PlanningFrame
    moment: Moment


Effect = (
    MakeLease
    | Write
    | Send
    | AskGeo
    | Ping
    | ReadOffsets
    | ReadRelease
    | Publish
    | Say
    | Whisper
    | Show
    | Sampled
    | AnswerAdHoc
    | Errand
    | Subject
    | MirrorAffiliations
    | Note
    | Fault
    | WakeAt
    | PlanWanted
    | Decided
)
