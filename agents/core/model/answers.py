"""What operator commands answer to programs: one typed value for each command, the same figures as
its text. `geolane ctl --json` prints it as `data`; `geolane json-schema` prints what each value
has (docs/json-schema.json; agents/cli/json_schema.py gathers what other commands print).

A name carries its unit. None is what is not known. `load`: a share of the capacity, 1 is all of
it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from agents.core.model.charts import Dot, Ring
from agents.core.model.feeds import LaneTrafficRow, Severity, TroubleRow
from agents.core.model.hotspots import HotspotState
from agents.core.model.messages import Accelerator
from agents.core.model.places import Place, Precision

LISTED_AT_MOST = 500
"""Rows of a list without pages, so that an answer fits a stanza."""
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""Printed as RFC 3339."""


class _Data(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class BusiestNode(msgspec.Struct, frozen=True):
    """The node with the highest load, by what it reports to process now."""

    node: str
    load: float


class PlanFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The last plan. `rtt_basis`: how the RTTs to Kafka are known, and how often an event waits for
    them. `busiest_load`: of the forecast, once the plan is carried out. `gap`: by how much its cost
    is above the lowest possible one, as a share. `moves_left`: lanes that are not where they would
    cost least."""

    mean_rtt_ms: float
    rtt_basis: str
    busiest_load: float
    gap: float
    moves_left: int
    took_ms: float


FleetState = Literal["calm", "working", "trouble", "paused"]


class StatusData(_Data, frozen=True, kw_only=True, tag="status"):
    """`status`. `p50_ms`, `p99_ms`: of the slowest lane."""

    state: FleetState
    nodes: int
    nodes_available: int
    routers: int
    lanes: int
    lanes_assigned: int
    lanes_moving: int
    lanes_orphaned: int
    rate_eps: float
    arrival_eps: float
    lag_events: int
    p50_ms: float
    p99_ms: float
    paused: bool
    leader_epoch: int
    busiest: BusiestNode | None
    plan: PlanFigures | None
    troubles: tuple[TroubleRow, ...]


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A worker. `worker`: its account; `name`: as people call it. `state`: ok, full, sick,
    starting, draining, drained or gone. `partitions`: how many it has. `farthest_broker_ms`: the
    longest round trip to one of Kafka's brokers."""

    worker: str
    name: str
    kind: str
    site: str
    region: str
    state: str
    partitions: int
    rate_eps: float
    capacity_eps: float
    load: float
    farthest_broker_ms: float | None


class NodesData(_Data, frozen=True, kw_only=True, tag="nodes"):
    """`nodes`: one page of all workers, those in trouble first. `ok`: how many of `total` are."""

    page: int
    pages: int
    total: int
    ok: int
    rows: tuple[WorkerFigures, ...]


class BrokerRtt(msgspec.Struct, frozen=True, kw_only=True):
    """The round trip from a worker to a Kafka broker: the median of its last `probes` probes, the
    newest of which was made `age_s` ago."""

    broker: int
    rtt_ms: float
    probes: int
    age_s: float


class PartitionFault(msgspec.Struct, frozen=True):
    """Why a worker's partition has stopped or is held up, as the worker reports it."""

    partition: int
    fault: str


class NodeData(WorkerFigures, frozen=True, kw_only=True, tag_field="type", tag="node"):
    """`node`. `inventory_capacity_eps`: before the worker's own limit. `topic`, `owned`: the
    partitions that it has. `cpu_cores`, `memory_mb`: of its process. `silent_s`: how long ago it
    was last heard. `engine`: what shares out its partitions. `pipeline`: MODULE:FUNCTION@VERSION of
    a node. `says`: its own words about its health."""

    inventory_capacity_eps: float
    topic: str
    owned: tuple[int, ...]
    faults: tuple[PartitionFault, ...]
    cpu_cores: float | None
    memory_mb: float | None
    silent_s: float | None
    brokers: tuple[BrokerRtt, ...]
    accelerators: tuple[Accelerator, ...]
    engine: str
    pipeline: str | None
    says: str


class LaneFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A lane. `node`: its owner. `fault`: why it has stopped or is held up; empty if it works."""

    lane: int
    state: Literal["assigned", "releasing", "orphan"]
    node: str | None
    epoch: int
    rate_eps: float | None
    lag_events: int | None
    p50_ms: float | None
    p99_ms: float | None
    fault: str


class LanesData(_Data, frozen=True, kw_only=True, tag="lanes"):
    """`lanes`: one page of all lanes, the largest lag first. `placed`: how many of the `total` have
    an owner that works them."""

    page: int
    pages: int
    total: int
    placed: int
    rows: tuple[LaneFigures, ...]


class RaisedForecast(msgspec.Struct, frozen=True):
    """By how much a hotspot raises the forecast of a lane's rate, and the hotspot's place."""

    times: float
    place: str


class LaneData(LaneFigures, frozen=True, kw_only=True, tag_field="type", tag="lane"):
    """`lane`. `why`: why it was placed where it is. `arrival_eps`: what arrives now;
    `forecast_eps`: what is expected in `forecast_s`. `lat`, `lon`: the middle of where its events
    arise, in degrees, and `place` its name. `traffic`: around there."""

    why: str
    arrival_eps: float | None
    forecast_eps: float | None
    forecast_s: float
    raised: RaisedForecast | None
    lat: float
    lon: float
    place: str | None
    traffic: LaneTrafficRow | None


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: action, decision, alert or hotspot. `by`: the JID of the person who asked for it;
    empty if the coordinator decided alone."""

    at: Moment
    kind: str
    by: str
    text: str


class HistoryData(_Data, frozen=True, kw_only=True, tag="history"):
    """`history`: one page of the `total` entries that match, the newest first."""

    page: int
    pages: int
    total: int
    rows: tuple[HistoryRow, ...]


class TrafficData(_Data, frozen=True, kw_only=True, tag="traffic"):
    """`traffic`: one page of the lanes whose index is known (`total`), of all `lanes`; the slowest
    first. `calls`: the provider's calls of this day, of `daily_calls` (0: no limit)."""

    page: int
    pages: int
    total: int
    lanes: int
    calls: int
    daily_calls: int
    rows: tuple[LaneTrafficRow, ...]


CostRole = Literal["current", "chosen", "runner_up"]
Binding = Literal["nothing", "residency", "room", "calm", "moves", "waits"]


class NodeCost(msgspec.Struct, frozen=True, kw_only=True):
    """What an event of the lane costs at that node, in ms, term by term; `total_ms` is their sum.
    `price_ms`: what the node's room costs beside that, since other lanes want it. `role`: whether
    it is the lane's node now, the one that the plan chose, or the cheapest other one."""

    node: str
    role: CostRole
    total_ms: float
    rtt_ms: float
    traffic_ms: float
    miss_ms: float
    egress_ms: float
    degraded_ms: float
    move_ms: float
    price_ms: float


class LeftOut(msgspec.Struct, frozen=True):
    """A node that was not considered, and why."""

    node: str
    why: str


class ExplanationData(_Data, frozen=True, kw_only=True, tag="explain"):
    """`explain`. `binds`: what keeps the lane from a cheaper node: nothing, its residency rule, the
    lack of room, the damping of moves (calm), or it moves or waits anyway. `why`: why it was placed
    where it is. `scored`: whether a plan has seen the lane in its present state; if not, `costs`
    and `left_out` are empty."""

    lane: int
    state: Literal["assigned", "releasing", "orphan"]
    node: str | None
    epoch: int
    why: str
    scored: bool
    load_eps: float | None
    binds: Binding | None
    costs: tuple[NodeCost, ...]
    left_out: tuple[LeftOut, ...]


class PredictedMove(msgspec.Struct, frozen=True):
    """A move of a dry run, or of a change that was asked about. `source`: null for a lane without
    an owner. `delta_ms`: the change of what an event costs; less is better."""

    lane: int
    source: str | None
    target: str
    delta_ms: float | None


class PredictedFigures(msgspec.Struct, frozen=True):
    """Figures of a placement. `busiest`: by the load of the forecast."""

    mean_rtt_ms: float
    busiest: BusiestNode | None


class WhatIfData(_Data, frozen=True, kw_only=True, tag="whatif"):
    """`whatif`. `question`: the change in words. `before`: without it; `after`: with it, and with
    the moves that follow: the first 500 of `total_moves`, of which `moving_anyway` would come
    without it, too. `waiting`: lanes without room, up to 500. `stuck`: lanes that should leave
    their node and fit nowhere, up to 500. `rtt_basis`: as in `status`. `delta_ms` is null for a
    lane without an owner, or whose node is lost."""

    question: str
    before: PredictedFigures
    after: PredictedFigures
    rtt_basis: str
    lanes: int
    total_moves: int
    moving_anyway: int
    moves: tuple[PredictedMove, ...]
    waiting: tuple[int, ...]
    stuck: tuple[int, ...]


class HotspotRow(msgspec.Struct, frozen=True, kw_only=True):
    """A hotspot. `lat`, `lon`: the middle of its peak, in degrees. `rate_eps`, `usual_eps`: of its
    peak. Times are event time; `replayed`: they are not the present. `lanes`: where its events go.
    `raised_times`: by how much it raises their forecast at most. `name`: what a provider of maps
    calls the peak."""

    id: str
    state: HotspotState
    place: str
    name: str | None
    lat: float
    lon: float
    rate_eps: float
    usual_eps: float
    started_at: Moment
    last_at: Moment
    ended_at: Moment | None
    replayed: bool
    lanes: tuple[int, ...]
    raised_times: float | None


class HotspotsData(_Data, frozen=True, kw_only=True, tag="hotspots"):
    """`hotspots`. `watched`: whether an analytics worker looks for hotspots. `open`: the highest
    excess first, up to 50. `silent`: how many more should have ended, but nothing is heard of
    them. `ended`: the last ones, the newest first."""

    watched: bool
    total: int
    silent: int
    open: tuple[HotspotRow, ...]
    ended: tuple[HotspotRow, ...]


class PlaceData(_Data, frozen=True, kw_only=True, tag="place"):
    """`place`, also `geolane place`: a place with its coordinates in degrees (WGS 84). `country`:
    ISO 3166 alpha-2, or empty. `others`: how many other places the text could have meant. `why`:
    why this one was chosen. `expires_at`: from when on the answer may not be used; null if it does
    not expire."""

    name: str
    lat: float
    lon: float
    country: str
    region: str
    precision: Precision
    provider: str
    attribution: str
    others: int
    why: str
    expires_at: Moment | None

    @classmethod
    def of_place(cls, place: Place, attribution: str) -> PlaceData:
        until = datetime.fromtimestamp(place.expires_at, UTC) if place.expires_at else None
        same = {f: getattr(place, f) for f in Place.__slots__ if f != "expires_at"}
        return cls(**same, attribution=attribution, expires_at=until)


class MapData(_Data, frozen=True, kw_only=True, tag="map"):
    """`map`: the picture's address and what it shows, up to 500 sites. `orphans`: lanes without an
    owner."""

    url: str
    at: Moment
    sites: tuple[Dot, ...]
    hotspots: tuple[Ring, ...]
    orphans: int


class PlotLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a plot: its last value and its highest one, in the plot's `unit`. `name`: the
    fleet, `node iad-1` or `lane 12`."""

    name: str
    last: float
    last_at: Moment
    peak: float
    peak_at: Moment


class PlotData(_Data, frozen=True, kw_only=True, tag="plot"):
    """`plot`: the picture's address and its lines. `since`: when something is known."""

    url: str
    title: str
    unit: str
    since: Moment
    until: Moment
    lines: tuple[PlotLine, ...]


class SettingRow(msgspec.Struct, frozen=True, kw_only=True):
    """A setting that `tune` can change. `value`: what applies, in `unit`; `default`: what the
    settings say. `tuned_by` (a JID), `tuned_at`: null unless it is tuned. `workers`: each worker
    applies it; otherwise the planner does. `allowed`: in words."""

    name: str
    value: int | float
    default: int | float
    unit: str
    workers: bool
    allowed: str
    tuned_by: str | None
    tuned_at: Moment | None


class TuningData(_Data, frozen=True, kw_only=True, tag="tune"):
    """`tune` without a new value: all settings, or the one that was named. `version`: of the
    workers' values; `lacking`: the workers that have not acknowledged it."""

    version: int
    lacking: tuple[str, ...]
    settings: tuple[SettingRow, ...]


class FollowData(_Data, frozen=True, kw_only=True, tag="follow"):
    """`follow`, `unfollow`: the feeds that the person follows now, of all `feeds`."""

    following: tuple[str, ...]
    feeds: tuple[str, ...]


class StandingTrouble(msgspec.Struct, frozen=True, kw_only=True):
    """A trouble that lasts, for `for_s` seconds now. `at_work`: who has acknowledged it."""

    id: str
    kind: str
    about: str
    severity: Severity
    for_s: float
    text: str
    at_work: str | None


class TroublesData(_Data, frozen=True, kw_only=True, tag="ack"):
    """`ack`: of the `total` troubles that last the worst, or the one that is acknowledged now."""

    total: int
    troubles: tuple[StandingTrouble, ...]


Affiliation = Literal["member", "admin", "owner"]


class CommandRow(msgspec.Struct, frozen=True, kw_only=True):
    """An operator command. `needs`: the affiliation with the ops room for its simplest form;
    `changes_need`: for its most powerful one."""

    name: str
    usage: str
    help: str
    needs: Affiliation
    changes_need: Affiliation


class HelpData(_Data, frozen=True, kw_only=True, tag="help"):
    """`help`: all commands, or the one that was named."""

    commands: tuple[CommandRow, ...]


ChangeState = Literal["dry_run", "begun", "requested"]


class ChangeData(_Data, frozen=True, kw_only=True, tag="change"):
    """What a command that changes something says. `title`: the change in words. `state`: `dry_run`,
    nothing is done yet; `begun`, it was confirmed; `requested`, a second person must confirm it
    with the id `request`. `lanes` (up to 500), `nodes`: what it is about. `moves`: the first 500
    of the `total_moves` that the dry run predicts."""

    title: str
    state: ChangeState
    lanes: tuple[int, ...]
    nodes: tuple[str, ...]
    total_moves: int
    moves: tuple[PredictedMove, ...]
    request: str | None


class DeadLetterRow(msgspec.Struct, frozen=True, kw_only=True):
    """`id`: PARTITION/OFFSET in events.dead. `ms`: when it was appended, epoch ms. `source`: the
    record that it was. `detail`: more about the reason. `replays`: how often it was sent back
    before. `headers`: as text, what is not text is escaped; empty in `geolane ctl dead`."""

    id: str
    ms: int
    reason: str
    detail: str
    lane: int | None
    source: str
    replays: int
    replayed: bool
    headers: dict[str, str]


class DeadLetterData(DeadLetterRow, frozen=True, kw_only=True, tag_field="type", tag="dead_letter"):
    """`dead show`, with its headers. `key`, `value`: as text, what is not text is escaped; the
    value is cut short, and `value_bytes` is its whole size."""

    key: str | None
    value: str | None
    value_bytes: int


class DeadLettersData(_Data, frozen=True, kw_only=True, tag="dead"):
    """`dead list`: the newest that match. `count`: how many match, by `reasons`. `whole`: whether
    all of the topic was read."""

    count: int
    whole: bool
    reasons: dict[str, int]
    letters: tuple[DeadLetterRow, ...]


AnswerData = (
    StatusData
    | NodesData
    | NodeData
    | LanesData
    | LaneData
    | ExplanationData
    | WhatIfData
    | MapData
    | PlotData
    | DeadLettersData
    | DeadLetterData
    | HotspotsData
    | TrafficData
    | PlaceData
    | HistoryData
    | TuningData
    | FollowData
    | TroublesData
    | HelpData
    | ChangeData
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer for people, and the same figures for programs."""

    text: str
    data: AnswerData


class CommandAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What `geolane ctl --json` prints, on one line. `text`: the answer or the error, for people.
    `fields`: the form's fields, as text. `data`: the same with types; null after an error."""

    command: str
    ok: bool
    text: str
    fields: dict[str, str]
    data: AnswerData | None
