"""Properties are about values, not about how busy the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("geolane", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("geolane")
