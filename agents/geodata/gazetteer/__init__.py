"""Places offline: a table of cities, regions, countries and airports, found by name and by
coordinates."""
