"""A worker's load: `<telemetry/>` on its own feed."""

from plugins.telemetry.stanza import TelemetryStanza, telemetry_feed, telemetry_of, telemetry_xml

__all__ = ["TelemetryStanza", "telemetry_feed", "telemetry_of", "telemetry_xml"]
