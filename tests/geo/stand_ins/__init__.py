"""Servers that speak the API of a provider; that of Apple Maps is in agents/local/demo/maps."""
