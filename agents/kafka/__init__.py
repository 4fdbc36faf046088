"""Kafka, the data plane: connection, topics, leases, the placement log, offsets, and the leased
producer."""
