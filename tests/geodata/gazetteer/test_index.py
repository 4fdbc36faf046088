"""Offline places: what the text says counts first, then the number of people, and the answer says
so. Each line here is a rule of docs/places.md."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.base.errors import PlaceUnknown
from agents.core.model.places import MOST_CHARACTERS, Place, Precision
from agents.geodata.gazetteer.columns import Columns, Country, Directory, Region
from agents.geodata.gazetteer.index import FAR_KM, PlaceIndex
from agents.geodata.gazetteer.load import load_place_index
from kernels.geo import haversine_km


@pytest.fixture(scope="module")
def index() -> PlaceIndex:
    return load_place_index()


def where(place: Place) -> tuple[str, str, str]:
    return place.name, place.region, place.country


@pytest.mark.parametrize(
    ("text", "name", "region", "country"),
    [
        ("Springfield, Illinois", "Springfield", "Illinois", "US"),
        ("springfield , il", "Springfield", "Illinois", "US"),
        ("Springfield", "Springfield", "Missouri", "US"),  # the largest of them
        ("Springfield, Sangamon County, IL", "Springfield", "Illinois", "US"),
        ("Paris", "Paris", "Ile-de-France", "FR"),
        ("Paris, TX", "Paris", "Texas", "US"),
        ("Paris TX", "Paris", "Texas", "US"),
        ("Paris (Texas)", "Paris", "Texas", "US"),
        ("Panama, Panama", "Panama City", "Panama", "PA"),  # a country is not in itself
        ("Billings, MT", "Billings", "Montana", "US"),  # not a mount
        ("Ontario, CA", "Ontario", "California", "US"),
        ("Kailua/Kona, HI", "Kailua-Kona", "Hawaii", "US"),
        ("Berlin 10115", "Berlin", "Berlin", "DE"),
        ("San Juan, PR, USA", "San Juan", "", "PR"),
        ("Portland OR USA", "Portland", "Oregon", "US"),
        ("Munich, Bavaria", "Munich", "Bayern", "DE"),
        ("Sittingbourne, Kent, United Kingdom", "Sittingbourne", "England", "GB"),
        ("Yokohama, Kanagawa Prefecture", "Yokohama", "Kanagawa", "JP"),
        ("Europe (Frankfurt)", "Frankfurt am Main", "Hesse", "DE"),
        ("Biel/Bienne", "Biel/Bienne", "Bern", "CH"),
        ("None, Italy", "None", "Piedmont", "IT"),
        ("Frankfurt am Main, DE", "Frankfurt am Main", "Hesse", "DE"),
        ("Frankfurt/Oder", "Frankfurt (Oder)", "Brandenburg", "DE"),
        ("Dover, DE", "Dover", "Delaware", "US"),  # DE is Delaware, too
        ("Los Angeles, CA", "Los Angeles", "California", "US"),
        ("Toronto, ON", "Toronto", "Ontario", "CA"),
        ("Toronto, CA", "Toronto", "Ontario", "CA"),
        ("London, UK", "London", "England", "GB"),
        ("Shinjuku, Tokyo", "Shinjuku", "Tokyo", "JP"),
        (
            "1600 Pennsylvania Ave NW, Washington, DC 20500",
            "Washington",
            "District of Columbia",
            "US",
        ),
        ("10115 Berlin", "Berlin", "Berlin", "DE"),
        ("New York", "New York City", "New York", "US"),  # not the state
        ("Washington", "Washington", "District of Columbia", "US"),  # a capital, not the state
        ("St. Louis", "St. Louis", "Missouri", "US"),
        ("Saint Louis, MO", "St. Louis", "Missouri", "US"),
        ("Bombay", "Mumbai", "Maharashtra", "IN"),  # not Bombay in the state of New York
        ("Nice", "Nice", "Provence-Alpes-Cote-d'Azur", "FR"),  # not Niš
    ],
)
def test_what_the_text_says_and_then_people_decide(
    index: PlaceIndex, text: str, name: str, region: str, country: str
) -> None:
    place = index.find(text)
    assert where(place) == (name, region, country)
    assert place.precision is Precision.CITY
    assert place.provider == "offline"


@pytest.mark.parametrize(
    "text",
    [
        "München",
        "MÜNCHEN",
        "Munchen",
        "Muenchen",
        "Munich",
        "Мюнхен",
        "ミュンヘン",
        "\u202eMünchen\u202c",
    ],
)
def test_a_city_is_found_in_other_scripts_and_without_accents(index: PlaceIndex, text: str) -> None:
    assert where(index.find(text)) == ("Munich", "Bayern", "DE")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("القاهرة", "Cairo"),
        ("東京", "Tokyo"),
        ("서울", "Seoul"),
        ("दिल्ली", "Delhi"),
        ("Αθήνα", "Athens"),
    ],
)
def test_other_scripts(index: PlaceIndex, text: str, name: str) -> None:
    assert index.find(text).name == name


@pytest.mark.parametrize(
    ("text", "name", "precision"),
    [
        ("Germany", "Germany", Precision.COUNTRY),
        ("Georgia", "Georgia", Precision.COUNTRY),
        ("Georgia, USA", "Georgia", Precision.REGION),
        ("Illinois", "Illinois", Precision.REGION),
        ("Ontario, Canada", "Ontario", Precision.REGION),
        ("Washington State", "Washington", Precision.REGION),
        ("Ontario", "Ontario", Precision.REGION),  # more people than the city in California
        ("Mexico", "Mexico", Precision.COUNTRY),
        ("Singapore", "Singapore", Precision.CITY),
    ],
)
def test_countries_and_regions_say_so(
    index: PlaceIndex, text: str, name: str, precision: Precision
) -> None:
    place = index.find(text)
    assert (place.name, place.precision) == (name, precision)


@pytest.mark.parametrize(
    ("text", "name", "country"),
    [("ORD", "Chicago O'Hare International Airport", "US"), ("LON", "London", "GB")],
)
def test_an_iata_code_is_in_capitals(index: PlaceIndex, text: str, name: str, country: str) -> None:
    assert (index.find(text).name, index.find(text).country) == (name, country)
    assert "IATA" in index.find(text).why
    assert "IATA" not in index.find("ord").why


def test_the_answer_says_how_it_was_chosen(index: PlaceIndex) -> None:
    place = index.find("Springfield")
    assert place.why == f"the largest of {place.others + 1} places of this name"
    assert place.others > 10
    assert index.find("Springfield, Illinois").why == "the only place of this name in Illinois"


def test_a_known_country_is_kept_to(index: PlaceIndex) -> None:
    assert where(index.find("Paris", "US")) == ("Paris", "Texas", "US")
    with pytest.raises(PlaceUnknown, match='no place called "Paris" in Japan'):
        index.find("Paris", "JP")
    with pytest.raises(PlaceUnknown, match='"XX" is not the code of a country'):
        index.find("Paris", "XX")


BAD = [
    ("", "empty"),
    (" \t\n", "empty"),
    ("Paris " * 2000, "12,000 characters; at most 200"),
    ("🗽", "no letters"),
    ("🇫🇷", "no letters"),
    ("\u202e\u202c", "empty"),
    ("null", "stands for no value"),
    ("None", "stands for no value"),
    ("NaN", "stands for no value"),
    ("N/A", "stands for no value"),
    ("42", "no letters"),
    ("-3.5e7", "is known"),
    ("39.8,-89.6", "are coordinates, not a name"),
    ("'; DROP TABLE places; --", "is known"),
    ("Robert'); DROP TABLE Students;--", "is known"),
    ("1' OR '1'='1", "no place has '=' in its name"),
    ("<script>alert(1)</script>", "no place has '<' in its name"),
    ("\0", "empty"),
    ("Münhcen, Germany", 'no place called "Münhcen" in Germany'),  # not the middle of Germany
    ("Springfield, Ruritania", '"Ruritania" is not a country, region or city'),
    ("Springfield, Bayern", 'no place called "Springfield" in Bayern'),
    ("Foo, Berlin", 'no place called "Foo" near Berlin|in Berlin'),
    ("Springfield, Washington County", "is not a country, region or city"),
    ("North Central US", "no place called"),
    ("a," * 100, "has 100 commas, slashes and brackets; at most 8 are looked up"),
    ("Springfield, IL, Canada", '"IL" is not in what follows it'),
    ("London 2", "no place called"),
    ("DE", "no place called"),
    ("A", "no place called"),
    ("\u02bb", "no place called"),  # letters of which no key is left
    ("\u0640\u0640", "no place called"),
    ("San Juan, \u02bb, Paris", "is not a country, region or city"),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=[repr(text[:20]) for text, _ in BAD])
def test_what_is_not_a_place_gets_a_reason(index: PlaceIndex, text: str, reason: str) -> None:
    with pytest.raises(PlaceUnknown, match=reason) as e:
        index.find(text)
    assert len(str(e.value)) < 200
    assert str(e.value).isprintable()


def test_no_key_has_so_many_cities_that_a_text_can_make_it_slow(index: PlaceIndex) -> None:
    """Cities of two keys are compared with each other."""
    _, cities = np.unique(index._columns.hashes, return_counts=True)
    assert cities.max() < 2000


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=MOST_CHARACTERS + 1), st.sampled_from(["", "US", "de"]))
@example("(((", "")
@example(",", "")
@example("A,B,C,D,E,F,G", "")
@example("\ud800", "")
def test_any_text_gets_a_place_or_a_reason(text: str, country: str) -> None:
    try:
        place = load_place_index().find(text, country)
    except PlaceUnknown:
        return
    assert -90 <= place.lat <= 90
    assert -180 <= place.lon <= 180
    assert place.why


# By coordinates.


@pytest.mark.parametrize(
    ("lat", "lon", "name"),
    [
        (51.5074, -0.1278, "London"),
        (48.85, 2.35, "Paris"),
        (40.75, -73.99, "New York City"),
        (35.68, 139.77, "Tokyo"),
    ],
)
def test_a_quarter_of_a_city_is_that_city(
    index: PlaceIndex, lat: float, lon: float, name: str
) -> None:
    assert index.name_at(lat, lon).name == name


@pytest.mark.parametrize(("lat", "lon"), [(0.0, -140.0), (90.0, 0.0), (-89.9, 179.0)])
def test_far_from_every_city_there_is_no_name(index: PlaceIndex, lat: float, lon: float) -> None:
    with pytest.raises(PlaceUnknown, match=r"no city within 300 km"):
        index.name_at(lat, lon)


@pytest.mark.parametrize(
    ("lat", "lon"), [(91.0, 0.0), (0.0, 181.0), (math.nan, 0.0), (0.0, math.inf)]
)
def test_not_on_earth(index: PlaceIndex, lat: float, lon: float) -> None:
    with pytest.raises(PlaceUnknown, match="not a place on Earth"):
        index.name_at(lat, lon)


PLACES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


def make_index(places: list[tuple[float, float]]) -> PlaceIndex:
    """Cities of one inhabitant, each in a country of its own, which has its number as its name."""
    count = len(places)
    codes = [str(i) for i in range(count)]
    return PlaceIndex(
        Columns(
            np.array([p[0] for p in places], np.float32),
            np.array([p[1] for p in places], np.float32),
            np.ones(count, np.uint32),
            np.arange(count, dtype=np.uint16),
            np.frombuffer("".join(codes).encode(), np.uint8),
            np.cumsum([0, *map(len, codes)]).astype(np.uint32),
            np.zeros(0, np.uint64),
            np.zeros(0, np.uint32),
            np.zeros(0, bool),
            Directory(
                [Region(code, "", "", 1, 0.0, 0.0) for code in codes],
                [Country(code, "", code, "", 1, 0.0, 0.0) for code in codes],
                {},
                {},
            ),
        )
    )


@settings(max_examples=300, deadline=None)
@given(st.lists(PLACES, min_size=1, max_size=30), PLACES)
@example([(0.0, 179.9), (1.0, -170.0)], (0.0, -179.9))
@example([(89.0, 0.0), (80.0, 180.0)], (89.9, 180.0))
def test_the_search_by_bands_finds_the_nearest(
    places: list[tuple[float, float]], here: tuple[float, float]
) -> None:
    places.sort()
    index = make_index(places)
    best_km = min(haversine_km(*here, *p) for p in places)
    found = places[int(index.country_at(*here))]
    assert math.isclose(haversine_km(*here, *found), best_km, abs_tol=1.0), "antipodes are flat"
    if best_km < FAR_KM - 1:
        assert math.isclose(
            haversine_km(*here, *places[int(index.name_at(*here).name)]), best_km, abs_tol=1.0
        )
    elif best_km > FAR_KM + 1:
        with pytest.raises(PlaceUnknown):
            index.name_at(*here)


@pytest.mark.parametrize(
    ("lat", "lon", "code"),
    [
        (52.5, 13.4, "DE"),
        (48.85, 2.35, "FR"),
        (37.77, -122.42, "US"),
        (49.9, -97.1, "CA"),
        (-33.9, 151.2, "AU"),
        (-75.0, 0.0, "GS"),
    ],
)
def test_the_country_is_that_of_the_nearest_city(
    index: PlaceIndex, lat: float, lon: float, code: str
) -> None:
    assert index.country_at(lat, lon) == code
