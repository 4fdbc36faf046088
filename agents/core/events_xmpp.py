"""What the XMPP shell tells the coordinator's core: who sent it was checked before the event was made (PROTOCOL 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from agents.core.model import Announcement, Telemetry


@dataclass(frozen=True, slots=True)
class Led:
    """We hold the name `geolane@fleet.DOMAIN/leader`; room, feeds and presences follow as events."""


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
    """A provisioned worker's presence. `unavailable` comes with an empty boot: it says that the session is gone."""

    announcement: Announcement


@dataclass(frozen=True, slots=True)
class TelemetryIn:
    """An item of the feed `telemetry/WORKER`, published by that worker."""

    worker: str
    telemetry: Telemetry


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody said something: in the room (`room`), or one to one.

    `jid` is the bare real JID. `nick` is what the room calls them, empty one to one. `message_id` is the message's own
    id, which a correction names; `replaces` is the id of the message that this one corrects (XEP-0308), else None.
    `stanza_id` is the room's stanza-id, or one to one the origin-id: no two events carry the same one."""

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
    """`sender` (a bare JID, a feed, an occupant) sends more than is read: `count` stanzas of it were left out since the last
    time. `blocked_s`: for how long the server holds back what it sends; 0: not."""

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
    """Somebody's client asks which commands it may give (XEP-0050 2.2). `ref` names the request that waits for the answer."""

    ref: str
    jid: str


@dataclass(frozen=True, slots=True)
class AdHoc:
    """Somebody's client gives a command, or goes on with one (XEP-0050 2.3).

    `jid` is the bare JID, `command` its name, `session` empty at the beginning, `action` one of execute, next, prev,
    complete, cancel. `fields`: what was filled in, by the fields' names; empty ones may be missing."""

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
    | Asked
    | AffiliationChanged
    | Flooded
    | NotUnderstood
    | AdHocList
    | AdHoc
)
