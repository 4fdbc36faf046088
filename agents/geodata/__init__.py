"""Public data that geolane ships; README.md in this folder has the source and licence of each
file."""

from agents.geodata.rtt import RTT_TABLE, read_rtt

__all__ = ["RTT_TABLE", "read_rtt"]
