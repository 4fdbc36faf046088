"""What a geo worker tells of its providers."""

from __future__ import annotations

from agents import settings
from agents.geo.online import Online
from agents.geo.process import GeoEngine
from agents.geo.providers import Providers
from agents.geo.stage import GeoStage
from agents.observe.metrics.samples import Samples
from tests.geo.support import TableGeocoder
from tests.geo.test_stage import InTable


async def test_metrics_of_each_server() -> None:
    photon = Online("Photon", "http://127.0.0.1:1")
    photon.counts.calls, photon.counts.failed = 7, 2
    photon.refuse_for(60.0, "it is away")
    geocoder = TableGeocoder()
    providers = Providers(geocoder, geocoder, geocoder, None, (photon,))
    stage = GeoStage(InTable(), 1, 1000, 0, 1.0)
    engine = GeoEngine(settings.Kafka(), settings.Worker(), stage, "B", providers, lambda: None)
    out = Samples()
    engine.add_metrics("geo-1", out)
    samples = [sample for family in out.families() for sample in family.samples]
    assert {sample.name: sample.value for sample in samples} == {
        "geolane_maps_calls_total": 7.0,
        "geolane_maps_failed_total": 2.0,
        "geolane_maps_circuit_open": 1.0,
    }
    assert all(x.labels == {"worker": "geo-1", "server": "Photon"} for x in samples)
