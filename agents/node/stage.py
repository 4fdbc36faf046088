"""A node's batch: the user's pipeline over the records of each lane, and what it cannot take to the dead letters
(PROTOCOL 3.6). Nothing is added to the outbox before the whole part is known."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from agents.core.model import CLUSTER
from agents.core.records import CELL, LANE, PART, RAW_MS, SRC, TS, Reason, Record
from agents.errors import PipelineError
from agents.worker.outbox import Outbox, size_of
from agents.worker.stage import Inputs, Tally, Topics, sample

Answer = Record | None | list[Record]
Pipeline = Callable[[list[Record]], Sequence[Answer]]

POISONED_AT = 100
"""So many failures in a row stop the lane: a broken pipeline must not dead-letter a day (PROTOCOL 3.6)."""


def load_pipeline(name: str) -> Pipeline:
    """The function `module:function`. Raises PipelineError, saying what is wrong with the setting."""
    module, _, function = name.partition(":")
    try:
        pipeline: object = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as e:
        raise PipelineError(f"worker.pipeline: {name!r} cannot be loaded: {e}; write it as module:function") from e
    if not callable(pipeline):
        raise PipelineError(f"worker.pipeline: {name!r} is no function")
    return pipeline


class NodeStage:
    """`limit` is the largest key and value, in bytes, that goes to `events.clean`."""

    def __init__(self, pipeline: Pipeline, limit: int, topics: Topics | None = None) -> None:
        topics = topics or Topics()
        self.topic, self.group = f"{CLUSTER}/{topics.lanes}", topics.node_group
        self._clean, self._dead = topics.clean, topics.dead
        self._pipeline = pipeline
        self._limit = limit
        self._failures: dict[int, int] = {}

    def forget(self, n: int) -> None:
        self._failures.pop(n, None)

    def work(self, n: int, records: Inputs, out: Outbox) -> Tally:
        answers: Sequence[Answer | PipelineError]
        try:
            answers = self._run([as_record(r) for r in records])
        except PipelineError:
            answers = self._one_by_one(n, records)
            if self._failures.get(n, 0) >= POISONED_AT:
                first = next(a for a in reversed(answers) if isinstance(a, PipelineError))
                return Tally(fault=f"pipeline failed {POISONED_AT} times in a row: {first}")
        else:
            self._failures[n] = 0
        return self._send(n, records, answers, out)

    def _run(self, batch: list[Record]) -> Sequence[Answer]:
        """The pipeline's answers, checked. Raises PipelineError for whatever it does wrong."""
        try:
            answers = self._pipeline(batch)
        except Exception as e:  # the user's code: the culprit is found and dead-lettered
            raise PipelineError(f"{type(e).__name__}: {e}") from e
        if not isinstance(answers, list | tuple) or len(answers) != len(batch):
            what = f"{len(answers)} answers" if isinstance(answers, list | tuple) else type(answers).__name__
            raise PipelineError(f"the pipeline must answer {len(batch)} records with a list as long, gave {what}")
        for answer in answers:
            if isinstance(answer, Record):
                if type(answer.value) is not bytes:
                    raise PipelineError(f"a record's value must be bytes, is {type(answer.value).__name__}")
            elif answer is not None and not (
                type(answer) is list and all(isinstance(a, Record) and type(a.value) is bytes for a in answer)
            ):
                raise PipelineError(f"an answer must be a Record, None or a list of Records, is {answer!r:.80}")
        return answers

    def _one_by_one(self, n: int, records: Inputs) -> Sequence[Answer | PipelineError]:
        """Each record by itself, until all are done or the lane is poisoned."""
        answers: list[Answer | PipelineError] = []
        failures = self._failures.get(n, 0)
        for r in records:
            try:
                answers.append(self._run([as_record(r)])[0])
                failures = 0
            except PipelineError as e:
                answers.append(e)
                failures += 1
                if failures >= POISONED_AT:
                    break
        self._failures[n] = failures
        return answers

    def _send(self, n: int, records: Inputs, answers: Sequence[Answer | PipelineError], out: Outbox) -> Tally:
        tally = Tally(raw_ms=[header_int(r, RAW_MS, 1, r.timestamp) for r in sample(records)])
        limit, clean, add = self._limit, self._clean, out.add
        for r, answer in zip(records, answers, strict=True):
            if isinstance(answer, Record):
                key, value = answer.key, answer.value
                if len(value) + (len(key) if key else 0) <= limit:
                    add(clean, n, key, value, list(r.headers))
                    tally.out += 1
                else:
                    self._too_large(n, r, answer, out, tally)
            elif not answer:
                tally.filtered += 1
            elif isinstance(answer, PipelineError):
                out.add_dead(r.key, r.value, _with_lane(r.headers, n), Reason.PIPELINE_ERROR, str(answer), self._dead)
                tally.dead += 1
            else:
                self._send_several(n, r, answer, out, tally)
        return tally

    def _send_several(self, n: int, r: Any, answer: list[Record], out: Outbox, tally: Tally) -> None:
        for a in answer:
            if size_of(a.key, a.value, ()) > self._limit:
                self._too_large(n, r, a, out, tally)
                return
        for i, a in enumerate(answer):
            out.add(self._clean, n, a.key, a.value, [*r.headers, (PART, b"%d/%d" % (i, len(answer)))])
        tally.out += 1

    def _too_large(self, n: int, r: Any, answer: Record, out: Outbox, tally: Tally) -> None:
        detail = f"the pipeline's value has {len(answer.value)} bytes, the limit is {self._limit}"
        out.add_dead(r.key, r.value, _with_lane(r.headers, n), Reason.TOO_LARGE, detail, self._dead)
        tally.dead += 1


def _with_lane(headers: Any, n: int) -> list[tuple[str, bytes | None]]:
    """A dead letter's headers say which lane it died in."""
    return [*(h for h in headers if h[0] != LANE), (LANE, b"%d" % n)]


def as_record(r: Any) -> Record:
    """A record of `events.lanes` as a pipeline sees it (Any: aiokafka has no types)."""
    h = r.headers
    if len(h) >= 4 and h[0][0] == SRC and h[2][0] == CELL and h[3][0] == TS:  # as the router writes them
        return Record(r.key, r.value, h[0][1].decode(), int(h[3][1]), h[2][1].decode())
    found = {name: content for name, content in h if content is not None}
    src = found.get(SRC, f"{r.topic}/{r.partition}/{r.offset}".encode())
    return Record(r.key, r.value, src.decode(), _int(found.get(TS), r.timestamp), found.get(CELL, b"").decode())


def header_int(r: Any, name: str, at: int, otherwise: int) -> int:
    """The number in header `name`, which usually is the `at`-th."""
    h = r.headers
    if len(h) > at and h[at][0] == name:
        return _int(h[at][1], otherwise)
    return _int(dict(h).get(name), otherwise)


def _int(content: bytes | None, otherwise: int) -> int:
    try:
        return otherwise if content is None else int(content)
    except ValueError:
        return otherwise
