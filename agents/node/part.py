"""Runs one lane's share of a batch through the pipeline: first as a whole and, if that ended the
process or took too long, record by record, until the cause is known.

Another thread can continue the work where it stopped: a lane in trouble is worked aside, so that
the others need not wait for it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from agents.base import log
from agents.node.contract import POISONED_AT, Answers, RecordColumns
from agents.node.runner import Late, PipelineLost, PipelineRunner, Runner

ENDED, HUNG = 5, 20
"""The number of failures that a record counts for which ended the process, or took too long: it
costs much more than one that raises."""
TOLD_AFTER_S = 10.0
_CALL_S = 5.0
_GOOD_CALLS = 200

_log = log.get_logger("pipeline")


class Calls:
    """How many records one call may have. The number is reduced when a call fails as a whole but
    none of its records fails alone: it was too large for the time or memory available. `lost`: how
    many calls were lost with their process."""

    def __init__(self) -> None:
        self.records, self._good = 1 << 30, 0
        self.lost = 0

    def reduce_records(self, records: int) -> None:
        self.records, self._good = max(1, records), 0
        _log.warning("pipeline_call_made_smaller", records=self.records)

    def count_success(self) -> None:
        self._good += 1
        if self._good >= _GOOD_CALLS:
            self.records, self._good = 2 * self.records, 0


@dataclass(frozen=True, slots=True)
class Failures:
    """Failures in a row: how many `records`, and how many failures they `count` for."""

    records: int = 0
    count: int = 0

    def after_answers(self, answers: Answers) -> Failures:
        return Failures(
            answers.count_trailing_failures(self.records),
            answers.count_trailing_failures(self.count),
        )

    def plus_failure(self, weight: int) -> Failures:
        return Failures(self.records + 1, self.count + weight)


class Part:
    """`columns`: the records. `failures`: those in a row before them. `timeout_s`: the limit of one
    call. `answers` is complete once `continue_until` returns True, unless the part is then
    poisoned."""

    def __init__(
        self,
        runner: Runner,
        columns: RecordColumns,
        failures: Failures,
        calls: Calls,
        timeout_s: float,
    ) -> None:
        self.answers = Answers()
        self.failures = failures
        self._runner, self._columns, self._calls, self._timeout_s = (
            runner,
            columns,
            calls,
            timeout_s,
        )
        self._count = len(columns[0])
        self._process: PipelineRunner | None = None
        self._made_at = time.monotonic()
        self._asked, self._asked_at = 0, 0.0
        self._alone = 0  # records before this index are tried one by one
        self._alone_since, self._alone_from, self._alone_failed, self._why = 0.0, 0, False, ""
        self._cancelled = False
        self._early: PipelineLost | None = None

    @property
    def is_poisoned(self) -> bool:
        return self.failures.count >= POISONED_AT

    def continue_until(self, until: float = float("inf")) -> bool:
        """Work until everything is done (True), or until it should continue aside (False): at
        `until` (monotonic), or after the loss of a process. Without `until` a loss does not
        interrupt it; a cancellation does. Raises PipelineError if no process can be started."""
        while self._answered < self._count and not self.is_poisoned:
            try:
                self._accept_answers(self._await_answers(until))
            except Late:
                if time.monotonic() < self._asked_at + self._timeout_s:
                    return False
                self._handle_loss(f"took longer than {self._timeout_s:g} s", HUNG)
            except PipelineLost as e:
                if not self._cancelled:
                    self._handle_loss(str(e), ENDED)
            else:
                continue
            if self._cancelled:
                self.release_resources()
                return False
            if until != float("inf"):
                return False
        if self._process is not None:
            self._runner.release_process(self._process)
            self._process = None
        return True

    def release_resources(self) -> None:
        """End our process, since the work will continue only later."""
        process, self._process, self._asked = self._process, None, 0
        if process is not None:
            self._runner.end_process(process)

    def cancel(self) -> None:
        """Stop the work, which is no longer wanted. May be called in another thread."""
        self._cancelled = True
        if (process := self._process) is not None:
            self._runner.end_process(process)

    def describe_trouble(self) -> str:
        """What people must know while it is worked aside; empty if it is only a little slow."""
        if self._why:
            return (
                f"the pipeline {self._why}; its records are tried one by one ({self._answered} of "
                f"{self._count})"
            )
        since = self._asked_at if self._asked else self._made_at
        for_s = time.monotonic() - since
        if for_s < TOLD_AFTER_S:
            return ""
        if not self._asked:
            return (
                f"{self._count} records wait for {for_s:.0f} s until other lanes in trouble are "
                "done"
            )
        return f"the pipeline has worked on {self._asked} records for {for_s:.0f} s"

    # One call

    @property
    def _answered(self) -> int:
        return len(self.answers.kinds)

    def send_first_request(self) -> None:
        """Send the first request now, so that the pipeline works while the node does something
        else; `continue_until` waits for the answer."""
        try:
            if self._answered < self._count and not self.is_poisoned:
                self._send_request()
        except PipelineLost as e:
            self._early = e

    def _await_answers(self, until: float) -> Answers:
        early, self._early = self._early, None
        if early is not None:
            raise early
        process = self._send_request()
        now = time.monotonic()
        return process.receive_answer(max(0.0, min(self._asked_at + self._timeout_s, until) - now))

    def _send_request(self) -> PipelineRunner:
        if self._process is None:
            self._process = self._runner.acquire_process()
            self._asked = 0
        if not self._asked:
            at = self._answered
            size = 1 if at < self._alone else min(self._calls.records, self._count - at)
            self._asked, self._asked_at = size, time.monotonic()
            self._process.send_request(self._columns.part(at, at + size), self.failures.count)
        return self._process

    def _accept_answers(self, answers: Answers) -> None:
        asked, failures = self._asked, self.failures.after_answers(answers)
        if len(answers.kinds) != asked and failures.count < POISONED_AT:
            raise PipelineLost(f"gave {len(answers.kinds)} answers to {asked} records")
        self._asked, self.failures = 0, failures
        self.answers.extend(answers)
        self._alone_failed |= bool(answers.errors)
        if asked == self._calls.records:
            self._calls.count_success()
        self._end_finished_trial()

    def _handle_loss(self, why: str, weight: int) -> None:
        asked, self._asked = self._asked, 0
        process, self._process = self._process, None
        proven = weight == HUNG or process is None or process.is_fresh
        if process is not None:
            self._runner.end_process(process)
        self._calls.lost += 1
        _log.warning("pipeline_lost", why=why, records=asked)
        if asked > 1:
            self._alone, self._alone_from = self._answered + asked, self._answered
            self._alone_failed = False
            self._alone_since, self._why = time.monotonic(), why
            return
        if not proven:  # an earlier record may be the cause: try again in a new process
            return
        self.answers.add_failure(why)
        self.failures = self.failures.plus_failure(weight)
        self._alone_failed = True
        self._end_finished_trial()

    def _end_finished_trial(self) -> None:
        """End the trial of single records once all were tried. If none failed alone, the call was
        too large: make calls smaller."""
        if not self._alone or self._answered < self._alone:
            return
        if not self._alone_failed and not self._why.startswith("left"):
            count, took_s = self._alone - self._alone_from, time.monotonic() - self._alone_since
            at_once = int(count * _CALL_S / took_s) if took_s > 0 else count
            self._calls.reduce_records(
                min(count // 2, at_once) if self._why.startswith("took") else count // 2
            )
        self._alone, self._why = 0, ""
