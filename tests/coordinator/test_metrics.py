"""What a coordinator tells before it leads, while its link comes and goes."""

from __future__ import annotations

from agents.coordinator.metrics import add_coordinator_metrics
from agents.coordinator.process import CoordinatorProcess
from agents.core.events import LinkDown, LinkUp
from agents.local.stack import INVENTORY
from agents.observe.metrics.samples import Samples
from agents.settings import Coordinator, Settings
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
