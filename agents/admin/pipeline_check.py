"""`geolane pipeline check`: tries a pipeline on sample records before it is shipped. It runs in the
same kind of process as on a node, so it may fail, hang, fork or use up memory without harm."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

import msgspec

from agents.base.errors import PipelineError
from agents.base.json_lines import read_events
from agents.base.text import counted
from agents.core.lanes.records import Event, Record, parse_event
from agents.local.demo.flights import sample_events
from agents.node.contract import FAILED, ONE, Answers, RecordColumns, columns_from_records
from agents.node.part import Calls, Failures, Part
from agents.node.runner import Pipelines
from agents.settings import Worker

BATCH, RECORDS = 500, 5_000
LIMIT = 1 << 20


class PipelineVerdict(msgspec.Struct):
    """`wrong`: faults that would do harm in production. `odd`: findings that only may. `p50_ms`,
    `p99_ms`: the time for a batch of 500 records."""

    version: str = ""
    records: int = 0
    out: int = 0
    filtered: int = 0
    failed: int = 0
    first_failure: str = ""
    rate_eps: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    wrong: list[str] = []
    odd: list[str] = []


def parse_pipeline_name(text: str) -> tuple[str, Path | None]:
    """From `mine.py`, `mine.py:function` or `module:function`: the name to load, and the folder to
    find it in.

    Raises PipelineError."""
    file, _, function = text.partition(":")
    if file.endswith(".py"):
        path = Path(file)
        if not path.is_file():
            raise PipelineError(f"{file}: there is no such file")
        if not path.stem.isidentifier():
            raise PipelineError(f"{file}: a module's name is letters, digits and underscores")
        return f"{path.stem}:{function or 'pipeline'}", path.resolve().parent
    if not function:
        raise PipelineError(f"{text!r}: give FILE.py or MODULE:FUNCTION")
    return text, None


def check_pipeline(text: str, sample_file: Path | None, timeout_s: float) -> PipelineVerdict:
    """Try the pipeline. Faults that the trial finds are in the verdict.

    Raises PipelineError if the trial cannot even begin."""
    name, folder = parse_pipeline_name(text)
    some = columns_from_records(read_sample_records(sample_file))
    memory_mb = Worker().pipeline_memory_mb
    runner = Pipelines(
        name, memory_mb, path=str(folder or Path.cwd()), printed=_print_output, start_s=timeout_s
    )
    try:
        return _Trial(runner, some, timeout_s).run()
    except PipelineError as e:
        return PipelineVerdict(wrong=[str(e)])
    finally:
        runner.close()


def read_sample_records(sample_file: Path | None) -> list[Record]:
    """Sample events as a node gets them: from a file with an event per line, or else the packaged
    flights.

    Raises PipelineError."""
    if sample_file:
        with sample_file.open("rb") as f:
            raw = [value for _, value in zip(range(RECORDS), read_events(f), strict=False)]
    else:
        raw = [value for _, value in zip(range(RECORDS), sample_events(), strict=False)]
    now_ms = int(time.time() * 1000)
    found = []
    for n, value in enumerate(raw):
        event = parse_event(value, now_ms, LIMIT, 1 << 40)
        if isinstance(event, Event) and event.lat is not None:
            key = event.id.encode()
            found.append(Record(key, value, f"events.raw/0/{n}", event.ts_ms, "842a107ffffffff"))
    if not found:
        raise PipelineError("the sample has no event with coordinates")
    return found


class _Trial:
    """One trial. `_call_s` bounds one call. It is shorter than on a node, so that several calls can
    time out within `timeout_s`."""

    def __init__(self, runner: Pipelines, columns: RecordColumns, timeout_s: float) -> None:
        self._runner, self._columns = runner, columns
        self._timeout_s, self._call_s = timeout_s, min(Worker().pipeline_timeout_s, timeout_s / 4)
        self._until = time.monotonic() + timeout_s
        self._verdict = PipelineVerdict(records=len(columns[0]))

    def run(self) -> PipelineVerdict:
        v, found, took = self._verdict, Answers(), []
        before = None
        for at in range(0, v.records, BATCH):
            begun = time.perf_counter()
            answers = self._run_batch(at, at + BATCH)
            took.append(time.perf_counter() - begun)
            found.extend(answers)
            now = self._runner.count_leftovers()
            # what the first batch leaves counts as normal; more after that does not
            before = before or now
            if len(found.kinds) < min(v.records, at + BATCH):
                break
        v.version = self._runner.version
        self._count_outcomes(found)
        if not v.wrong:
            v.rate_eps = round(v.records / sum(took), 1)
            took.sort()
            v.p50_ms, v.p99_ms = (
                round(1e3 * took[min(len(took) - 1, int(q * len(took)))], 3) for q in (0.5, 0.99)
            )
            self._compare_second_run(found)
        if before and now[0] > before[0]:
            v.wrong.append(f"it leaves processes behind: {now[0]} after {len(took)} batches")
        if before and now[1] > before[1]:
            v.wrong.append(f"it leaves threads behind: {now[1]} after {len(took)} batches")
        return v

    def _run_batch(self, begin: int, end: int, size: int = BATCH) -> Answers:
        some = self._columns.part(begin, end)
        calls = Calls()
        calls.records = size
        part = Part(self._runner, some, Failures(), calls, self._call_s)
        while not part.continue_until(self._until):
            if time.monotonic() >= self._until:
                self._verdict.wrong.append(f"it did not finish within {self._timeout_s:g} s")
                part.release_resources()
                break
        else:
            if part.is_poisoned:
                in_a_row = part.failures.records
                self._verdict.wrong.append(
                    f"{in_a_row} records in a row fail: a lane would stop there"
                )
        return part.answers

    def _count_outcomes(self, found: Answers) -> None:
        v = self._verdict
        kinds = found.kinds
        v.failed, v.filtered = kinds.count(FAILED), kinds.count(0)
        v.out = len(found.values)
        if found.errors:
            v.first_failure = found.errors[0]
            v.wrong.insert(
                0, f"{v.failed:,} of {len(kinds):,} records fail: they would be dead letters"
            )
        hard = Counter(e for e in found.errors if e.startswith(("ended", "took", "left", "closed")))
        v.wrong += [f"it {why}: {count:,} of these records" for why, count in hard.most_common(5)]
        large = sum(len(value) > LIMIT for value in found.values)
        if large:
            v.wrong.append(f"{large:,} answers are larger than 1 MiB: they would be dead letters")

    def _compare_second_run(self, found: Answers) -> None:
        v = self._verdict
        again = Answers()
        for at in range(0, v.records, BATCH):
            again.extend(self._run_batch(at, at + BATCH))
        if v.wrong:
            return
        if again != found:
            v.odd.append(
                "run again, it answers differently: after an abort, other values would come out"
            )
        alone = self._run_batch(0, BATCH, 1)
        if not v.wrong and alone != _first_answers(found, len(alone.kinds)):
            v.odd.append("it answers differently for a record alone and in a batch")


def _first_answers(answers: Answers, count: int) -> Answers:
    kinds = answers.kinds[:count]
    came = sum(1 if kind == ONE else max(0, kind) for kind in kinds)
    return Answers(kinds, answers.keys[:came], answers.values[:came])


def _print_output(text: str, left_out: int) -> None:
    more = f" ({counted(left_out, 'line')} left out)" if left_out else ""
    print(f"printed: {text}{more}", file=sys.stderr)


def report_lines(v: PipelineVerdict) -> list[str]:
    """The verdict in words."""
    lines = [
        f"{v.version or 'pipeline'}: {counted(v.records, 'record')}, {v.out:,} out, {v.filtered:,} "
        f"filtered, {v.failed:,} failed"
    ]
    if v.rate_eps:
        lines.append(
            f"{v.rate_eps:,.0f} events/s on one core; a batch of {BATCH} takes {v.p50_ms:.1f} ms, "
            f"{v.p99_ms:.1f} at p99"
        )
    if v.first_failure:
        lines.append(f"first failure: {v.first_failure}")
    lines += [f"WRONG: {x}" for x in v.wrong] + [f"note: {x}" for x in v.odd]
    if not v.wrong:
        lines.append("good to ship: geolane ctl rollout, once every node's machine has it")
    return lines
