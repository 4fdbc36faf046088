"""What the coordinator's core is told (events) and what it wants done (effects). Values only.

The shell performs effects of one kind in the order given and tells the outcome as an event; XMPP's
own events are in events_xmpp.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.core.model import forms
from agents.core.model.charts import Sample
from agents.core.model.feeds import FeedItem
from agents.core.model.messages import ReleaseCommand, WorkerAnswer, WorkerCommand
from agents.core.model.placement import Intent, Lease, Placed, Tuning
from agents.core.model.plan import Decided, Moment, PlanningFrame
from agents.core.model.topology import Partition


@dataclass(frozen=True, slots=True)
class WriteRefused:
    """The topic `placement` refuses what is to be written, `why` in words. Nothing of it is
    committed; it is tried again every second, and all that is to be done in Kafka waits behind
    it."""

    why: str


@dataclass(frozen=True, slots=True)
class WriteTaken:
    """It takes it again; what was refused is committed."""


@dataclass(frozen=True, slots=True)
class ReleaseRead:
    """What Kafka says of the partitions that `worker` answers to have released, read after the
    answer: the committed offset (absent where nothing is) and the log's end. `error`: in words why
    it could not be read."""

    worker: str
    command: ReleaseCommand
    answer: WorkerAnswer
    committed: Mapping[Partition, int] = field(default_factory=dict)
    ends: Mapping[Partition, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class PlanFailed:
    """The plan of a PlanWanted with that moment was not made."""

    moment: Moment
    error: Exception


# ---- effects ----


@dataclass(frozen=True, slots=True)
class MakeLease:
    """Call InitProducerId for `worker`'s transactional id, then read the committed offsets of
    `partitions`. This is the fence; `new_boot` is whom the new lease is for, empty when it is for
    nobody."""

    worker: str
    new_boot: str
    transactional_id: str
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class Write:
    """Commit these records to `placement` in one transaction; an intent of None is deleted. `then`:
    to be performed once they are committed, since only then may what they say be said (PROTOCOL
    2.3).

    `offsets`: in the same transaction, what the partition's consumer group is to have committed,
    and its metadata: for partitions that nobody owns (core/fleet/rewinds.py)."""

    partitions: Mapping[Partition, Placed] = field(default_factory=dict)
    leases: Mapping[str, Lease] = field(default_factory=dict)
    intents: Mapping[str, Intent | None] = field(default_factory=dict)
    then: tuple[Effect, ...] = ()
    tuning: Tuning | None = None
    offsets: Mapping[Partition, tuple[int, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Send:
    worker: str
    command: WorkerCommand


@dataclass(frozen=True, slots=True)
class Ping:
    worker: str


@dataclass(frozen=True, slots=True)
class ReadOffsets:
    partitions: tuple[Partition, ...]


@dataclass(frozen=True, slots=True)
class ReadRelease:
    """Ask Kafka about the offsets that `worker` answers; ReleaseRead follows."""

    worker: str
    command: ReleaseCommand
    answer: WorkerAnswer


@dataclass(frozen=True, slots=True)
class Publish:
    item: FeedItem


@dataclass(frozen=True, slots=True)
class Say:
    """To the room. Effects with the same non-empty `thread` correct the first one's message
    (XEP-0308)."""

    text: str
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Whisper:
    """To one person, one to one."""

    jid: str
    text: str


@dataclass(frozen=True, slots=True)
class Show:
    """A link that is shown as the picture it leads to: to the room, or to one person (`jid`,
    bare)."""

    url: str
    jid: str = ""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One moment of the fleet in numbers, for the journal."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class AnswerAdHoc:
    """The answer to the AdHoc or AdHocList with that `ref`."""

    ref: str
    answer: forms.FormAnswer


@dataclass(frozen=True, slots=True)
class Errand:
    """To be looked up, or done, outside the core: `what` is one of the values that
    agents/coordinator/queries.py knows. Found with the same `ref` follows, unless it takes too
    long."""

    ref: str
    what: object


@dataclass(frozen=True, slots=True)
class Subject:
    text: str


@dataclass(frozen=True, slots=True)
class MirrorAffiliations:
    """Let exactly those read the operator feeds whom the room knows; anybody else loses the
    subscription."""

    affiliations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Note:
    """One row of the journal: `kind` is decision, action, alert or fleet; `data` is JSON-ready."""

    kind: str
    who: str
    text: str
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Fault:
    """Something of ours failed at what `who` asked or said, and we go on: for the log. `name` is
    what people were told (`fault 3f2a`), `what` a word for where it was, `event` what was to be
    done, `story` the traceback."""

    name: str
    what: str
    who: str
    event: str
    story: str


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Ask for a Wake `after_s` seconds from now; an earlier one asked for stands."""

    after_s: float


@dataclass(frozen=True, slots=True)
class PlanWanted:
    """Make this plan (planner.score), beside everything else; Planned follows. One that is not yet
    begun when the next is wanted need not be made."""

    frame: PlanningFrame
    moment: Moment


Effect = (
    MakeLease
    | Write
    | Send
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
