"""Every metric of every process is declared here, once. The endpoint, docs/metrics.md, the alert
rules and the dashboard have no others.

Names follow Prometheus: `geolane_`, base units (seconds), `_total` for what only grows. Labels are
bounded by the fleet: a worker's account (`coordinator` for itself), Kafka's topic and partition (of
`events.lanes` that is the lane), a lane, and words from short lists."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricType(StrEnum):
    """Prometheus' types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`text`: its meaning with unit, in one line; shown in the exposition and in
    docs/metrics.md."""

    name: str
    kind: MetricType
    text: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its time series."""
        if self.kind is MetricType.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "count", "sum"))
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"geolane_{name}_total", MetricType.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"geolane_{name}", MetricType.GAUGE, text, labels)


def _histogram(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"geolane_{name}", MetricType.HISTOGRAM, text, labels)


_PART = ("worker", "topic", "partition")

# Every process.

XMPP_UP = _gauge("xmpp_up", "1 while there is an XMPP session", "worker")
KAFKA_UP = _gauge(
    "kafka_up",
    "1 while a worker has a connection to a broker, and while a leader's writes are committed; a "
    "standby has no value",
    "worker",
)

# Workers: nodes, routers, analytics, geo.

WORKER_INFO = _gauge(
    "worker_info", "always 1; its labels identify the worker", "worker", "kind", "version"
)
LEASED = _gauge("worker_leased", "1 once this boot has its lease", "worker")
DRAINING = _gauge("worker_draining", "1 while its drain is in force", "worker")
SEEN_EPOCH = _gauge("worker_leader_epoch", "the highest leader epoch that it has obeyed", "worker")
EVENTS_IN = _counter(
    "events_in", "events read and committed by this process: out + filtered + dead", *_PART
)
EVENTS_OUT = _counter("events_out", "of those in: events with at least one output", *_PART)
EVENTS_FILTERED = _counter(
    "events_filtered", "of those in: events that the pipeline filtered out", *_PART
)
EVENTS_DEAD = _counter("events_dead", "of those in: events that became dead letters", *_PART)
LAG = _gauge(
    "partition_lag_events",
    "offsets between the committed one and the end of what may be read",
    *_PART,
)
OLDEST = _gauge(
    "partition_oldest_seconds",
    "upper bound of the age of the oldest event in this topic that is not committed yet; 0 if "
    "there is none",
    *_PART,
)
EPOCH = _gauge("partition_epoch", "the epoch under which the partition is owned", *_PART)
FAULT = _gauge(
    "partition_fault",
    "1 while the partition has stopped because of a fault; the log says which",
    *_PART,
)
FAULTS = _counter(
    "faults",
    "times that a fault, of the pipeline or of the data, stopped a partition",
    "worker",
    "topic",
)
PIPELINE_LOST = _counter(
    "pipeline_lost",
    "times that the process of a node's pipeline ended during a call, or was ended because it "
    "took too long",
    "worker",
)
PROCESSING = _histogram(
    "processing_seconds",
    "time from an event's append to events.raw (the broker's clock) to its commit here (own "
    "clock); a sample of each batch",
    "worker",
    "topic",
)
COMMIT = _histogram(
    "commit_seconds",
    "duration of each committed transaction: begin, send, offsets, commit; its count is that of "
    "the commits",
    "worker",
    "topic",
)
ABORTS = _counter(
    "aborts",
    "aborted transactions, whose work is done again (a lost one ends the process: see fences)",
    "worker",
    "topic",
)

PATH_RTT = _gauge(
    "path_rtt_seconds",
    "round trip to a Kafka broker, by its id: the median of the last 15 probes; none for a broker "
    "that has not answered for 60 s",
    "worker",
    "broker",
)

EVENTS_DROPPED = _counter(
    "hotspot_events_dropped",
    "events not tested for want of room: of too many cells, or of a clock that stands still",
    "worker",
)
FLINK_JOB_UP = _gauge(
    "flink_job_up",
    "1 while the Flink job that finds hotspots runs; only from the worker that looks after it",
    "worker",
)
FLINK_RESTARTS = _gauge(
    "flink_job_restarts", "restarts after a failure since the Flink job was started", "worker"
)
FLINK_CHECKPOINT_AGE = _gauge(
    "flink_checkpoint_age_seconds",
    "how long ago the Flink job completed its last checkpoint; what it has found since does not "
    "show yet",
    "worker",
)
STREAMS_STATE = _gauge(
    "streams_state",
    "1 for the state that Kafka Streams is in, 0 for the others; only from a router with that "
    "engine",
    "worker",
    "state",
)
STREAMS_THREADS = _gauge("streams_threads", "threads of Kafka Streams that run", "worker")

# The coordinator.

LEADER = _gauge(
    "leader", "1 while this coordinator leads; only a leader reports fleet, plans and moves"
)
LEADER_EPOCH = _gauge("leader_epoch", "the leader epoch of this leader")
STANDBYS = _gauge("standbys", "other coordinators that stand by")
WORKERS = _gauge(
    "workers",
    "workers of the inventory by health (available, dnd, xa, unavailable)",
    "kind",
    "health",
)
PARTITIONS = _gauge(
    "partitions", "partitions by state (assigned, releasing, orphan)", "topic", "state"
)
LANES_WAITING = _gauge("lanes_waiting", "lanes for which no allowed node has room")
LANES_STUCK = _gauge("lanes_stuck", "lanes that should leave their node and fit nowhere else")
TROUBLES = _gauge(
    "troubles",
    "troubles that are not over, by kind; `status` shows them",
    "kind",
)
PAUSED = _gauge("paused", "1 while an operator has paused the planner")
DRAINED = _gauge(
    "workers_drained", "workers that are kept empty: drained by an operator or by themselves"
)
MOVES = _counter(
    "moves",
    "partitions given to a worker other than the previous one, as written to placement",
    "topic",
)
FENCES = _counter(
    "fences", "workers fenced while they still had partitions: that boot can no longer commit"
)
LEASES_FAILED = _counter(
    "leases_failed",
    "leases that Kafka did not make; each is tried again, later and later if refused",
)
PLAN_OBJECTIVE = _gauge(
    "plan_objective",
    "cost of the placement that the last plan steers to: the sum of RTT (s) x rate (events/s), "
    "that is, events on their way",
)
PLAN_BOUND = _gauge("plan_bound", "lower bound of the cost of any placement, in the same unit")
PLAN_GAP = _gauge("plan_gap_ratio", "how far the objective is above the bound, as a share of it")
PLAN_SECONDS = _gauge("plan_seconds", "how long the last planning took, in s")
PLAN_MOVES = _gauge(
    "plan_moves", "lanes that are not yet where the last plan wants them in the end"
)
MEAN_RTT = _gauge(
    "plan_mean_rtt_seconds",
    "mean RTT per event from lane to node once the last plan's steps are done, in s",
)
UTILISATION = _gauge(
    "plan_utilisation_ratio",
    "load of the busiest node once the last plan's steps are done, by its capacity",
)
FORECAST_ERROR = _gauge(
    "forecast_error_ratio", "how far the recent forecasts were off, relative to the actual rate"
)
LAST_VALUE_ERROR = _gauge(
    "forecast_last_value_error_ratio", "how far the last value would have been off, likewise"
)
HOTSPOTS_OPEN = _gauge("hotspots_open", "hotspots that are open")
HOTSPOTS_OPENED = _counter("hotspots_opened", "hotspots that have opened since this leader began")
HOTSPOTS_ENDED = _counter("hotspots_ended", "hotspots that have ended since this leader began")
HOTSPOT_RECORDS_SKIPPED = _counter(
    "hotspot_records_skipped",
    "records of the topic hotspots that were skipped: not valid, or more than 1,000 are open",
)
TRAFFIC_INDEX = _gauge(
    "traffic_index",
    "expected by static travel time around a lane, as plans count it; none where it is not known, "
    "and plans count 1",
    "lane",
)
GEO_QUESTIONS = _counter(
    "geo_questions",
    "questions of this leader to geo workers, by command (traffic, names) and outcome (answered, "
    "failed)",
    "command",
    "outcome",
)
GEO_CALLS = _gauge(
    "geo_calls", "calls of the provider of travel times this day, as the geo worker last told"
)
GEO_DAILY_CALLS = _gauge("geo_daily_calls", "how many it may make in a day; 0: no limit")
MAPS_CALLS = _counter("maps_calls", "requests to a server of maps", "worker", "server")
MAPS_FAILED = _counter("maps_failed", "of these, without a usable answer", "worker", "server")
MAPS_REFUSED = _counter("maps_refused", "requests that the budget did not allow", "worker")
MAPS_CIRCUIT_OPEN = _gauge(
    "maps_circuit_open", "1 while a server is left alone after faults", "worker", "server"
)
JOURNAL_DROPPED = _counter(
    "journal_dropped", "entries that the journal dropped (notes, ticks)", "what"
)
COORDINATOR_FAULTS = _counter(
    "coordinator_faults",
    "bugs of the coordinator in commands of people, messages of workers or plans, which it "
    "survived",
    "what",
)
REFUSED = _counter(
    "coordinator_refused",
    "input of workers and people that was refused: impossible, or too much",
    "what",
)
TELEMETRY_DROPPED = _counter(
    "telemetry_dropped", "items of telemetry that were dropped because there was no room"
)
QUEUE = _gauge(
    "coordinator_queue_length", "XMPP and Kafka events that wait for the coordinator's core"
)

EVERY_PROCESS = (XMPP_UP, KAFKA_UP)
WORKER = (
    WORKER_INFO,
    LEASED,
    DRAINING,
    SEEN_EPOCH,
    EVENTS_IN,
    EVENTS_OUT,
    EVENTS_FILTERED,
    EVENTS_DEAD,
    LAG,
    OLDEST,
    EPOCH,
    FAULT,
    FAULTS,
    PIPELINE_LOST,
    PROCESSING,
    COMMIT,
    ABORTS,
    PATH_RTT,
)
COORDINATOR = (
    LEADER,
    LEADER_EPOCH,
    STANDBYS,
    WORKERS,
    PARTITIONS,
    LANES_WAITING,
    LANES_STUCK,
    TROUBLES,
    PAUSED,
    DRAINED,
    MOVES,
    FENCES,
    LEASES_FAILED,
    PLAN_OBJECTIVE,
    PLAN_BOUND,
    PLAN_GAP,
    PLAN_SECONDS,
    PLAN_MOVES,
    MEAN_RTT,
    UTILISATION,
    FORECAST_ERROR,
    LAST_VALUE_ERROR,
    HOTSPOTS_OPEN,
    HOTSPOTS_OPENED,
    HOTSPOTS_ENDED,
    HOTSPOT_RECORDS_SKIPPED,
    JOURNAL_DROPPED,
    TELEMETRY_DROPPED,
    QUEUE,
    COORDINATOR_FAULTS,
    REFUSED,
)
WITH_GEO = (TRAFFIC_INDEX, GEO_QUESTIONS, GEO_CALLS, GEO_DAILY_CALLS)
GEO_WORKER = (MAPS_CALLS, MAPS_FAILED, MAPS_REFUSED, MAPS_CIRCUIT_OPEN)
FLINK = (FLINK_JOB_UP, FLINK_RESTARTS, FLINK_CHECKPOINT_AGE)
KAFKA_STREAMS = (STREAMS_STATE, STREAMS_THREADS)
IN_PROCESS = (EVENTS_DROPPED,)
ALL = (
    *EVERY_PROCESS,
    *WORKER,
    *GEO_WORKER,
    *IN_PROCESS,
    *FLINK,
    *KAFKA_STREAMS,
    *COORDINATOR,
    *WITH_GEO,
)
