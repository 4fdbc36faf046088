"""A node's stage: it runs the user's pipeline over the records of each lane, and makes dead letters
of records that the pipeline cannot take (PROTOCOL 3.6). Nothing is added to the outbox before the
outcome of the lane's whole part is known."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from operator import attrgetter
from typing import Any, cast

from agents.core.lanes.records import (
    CELL,
    LANE,
    MAP,
    PART,
    RAW_MS,
    SRC,
    TS,
    Reason,
    Rejected,
    Unread,
    find_bad_header,
    parse_number,
    parse_source,
)
from agents.core.model.topology import MAIN
from agents.kafka.batches import NewRecord
from agents.node.contract import FAILED, FILTERED, ONE, Answers, Row, columns_from_rows
from agents.node.part import Calls, Failures, Part
from agents.node.runner import Runner
from agents.worker.stage import Inputs, Outbox, Tally, Topics, record_size, sample_records

ASIDE_AFTER_S = 2.0
"""A lane whose records take longer is worked aside, so that the others can continue."""
TIMEOUT_S = 30.0
_HEADERS_OF = attrgetter("headers")
_ROUTERS = (SRC, CELL, TS, MAP)

Flaws = Sequence[tuple[Any, Rejected]]
"""Records that the pipeline does not receive (Any: aiokafka has no types), and why."""


@dataclass(slots=True)
class _Task:
    """Lane `n`'s `records`; the pipeline works on them as `part`."""

    n: int
    records: Inputs
    flaws: Flaws
    part: Part


class NodeStage:
    """`limit`: the most bytes of key and value that are sent to `events.clean`. `timeout_s`: a call
    of the pipeline that takes longer is ended."""

    def __init__(
        self,
        runner: Runner,
        limit: int,
        topics: Topics | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        topics = topics or Topics()
        self.topic, self.group = f"{MAIN}/{topics.lanes}", topics.node_group
        self._lanes = topics.lanes
        self._clean, self._dead = self.outputs = topics.clean, topics.dead
        self._runner, self._timeout_s = runner, timeout_s
        self._limit = limit
        self._calls = Calls()
        self._failures: dict[int, Failures] = {}

    @property
    def code(self) -> str:
        return self._runner.version

    @property
    def lost(self) -> int:
        return self._calls.lost

    @property
    def pids(self) -> Sequence[int]:
        return self._runner.pids

    def forget_partition(self, n: int) -> None:
        self._failures.pop(n, None)

    def process_batch(self, got: Mapping[int, Inputs], out: Outbox) -> list[tuple[int, Tally]]:
        found: list[tuple[int, Tally]] = []
        left = iter(got.items())
        task = self._begin_task(self._prepare_task(next(left, None)))
        while task is not None:
            # The next part is prepared while the pipeline works on this one, and sent to it before
            # this one's outputs are built.
            following = self._prepare_task(next(left, None))
            done = task.part.continue_until(time.monotonic() + ASIDE_AFTER_S)
            self._begin_task(following)
            found.append(
                (task.n, self.finish_task(task, out) if done else Tally(later=_Later(self, task)))
            )
            task = following
        return found

    def _prepare_task(self, lane: tuple[int, Inputs] | None) -> _Task | None:
        if lane is None:
            return None
        n, records = lane
        rows = [row_from_kafka(r, self._lanes, n) for r in records]
        flaws: Flaws = ()
        if Rejected in map(type, rows):
            both = list(zip(records, rows, strict=True))
            flaws = [(r, row) for r, row in both if isinstance(row, Rejected)]
            records = [r for r, row in both if not isinstance(row, Rejected)]
            rows = [row for row in rows if not isinstance(row, Rejected)]
        part = Part(
            self._runner,
            columns_from_rows(cast(list[Row], rows)),
            self._failures.get(n, Failures()),
            self._calls,
            self._timeout_s,
        )
        return _Task(n, records, flaws, part)

    @staticmethod
    def _begin_task(task: _Task | None) -> _Task | None:
        if task is not None:
            task.part.send_first_request()
        return task

    def finish_task(self, task: _Task, out: Outbox) -> Tally:
        """Add the outputs and dead letters of a finished part to `out`; returns the tally."""
        n, part = task.n, task.part
        out.of = n
        self._failures[n] = part.failures
        if part.is_poisoned:
            last = part.answers.errors[-1]
            return Tally(fault=f"pipeline failed {part.failures.records} times in a row: {last}")
        tally = self._add_outputs(n, task.records, part.answers, out)
        for r, flaw in task.flaws:
            headers = [h for h in _headers_with_lane(r.headers, n) if type(h[0]) is not Unread]
            out.add_dead_letter(r.key, r.value, headers, flaw.reason, flaw.detail, self._dead)
            tally.dead += 1
        return tally

    def _add_outputs(self, n: int, records: Inputs, answers: Answers, out: Outbox) -> Tally:
        tally = Tally(
            raw_ms=[header_int(r, RAW_MS, 1, r.timestamp) for r in sample_records(records)]
        )
        limit, clean, outputs = self._limit, self._clean, list[NewRecord]()
        limited = out.has_limit(clean)
        if not limited and self._are_plain(answers):
            sent = compress(records, answers.kinds)  # a kind is false if it is FILTERED
            headers = map(_HEADERS_OF, sent)
            out.add_records(clean, n, list(zip(answers.keys, answers.values, headers, strict=True)))
            tally.out = len(answers.values)
            tally.filtered = len(records) - tally.out
            return tally
        came, errors = zip(answers.keys, answers.values, strict=True), iter(answers.errors)
        for r, kind in zip(records, answers.kinds, strict=True):
            if kind == ONE:
                key, value = next(came)
                if len(value) + (len(key) if key else 0) > limit:
                    self._add_too_large(n, r, self._describe_excess(value), out, tally)
                elif limited and (why := out.explain_refusal(clean, key, value, r.headers)):
                    self._add_too_large(n, r, why, out, tally)
                else:
                    outputs.append((key, value, r.headers))
                    tally.out += 1
            elif kind == FILTERED:
                tally.filtered += 1
            elif kind == FAILED:
                out.add_dead_letter(
                    r.key,
                    r.value,
                    _headers_with_lane(r.headers, n),
                    Reason.PIPELINE_ERROR,
                    next(errors),
                    self._dead,
                )
                tally.dead += 1
            else:
                outputs += self._make_several_outputs(n, r, kind, came, out, tally)
        out.add_records(clean, n, outputs)
        return tally

    def _are_plain(self, answers: Answers) -> bool:
        """Whether each record yielded one output or none, and all of them are small enough."""
        largest = max(map(len, answers.values), default=0)
        longest = max((len(key) for key in answers.keys if key), default=0)
        return {ONE, FILTERED}.issuperset(answers.kinds) and largest + longest <= self._limit

    def _make_several_outputs(
        self,
        n: int,
        r: Any,
        count: int,
        came: Iterator[tuple[bytes | None, bytes]],
        out: Outbox,
        tally: Tally,
    ) -> list[NewRecord]:
        """The outputs of a record that yielded `count` of them; none if it is a dead letter, since
        one of them is too large."""
        outputs: list[NewRecord] = []
        several = [next(came) for _ in range(count)]
        for i, (key, value) in enumerate(several):
            with_part = [*r.headers, (PART, b"%d/%d" % (i, count))]
            over = self._describe_excess(value) if record_size(key, value, ()) > self._limit else ""
            if why := over or out.explain_refusal(self._clean, key, value, with_part):
                self._add_too_large(n, r, why, out, tally)
                return []
            outputs.append((key, value, with_part))
        tally.out += 1
        return outputs

    def _describe_excess(self, value: bytes) -> str:
        return f"the pipeline's value has {len(value)} bytes, the limit is {self._limit}"

    def _add_too_large(self, n: int, r: Any, detail: str, out: Outbox, tally: Tally) -> None:
        out.add_dead_letter(
            r.key, r.value, _headers_with_lane(r.headers, n), Reason.TOO_LARGE, detail, self._dead
        )
        tally.dead += 1


class _Later:
    """The rest of a part, which is worked aside."""

    def __init__(self, stage: NodeStage, task: _Task) -> None:
        self._stage, self._task = stage, task
        self.release_resources, self.cancel, self.describe_trouble = (
            task.part.release_resources,
            task.part.cancel,
            task.part.describe_trouble,
        )

    def run(self, out: Outbox) -> Tally | None:
        done = self._task.part.continue_until()
        return self._stage.finish_task(self._task, out) if done else None


def _headers_with_lane(headers: Any, n: int) -> list[tuple[str, bytes | None]]:
    """The headers of a dead letter, with the lane in which the record failed."""
    return [*(h for h in headers if h[0] != LANE), (LANE, b"%d" % n)]


def row_from_kafka(r: Any, topic: str, n: int) -> Row | Rejected:
    """A record of partition `n` of `topic` as a pipeline sees it (Any: aiokafka has no types).
    Rejected if the pipeline must not receive it, which another program than a router has
    written."""
    h = r.headers
    if len(h) == 5:
        (a, src), _, (b, cell), (c, ts), (d, _) = h
        if (a, b, c, d) == _ROUTERS and r.value is not None:
            try:
                return r.key, r.value, src.decode(), int(ts[:18]), cell.decode()
            except (ValueError, AttributeError, TypeError):
                pass  # not a router's content after all
    if (flaw := find_bad_header(h)) is not None:
        return flaw
    if r.value is None:
        return Rejected(Reason.NOT_JSON, "no value (a tombstone)")
    return _row_from_headers(r, topic, n)


def _row_from_headers(r: Any, topic: str, n: int) -> Row:
    """As `row_from_kafka`, for a record that any program may have written."""
    found = {name: content for name, content in r.headers if content is not None}
    src = parse_source(found.get(SRC)) or f"{topic}/{n}/{r.offset}"
    cell = found.get(CELL, b"")[:20].decode("ascii", "replace")
    return r.key, r.value, src, parse_number(found.get(TS), r.timestamp), cell


def header_int(r: Any, name: str, at: int, otherwise: int) -> int:
    """The number in header `name`, which usually is at index `at`; `otherwise` if it is missing or
    not a number."""
    h = r.headers
    if len(h) > at and h[at][0] == name:
        return parse_number(h[at][1], otherwise)
    return parse_number(dict(h).get(name), otherwise)
