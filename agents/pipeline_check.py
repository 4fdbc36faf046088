"""`geolane pipeline check`: a pipeline tried on sample records before it is shipped, in a process of its own that may fail, hang or
eat memory without harm.

`python -m agents.pipeline_check MODULE:FUNCTION SAMPLE` is that process: it says what it found in one line of JSON, the last."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from agents.core.records import Event, Record, parse
from agents.embedded.flights import sample
from agents.embedded.lines import events
from agents.errors import PipelineError
from agents.node.stage import NodeStage, load_pipeline
from agents.node.version import version_of

BATCH, RECORDS = 500, 5_000
MEMORY_BYTES = 4 << 30
OUT_FD = 3


class Verdict(msgspec.Struct):
    """`wrong`: what would hurt in production; `odd`: what only may. `ms`: p50 and p99 of a batch of 500."""

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


def spec_of(text: str) -> tuple[str, Path | None]:
    """`mine.py`, `mine.py:function` or `module:function`: what to load, and the folder that it is found in. Raises PipelineError."""
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


def check(text: str, sample_file: Path | None, timeout_s: float) -> Verdict:
    """Try it. Raises PipelineError where it cannot even be begun; what the trial finds is in the verdict."""
    name, folder = spec_of(text)
    path = os.pathsep.join(filter(None, (str(folder or Path.cwd()), os.environ.get("PYTHONPATH", ""))))
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "agents.pipeline_check", name, str(sample_file or ""), str(write)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=(write,),
            start_new_session=True,
        )
    finally:
        os.close(write)
    with open(read, "rb") as answer:
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return Verdict(wrong=[f"it was not done within {timeout_s:g} s"])
        said = answer.read()
    try:
        return msgspec.json.decode(said, type=Verdict)
    except msgspec.DecodeError:
        end = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
        return Verdict(wrong=[f"it ended the whole process ({end}): a node would start again and again"])


def report(v: Verdict) -> list[str]:
    """In words."""
    lines = [
        f"{v.version or 'pipeline'}: {v.records:,} records, {v.out:,} out, {v.filtered:,} filtered, {v.failed:,} failed"
    ]
    if v.rate_eps:
        lines.append(
            f"{v.rate_eps:,.0f} events/s on one core; a batch of {BATCH} takes {v.p50_ms:.1f} ms, {v.p99_ms:.1f} at p99"
        )
    if v.first_failure:
        lines.append(f"first failure: {v.first_failure}")
    lines += [f"WRONG: {x}" for x in v.wrong] + [f"note: {x}" for x in v.odd]
    if not v.wrong:
        lines.append("good to ship: geolane ctl rollout, once every node's machine has it")
    return lines


# ---- the process that may fail ----


def records(sample_file: str) -> list[Record]:
    """Sample events as a node sees them: the packaged flights, or an event per line. Raises PipelineError."""
    if sample_file:
        with open(sample_file, "rb") as f:
            raw = [value for _, value in zip(range(RECORDS), events(f), strict=False)]
    else:
        raw = [value for _, value in zip(range(RECORDS), sample(), strict=False)]
    now_ms = int(time.time() * 1000)
    found = []
    for n, value in enumerate(raw):
        event = parse(value, now_ms, 1 << 20, 1 << 40)
        if isinstance(event, Event) and event.lat is not None:
            found.append(Record(event.id.encode(), value, f"events.raw/0/{n}", event.ts_ms, "842a107ffffffff"))
    if not found:
        raise PipelineError("the sample has no event with coordinates")
    return found


def trial(name: str, sample_file: str) -> Verdict:
    v = Verdict()
    pipeline = load_pipeline(name)
    v.version = version_of(name)
    stage = NodeStage(pipeline, 1 << 20)
    some = records(sample_file)
    v.records = len(some)
    before = [(r.key, r.value, r.src, r.ts_ms, r.cell) for r in some]
    took, answers = [], []
    batches = [some[i : i + BATCH] for i in range(0, len(some), BATCH)]
    for batch in batches:
        begun = time.perf_counter()
        try:
            found = list(stage._run(batch))
        except PipelineError as e:
            v.first_failure = v.first_failure or str(e)[:300]
            found = []
            for r in batch:
                try:
                    found.append(stage._run([r])[0])
                except PipelineError as error:
                    v.failed += 1
                    v.first_failure = str(error)[:300]
                    found.append(None)
        took.append(time.perf_counter() - begun)
        answers += found
    v.filtered = sum(not a for a in answers) - v.failed
    v.out = sum(len(a) if isinstance(a, list) else a is not None for a in answers)
    total = sum(took)
    v.rate_eps = round(len(some) / total, 1) if total > 0 else 0.0
    took.sort()
    v.p50_ms, v.p99_ms = (round(1e3 * took[min(len(took) - 1, int(q * len(took)))], 3) for q in (0.5, 0.99))
    if v.failed:
        v.wrong.append(f"{v.failed:,} of {v.records:,} records fail: they would be dead letters")
    if before != [(r.key, r.value, r.src, r.ts_ms, r.cell) for r in some]:
        v.wrong.append("it changes the records that it is given: what is run again after an abort would differ")
    elif not v.failed:
        _again(stage, batches, answers, v)
    large = sum(len(a.value) > (1 << 20) for x in answers for a in (x if isinstance(x, list) else [x]) if a is not None)
    if large:
        v.wrong.append(f"{large:,} answers are larger than 1 MiB: they would be dead letters")
    return v


def _again(stage: NodeStage, batches: list[list[Record]], answers: Sequence[object], v: Verdict) -> None:
    if list(answers) != [a for batch in batches for a in stage._run(batch)]:
        v.odd.append("run again it answers otherwise: after an abort other values come out than would have")
    one = [stage._run([r])[0] for r in batches[0]]
    if one != list(answers[: len(one)]):
        v.odd.append("a record alone is answered otherwise than in a batch")


def main(name: str, sample_file: str, out_fd: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        verdict = trial(name, sample_file)
    except (PipelineError, OSError) as e:
        verdict = Verdict(wrong=[str(e)])
    except MemoryError:
        verdict = Verdict(wrong=[f"it needs more than {MEMORY_BYTES >> 30} GB of memory"])
    os.write(out_fd, msgspec.json.encode(verdict))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
