"""What a process tells Prometheus: names (declared.py), values of one look (samples.py), the
endpoint (endpoint.py)."""
