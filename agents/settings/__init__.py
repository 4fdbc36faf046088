"""Settings are read once, at the start: one TOML file, the environment over it, flags over that. An
error names the place, the key, and the right form."""

from agents.settings.geo import Apple, Geo, Nominatim, Photon, Valhalla
from agents.settings.processes import (
    PASS_THROUGH,
    Analytics,
    Coordinator,
    Flink,
    Metrics,
    Router,
    Worker,
)
from agents.settings.servers import ACCOUNT, Ejabberd, Kafka, Topics, Xmpp
from agents.settings.sources import (
    DEFAULT,
    Loaded,
    decode_toml,
    find_secret_file,
    gather_settings,
    load_settings,
    read_secret,
    with_passwords_beside,
)
from agents.settings.tables import Settings

__all__ = [
    "ACCOUNT",
    "DEFAULT",
    "PASS_THROUGH",
    "Analytics",
    "Apple",
    "Coordinator",
    "Ejabberd",
    "Flink",
    "Geo",
    "Kafka",
    "Loaded",
    "Metrics",
    "Nominatim",
    "Photon",
    "Router",
    "Settings",
    "Topics",
    "Valhalla",
    "Worker",
    "Xmpp",
    "decode_toml",
    "find_secret_file",
    "gather_settings",
    "load_settings",
    "read_secret",
    "with_passwords_beside",
]
