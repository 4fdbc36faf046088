"""The fleet: what is known about workers and partitions, and what is done about it."""
