"""A worker's load: `<telemetry/>` on its own feed."""

from plugins.telemetry.stanza import (
    TelemetryStanza,
    feed_of_worker,
    telemetry_from_xml,
    telemetry_to_xml,
)

__all__ = ["TelemetryStanza", "feed_of_worker", "telemetry_from_xml", "telemetry_to_xml"]
