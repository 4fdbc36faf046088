"""Every decision of a leader, pure: frozen events in, effects out; no network, no clock, no event
loop (docs/core.md)."""
