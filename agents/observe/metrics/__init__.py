"""What a process reports to Prometheus: names (declared.py), the values of one scrape (samples.py),
the endpoint (endpoint.py)."""
