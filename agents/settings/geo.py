"""The table `geo`: which providers of maps are used, and how each is reached (docs/maps.md)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from agents.settings.fields import about, about_file, choice

APPLE_URL = "https://maps-api.apple.com"
APPLE_TEAM_CALLS = 25_000
"""What Apple allows a team in a day."""
_LOOPBACK = r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])"
_TLS_URL = rf"\A(https://[^\s/@?#]+|http://{_LOOPBACK}(:\d+)?)(/[^\s?#]*)?\Z"
_OWN_URL = r"\A(|https?://[^\s/@?#]+(/[^\s?#]*)?)\Z"
_OWN_FORM = "http:// or https://, with a host, or empty"
_APPLE_ID = r"\A(|[A-Z0-9]{10})\Z"
_APPLE_ID_FORM = "10 capital letters and digits, or empty"
_CA = "CA certificates (PEM) for https. If left out: the system's."


class Apple(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Apple Maps Server API. Apple's terms allow temporary storage only (docs/maps.md)."""

    team_id: Annotated[
        str,
        about(
            "The team's id in Apple's developer account.",
            form=_APPLE_ID_FORM,
            pattern=_APPLE_ID,
            secret=True,
        ),
    ] = ""
    key_id: Annotated[
        str,
        about("The id of the Maps key.", form=_APPLE_ID_FORM, pattern=_APPLE_ID, secret=True),
    ] = ""
    key_file: Annotated[
        str,
        about_file(
            "File with the private Maps key as Apple gives it (.p8), mode 0600. If left out: the "
            "systemd credential apple-maps-key."
        ),
    ] = ""
    daily_calls: Annotated[
        int,
        about(
            "Most calls in any 24 hours, of all processes that share budget_file, so of one "
            "machine. Apple allows a team 25000, MapKit JS included: divide it among machines.",
            "calls",
            ge=1,
            le=APPLE_TEAM_CALLS,
        ),
    ] = 20_000
    budget_file: Annotated[
        str,
        about(
            "Where the calls are counted, so that a restart forgets none.",
            form="a file's path",
            min_length=1,
        ),
    ] = "apple-maps-budget.json"
    url: Annotated[
        str,
        about(
            "Apple's server. What any other server answers is called invented, wherever it is "
            "shown.",
            form="https://HOST (http:// on loopback only)",
            pattern=_TLS_URL,
        ),
    ] = APPLE_URL

    def __repr__(self) -> str:
        """Without the ids, so that no log and no traceback has them."""
        return f"Apple(url={self.url!r}, daily_calls={self.daily_calls}, ...)"


class OwnServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server of maps of your own."""

    url: Annotated[str, about("Its address.", form=_OWN_FORM, pattern=_OWN_URL)] = ""
    ca_file: Annotated[str, about_file(_CA)] = ""


class Photon(OwnServer, frozen=True, forbid_unknown_fields=True):
    """A Photon server of your own."""


class Nominatim(OwnServer, frozen=True, forbid_unknown_fields=True):
    """A Nominatim server of your own."""


class Valhalla(OwnServer, frozen=True, forbid_unknown_fields=True):
    """A Valhalla server of your own."""


class Geo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who finds places and tells travel times (docs/maps.md). It is used where the inventory has a
    [[geo]]."""

    geocoder: Annotated[
        str,
        choice(
            "What finds the places that events name; offline needs no account and no network.",
            "offline",
            "apple",
            "photon",
            "nominatim",
        ),
    ] = "offline"
    travel_times: Annotated[
        str,
        choice(
            "What tells the traffic. With none, no plan depends on traffic.",
            "none",
            "apple",
            "valhalla",
        ),
    ] = "none"
    public_servers: Annotated[
        bool,
        about(
            "Whether OpenStreetMap's public servers may be asked, with up to 1 request/s. Their "
            "rules forbid bulk use: no stream with places in it."
        ),
    ] = False
    wait_h: Annotated[
        float,
        about(
            "An event whose place cannot be looked up now (a budget is used up, a server is away) "
            "waits for this long; then it becomes a dead letter.",
            "h",
            gt=0,
            le=8760,
        ),
    ] = 24.0
    apple: Apple = Apple()
    photon: Photon = Photon()
    nominatim: Nominatim = Nominatim()
    valhalla: Valhalla = Valhalla()
