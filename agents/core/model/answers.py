"""What operator commands answer to programs: one typed value for each command, the same figures as
its text. `geolane ctl --json` prints it as `data`; `geolane json-schema` prints what each value
has (docs/json-schema.json).

A name carries its unit. None is what is not known. `load`: a share of the capacity, 1 is all of
it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import msgspec

from agents.core.model.feeds import LaneTrafficRow, TroubleRow


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


class HistoryRow(msgspec.Struct, frozen=True, kw_only=True):
    """`kind`: action, decision, alert or hotspot. `by`: the JID of the person who asked for it;
    empty if the coordinator decided alone."""

    at: datetime
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
    | LanesData
    | HistoryData
    | TrafficData
    | ExplanationData
    | DeadLettersData
)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer for people, and the same figures for programs."""

    text: str
    data: AnswerData


class CommandAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What `geolane ctl --json` prints, on one line. `text`: the answer or the error, for people.
    `fields`: the form's fields, as text. `data`: for `status`, `nodes`, `lanes`, `history`,
    `explain`, `traffic` and `dead list`; null for the others, after an error and in a dry run."""

    command: str
    ok: bool
    text: str
    fields: dict[str, str]
    data: AnswerData | None


class InventoryWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `geolane nodes list --json`: a worker of the inventory. `ceiling_eps`:
    worker.capacity_eps of the settings, above which no worker goes. `has_password`: whether the
    folder of secrets has its password."""

    worker: str
    name: str
    kind: str
    site: str
    region: str
    capacity_eps: float
    ceiling_eps: float | None
    has_password: bool


OUTPUTS = {
    "geolane ctl --json": CommandAnswer,
    "geolane dead list --json": DeadLettersData,
    "geolane nodes list --json": InventoryWorker,
}
"""What each command prints, by line."""


def make_json_schema() -> dict[str, object]:
    """The JSON schema (2020-12) of OUTPUTS."""
    outputs, types = msgspec.json.schema_components(OUTPUTS.values(), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What geolane prints for programs, a value a line",
        "anyOf": [{"title": name, **schema} for name, schema in zip(OUTPUTS, outputs, strict=True)],
        "$defs": types,
    }
