"""What a coordinator tells before it leads, while its link comes and goes; and what a leader tells
of traffic."""

from __future__ import annotations

import time

from agents.coordinator.metrics import add_coordinator_metrics, add_geo_metrics
from agents.coordinator.process import CoordinatorProcess
from agents.core.events import GeoAnswered, LinkDown, LinkUp
from agents.core.model.geo import LaneTraffic, ProviderCalls, Source, TrafficAnswer, TrafficCommand
from agents.local.stack import INVENTORY
from agents.observe.metrics.samples import Samples
from agents.settings import Coordinator, Settings
from tests.core.world import World
from tests.observe.metrics.support import Scrape, written


def seen(process: CoordinatorProcess) -> Scrape:
    out = Samples()
    add_coordinator_metrics(process, out)
    return Scrape(written(out))


async def test_a_standby_does_not_lead_and_tells_nothing_of_the_fleet() -> None:
    process = CoordinatorProcess(Settings(coordinator=Coordinator(inventory=str(INVENTORY))))
    found = seen(process)
    assert (
        found.value("geolane_leader"),
        found.value("geolane_xmpp_up", worker="coordinator"),
    ) == (0, 0)
    assert found.names == {
        "geolane_leader",
        "geolane_xmpp_up",
        "geolane_coordinator_queue_length",
        "geolane_telemetry_dropped_total",
    }
    process.enqueue_event(LinkUp())
    assert (
        seen(process).value("geolane_xmpp_up"),
        seen(process).value("geolane_coordinator_queue_length"),
    ) == (1, 1)
    process.enqueue_event(LinkDown())
    assert seen(process).value("geolane_xmpp_up") == 0


def test_a_leader_tells_the_traffic_that_plans_count_and_what_it_cost() -> None:
    w = World(nodes=2, lanes=4, now_s=time.monotonic(), geo=1)
    w.fair(10)
    (asked,) = [x.command for x in w.asked_geo if isinstance(x.command, TrafficCommand)]
    source = Source("apple", valid_s=300.0)
    rows = (LaneTraffic(0, 1.4, source), LaneTraffic(1, None, source, "no route"))
    w.tell(GeoAnswered("geo-1", asked, TrafficAnswer(rows, ProviderCalls(12, 20_000))))
    out = Samples()
    add_geo_metrics(w.core.geo, out)
    found = Scrape(written(out))
    assert found.value("geolane_traffic_index") == 1.4, "there is no other"
    assert found.value("geolane_traffic_index", lane="0") == 1.4
    assert found.value("geolane_geo_calls") == 12
    assert found.value("geolane_geo_daily_calls") == 20_000
    assert found.value("geolane_geo_questions_total", command="traffic", outcome="answered") == 1
    assert found.value("geolane_geo_questions_total", command="traffic", outcome="failed") == 0
