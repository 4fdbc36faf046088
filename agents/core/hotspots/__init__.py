"""From rises to hotspots: when one opens, grows and ends (docs/hotspots.md)."""
