"""What a worker does with what the feed `tuning` says: it works by it at once, refuses what is
none, and acknowledges the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from agents.core.model.feeds import TuningValues
from agents.node.stage import NodeStage
from agents.settings import Worker
from agents.worker import tuning
from agents.worker.tuning import Dials
from tests.fixtures.kafka import KafkaServer
from tests.worker.support import Here, rig, until
from tests.worker.test_engine import done

BASE = Worker(commit_gap_ms=100, batch_records=50)


@dataclass
class Applied:
    """A worker's dials, and what was applied."""

    by: list[Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dials = Dials(BASE, self.by.append)

    def take(self, version: int, **values: int | float) -> None:
        self.dials.apply_tuning(TuningValues(version, tuple(values.items())))


def test_values_hold_over_the_settings_until_they_are_no_longer_said() -> None:
    w = Applied()
    assert (w.dials.version, w.dials.worker) == (0, BASE)
    w.take(17, commit_gap_ms=250, telemetry_period_s=0.5)
    assert w.dials.version == 17
    assert (w.by[-1].commit_gap_ms, w.by[-1].telemetry_period_s, w.by[-1].batch_records) == (
        250,
        0.5,
        50,
    )
    w.take(18)
    assert w.dials.version == 18
    assert w.by[-1] == BASE


def test_what_came_last_holds_whatever_its_version() -> None:
    """A fleet that begins anew counts anew, and the feed may have kept an older one's."""
    w = Applied()
    w.take(17, commit_gap_ms=250)
    w.take(0)
    assert (w.dials.version, w.dials.worker) == (0, BASE)


def test_the_same_again_applies_nothing() -> None:
    w = Applied()
    w.take(1, commit_gap_ms=250)
    w.take(1, commit_gap_ms=250)
    w.take(2, commit_gap_ms=250)
    assert (len(w.by), w.dials.version) == (1, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("commit_gap_ms", 60_001),
        ("commit_gap_ms", 0.5),
        ("telemetry_period_s", 0),
        ("windows", 3),
        ("pipeline", 1),
    ],
)
def test_what_is_none_is_refused_told_and_not_acknowledged(
    name: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []
    log = SimpleNamespace(
        info=lambda event, **_: None, error=lambda event, **more: refused.append(more["name"])
    )
    monkeypatch.setattr(tuning, "_log", log)
    w = Applied()
    w.take(1, commit_gap_ms=250, telemetry_period_s=0.5)
    w.take(2, **{"batch_records": 7, "commit_gap_ms": 250, "telemetry_period_s": 0.5, name: value})
    assert w.dials.version == 1
    assert w.dials.worker.batch_records == 7, "the others hold"
    assert (w.dials.worker.commit_gap_ms, w.dials.worker.telemetry_period_s) == (250, 0.5), (
        "and the one before"
    )
    assert refused == [name]
    w.take(3, batch_records=7)
    assert w.dials.version == 3


async def test_an_engine_goes_on_by_other_settings(kafka_server: KafkaServer) -> None:
    async with rig(kafka_server, lanes=1) as r:
        await r.fill_lane(0, 0, 200)
        w = await r.engine(NodeStage(Here(list), 1 << 20, r.topics))
        await w.assign((0, 1, 0))
        await until(lambda: done(w) == 200)
        few = sum(w.engine.meters.commit.counts)
        assert few < 40
        w.engine.apply_settings(Worker(commit_gap_ms=0, batch_records=5))
        await r.fill_lane(0, 200, 1)  # the batch that is being gathered is as before
        await until(lambda: done(w) == 201)
        await r.fill_lane(0, 201, 200)
        await until(lambda: done(w) == 401)
        assert sum(w.engine.meters.commit.counts) >= few + 40
        assert await r.sources(r.topics.clean, 401) == [f"raw/0/{i}" for i in range(401)]
