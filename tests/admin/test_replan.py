"""`geolane replan`: the same plans again, byte for byte; what differs, what is damaged, and what
other settings would have done."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from agents.__main__ import main
from agents.admin.replan import (
    Again,
    OtherwiseAnswer,
    Span,
    count_plans,
    replan_span,
    replan_with_settings,
)
from agents.base.errors import JournalError, OperatorError
from agents.core.model.plan import Decided
from agents.core.model.times import format_utc, parse_time
from agents.core.planning.recording import plan_from_json
from agents.core.planning.replay import ReplayTotals
from agents.journal import store
from agents.journal.decisions import decompress_blob, open_ticks
from agents.journal.store import Journal
from kernels.tables import Numerics
from tests.cli.held import hold_line
from tests.core.planning.support import NUMPY, day, world

BEGAN_MS = 1_782_900_000_000  # 2026-07-01T10:00:00Z
EVERY_MS = 5_000
HOUR = Span(BEGAN_MS, BEGAN_MS + 3_600_000)
AN_HOUR = [format_utc(HOUR.from_ms), format_utc(HOUR.to_ms)]


async def write(path: Path, decided: list[Decided]) -> None:
    async with Journal(path) as one:
        for n, tick in enumerate(decided):
            one.queue_tick(BEGAN_MS + n * EVERY_MS, 3, tick)
        assert one.ticks_dropped == 0


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The journal of an hour under the real planner: a plan each five seconds."""
    path = tmp_path_factory.mktemp("hour") / "journal.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "TICKS_WAITING", 10_000)
        asyncio.run(write(path, list(day(world(), 720, 5.0))))
    return path


@pytest.fixture
def copy(hour: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(hour, tmp_path / "journal.sqlite3"))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command, with the kernels that the journal was made with: `numpy`, or ones that find
    everything a little dear."""
    import sys

    def choose(want: str = "auto") -> Numerics:
        if want not in ("auto", "numpy", "dear"):
            raise ValueError(f"there is no kernel {want!r}")
        return dear() if want == "dear" else NUMPY

    monkeypatch.setitem(
        sys.modules, "kernels.scoring.choose", SimpleNamespace(choose_numerics=choose)
    )

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["replan", *words])

    return run


def dear() -> Numerics:
    """Kernels that differ: each cost is an eighth more."""

    def costs(problem: object) -> object:
        matrix = NUMPY.costs(problem)  # type: ignore[arg-type]  # handed through
        return replace(matrix, cost=matrix.cost * 1.125)  # type: ignore[type-var, attr-defined]  # the oracle's

    return Numerics("dear", "to differ", costs, NUMPY.solve)  # type: ignore[arg-type]  # as above


def change(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement, values)
        db.commit()


# ---- the same again ----


def test_every_plan_of_an_hour_comes_out_the_same_byte_for_byte(
    hour: Path, cli: Callable[..., Result]
) -> None:
    done = cli(*AN_HOUR, "--journal", str(hour))
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.output.splitlines() == [
        "720 plans from 2026-07-01T10:00:00.000Z to 2026-07-01T10:59:55.000Z, "
        "made again with the kernels numpy (the tests' choice)",
        "720 are the same, byte for byte",
    ]


def test_plans_did_something_that_could_have_differed(hour: Path) -> None:
    tally = ReplayTotals()
    with open_ticks(hour) as ticks:
        for tick in ticks.read_between(HOUR.from_ms, HOUR.to_ms):
            tally.add_plan(plan_from_json(decompress_blob(tick.plan, "the plan")))
    assert tally.moves > 50
    assert tally.placed > 24


def test_only_the_span_is_planned_again_and_of_it_the_first_so_many(hour: Path) -> None:
    out = replan_span(hour, Span(BEGAN_MS + 60_000, BEGAN_MS + 120_000), NUMPY)
    assert (out.ticks, out.first) == (13, "2026-07-01T10:01:00.000Z")
    assert replan_span(hour, HOUR._replace(limit=7), NUMPY).ticks == 7


def test_replay_changes_nothing_in_the_file(copy: Path) -> None:
    before = copy.read_bytes()
    replan_span(copy, HOUR._replace(limit=50), NUMPY)
    assert copy.read_bytes() == before


def test_file_that_may_not_be_written_is_read(copy: Path) -> None:
    copy.chmod(0o444)
    copy.parent.chmod(0o555)
    try:
        assert replan_span(copy, HOUR._replace(limit=3), NUMPY).same == 3
    finally:
        copy.parent.chmod(0o755)


async def test_journal_is_replayed_while_a_coordinator_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    ticks = list(day(world(), 40))
    async with Journal(path) as one:
        running = asyncio.create_task(one.run())
        seen = 0
        for n, tick in enumerate(ticks):
            one.queue_tick(BEGAN_MS + n * EVERY_MS, 3, tick)
            if n % 10 == 9:
                async with asyncio.timeout(20):
                    while (
                        out := await asyncio.to_thread(replan_span, path, HOUR, NUMPY)
                    ).ticks <= seen:
                        await asyncio.sleep(0.01)
                assert out.different == []
                seen = out.ticks
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (await asyncio.to_thread(replan_span, path, HOUR, NUMPY)).same == 40


# ---- what differs ----


def test_other_kernels_are_told_apart_and_the_difference_is_in_words(
    hour: Path, cli: Callable[..., Result]
) -> None:
    done = cli(*AN_HOUR, "--journal", str(hour), "--kernel", "dear", "--limit", "20")
    assert done.exit_code == 1
    told = re.search(
        r"^0 are the same, byte for byte; 20 are not \((\d+) in what they do, (\d+) in figures",
        done.output,
        re.M,
    )
    assert told is not None
    assert int(told[1]) > 0 < int(told[2])
    assert int(told[1]) + int(told[2]) == 20
    assert "made with numpy (20): only equal kernels promise equal bytes" in done.output
    assert "2026-07-01T10:00:00.000Z  tick 1, improve:" in done.output
    assert "  lane 0: given to" in done.output
    assert "and 17 more" in done.output


def test_other_kernels_that_give_the_same_bytes_are_the_same(
    copy: Path, cli: Callable[..., Result]
) -> None:
    change(copy, "UPDATE ticks SET numerics = 'other' WHERE id <= 10")
    done = cli(*AN_HOUR, "--journal", str(copy), "--limit", "50")
    assert done.exit_code == 0
    assert "made with other (10): only equal kernels promise equal bytes" in done.output


@pytest.mark.parametrize("at", [0, 1, 77, -1])
def test_one_changed_byte_of_a_stored_plan_is_found(
    copy: Path, cli: Callable[..., Result], at: int
) -> None:
    with closing(sqlite3.connect(copy)) as db:
        plan = bytearray(
            zlib.decompress(db.execute("SELECT plan FROM ticks WHERE id = 9").fetchone()[0])
        )
    plan[at] ^= 1
    change(copy, "UPDATE ticks SET plan = ? WHERE id = 9", zlib.compress(bytes(plan)))
    done = cli(*AN_HOUR, "--journal", str(copy), "--json", "--limit", "50")
    found = hold_line(done.output, Again)
    assert (done.exit_code, found.same, [d.tick for d in found.different]) == (1, 49, [9])
    assert "its bytes are not those that were written" in found.different[0].words[0]


def test_changed_input_is_found_by_another_plan(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db:
        moment = zlib.decompress(db.execute("SELECT moment FROM ticks WHERE id = 9").fetchone()[0])
    data = json.loads(moment)
    data["value"]["lanes"]["rate_eps"][4] += 50.0
    change(
        copy, "UPDATE ticks SET moment = ? WHERE id = 9", zlib.compress(json.dumps(data).encode())
    )
    out = replan_span(copy, HOUR._replace(limit=50), NUMPY)
    assert [d.tick for d in out.different] == [9]
    assert any(w.startswith("load_eps of row 4:") for w in out.different[0].words)


def test_inputs_that_the_planner_refuses_differ_and_say_why(copy: Path) -> None:
    with closing(sqlite3.connect(copy)) as db:
        moment = json.loads(
            zlib.decompress(db.execute("SELECT moment FROM ticks WHERE id = 9").fetchone()[0])
        )
    moment["value"]["lanes"]["rate_eps"][4] = -1.0
    change(
        copy, "UPDATE ticks SET moment = ? WHERE id = 9", zlib.compress(json.dumps(moment).encode())
    )
    assert (
        "the planner refuses these inputs now: lane 4"
        in replan_span(copy, HOUR._replace(limit=9), NUMPY).different[0].words[0]
    )


# ---- other settings ----


def test_same_settings_in_the_model_do_what_was_done(hour: Path) -> None:
    """The hour was made by the model's own rules, so following it gives it back, and shows what the
    model adds: nothing."""
    out = replan_with_settings(hour, HOUR._replace(limit=300), NUMPY, {"windows": "2"})
    assert out.recorded.moves > 20
    assert out.recorded == out.same_settings == out.other_settings


def test_other_settings_show_what_they_would_have_done(
    hour: Path, cli: Callable[..., Result]
) -> None:
    some = [*AN_HOUR, "--journal", str(hour), "--limit", "200"]
    done = cli(*some, "--with", "move_ms=200", "--with", "comfortable=0.8", "--json")
    assert done.exit_code == 0
    found = hold_line(done.output, OtherwiseAnswer)
    assert found.settings == {"move_ms": "200", "comfortable": "0.8"}
    assert found.other_settings.moves < found.same_settings.moves / 2
    assert found.other_settings.busiest_most > found.same_settings.busiest_most
    assert found.same_settings == found.recorded
    text = cli(*some, "--with", "move_ms=200").output
    assert "move_ms=200, modelled" in text
    assert "Modelled: load and health as recorded" in text


def test_model_follows_its_own_lanes_and_not_the_record(hour: Path) -> None:
    """Settings under which nothing moves must not profit from the moves that were made."""
    out = replan_with_settings(hour, HOUR._replace(limit=300), NUMPY, {"windows": "100000"})
    assert out.other_settings.moves == 0
    assert out.other_settings.busiest_most > 1.2 * out.recorded.busiest_most


# ---- what cannot be done ----


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["2026-07-01T08:00:00Z", "2026-07-01T09:00:00Z"],
            "no plan was made from 2026-07-01T08:00:00.000Z to 2026-07-01T09:00:00.000Z; the "
            "journal has 720, "
            "from 2026-07-01T10:00:00.000Z to 2026-07-01T10:59:55.000Z",
        ),
        (["teatime", "now"], "'teatime' is not a valid time; write 2026-07-01T10:00:00Z"),
        (["-5m", "-10m"], "the span ends before it begins"),
        ([*AN_HOUR, "--with", "windows"], "--with windows: write KEY=VALUE"),
        ([*AN_HOUR, "--with", "window=3"], "did you mean windows?"),
        ([*AN_HOUR, "--with", "windows=-3"], "windows=-3: not a whole number from 0"),
        ([*AN_HOUR, "--kernel", "abacus"], "--kernel abacus: there is no kernel 'abacus'"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    hour: Path, cli: Callable[..., Result], words: list[str], says: str
) -> None:
    done = cli(*words, "--journal", str(hour))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


def test_missing_file_is_named(tmp_path: Path, cli: Callable[..., Result]) -> None:
    done = cli("-10m", "--journal", str(tmp_path / "none.sqlite3"))
    assert done.exit_code == 2
    assert "none.sqlite3" in done.stderr


async def test_journal_without_any_plan_says_so(tmp_path: Path) -> None:
    async with Journal(tmp_path / "j"):
        pass
    with pytest.raises(JournalError, match="no plan was ever made"):
        await asyncio.to_thread(count_plans, tmp_path / "j", HOUR)


def test_tick_of_another_format_names_the_tick_and_the_way_out(
    copy: Path, cli: Callable[..., Result]
) -> None:
    with closing(sqlite3.connect(copy)) as db:
        moment = json.loads(
            zlib.decompress(db.execute("SELECT moment FROM ticks WHERE id = 9").fetchone()[0])
        )
    moment["format"] = 0
    change(
        copy, "UPDATE ticks SET moment = ? WHERE id = 9", zlib.compress(json.dumps(moment).encode())
    )
    done = cli(*AN_HOUR, "--journal", str(copy))
    assert done.exit_code == 2
    assert (
        "tick 9 (2026-07-01T10:00:40.000Z): moment: written in format 0, read here is format 1: "
        "use the version of geolane that wrote it"
    ) in done.stderr


def test_damaged_input_names_the_tick(copy: Path) -> None:
    change(copy, "UPDATE ticks SET moment = ? WHERE id = 9", b"\x00")
    with pytest.raises(JournalError, match=r"tick 9 .*: the moment is damaged"):
        replan_span(copy, HOUR, NUMPY)


# ---- times ----

NOW = datetime(2026, 7, 1, 10, 30, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-07-01T10:00:00Z", "2026-07-01T10:00:00.000Z"),
        ("2026-07-01T12:00:00.250+02:00", "2026-07-01T10:00:00.250Z"),
        ("2026-07-01 10:00", "2026-07-01T10:00:00.000Z"),
        ("9:05", "2026-07-01T09:05:00.000Z"),
        ("23:59:59.5", "2026-07-01T23:59:59.500Z"),
        ("-10m", "2026-07-01T10:20:00.000Z"),
        ("-1.5h", "2026-07-01T09:00:00.000Z"),
        ("-2d", "2026-06-29T10:30:00.000Z"),
        ("-30s", "2026-07-01T10:29:30.000Z"),
        ("now", "2026-07-01T10:30:00.000Z"),
    ],
)
def test_times_are_read_as_people_write_them(text: str, at: str) -> None:
    assert format_utc(parse_time(text, NOW)) == at


@pytest.mark.parametrize(
    "text", ["", "25:00", "-10", "10m", "yesterday", "-99999999999d", "2026-13-01"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(OperatorError, match="is not a valid time"):
        parse_time(text, NOW)


def test_negative_times_are_no_options(hour: Path, cli: Callable[..., Result]) -> None:
    for text in ("-10m", "-2h", "-1d", "-30s"):
        assert "no plan was made from" in cli(text, "--journal", str(hour)).stderr
