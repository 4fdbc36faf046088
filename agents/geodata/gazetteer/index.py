"""Finds places in the table. The rules are in docs/places.md: what the text says counts first, then
the number of people decides, and the answer says so."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from agents.base.errors import PlaceUnknown
from agents.base.text import counted, to_one_line
from agents.core.model.places import Place, Precision, check_place_text, quote_place
from agents.geodata.gazetteer.areas import Areas, NamedArea
from agents.geodata.gazetteer.columns import Columns
from agents.geodata.gazetteer.names import fold_name, hash_key
from kernels.geo import haversine_km_rows, is_on_earth
from kernels.tables import Bools, Floats

PROVIDER, ATTRIBUTION = "offline", "GeoNames (CC BY 4.0)"
OTHER_NAME = 0.1
"""A city that bears the name only as one of its others counts as this part of its people: Niš,
which is also called Nice, is not what Nice means, and Mumbai still is what Bombay means."""
NEAR_KM = 100.0
"""How far from the city that is named after it a place may be: `Shinjuku, Tokyo`."""
FAR_KM = 300.0
"""A place farther than this from every city has no name."""
PEOPLE_PER_KM2 = 2_500.0
"""How densely a city is taken to be settled: so far it reaches from its middle."""

_MOST_REACH_KM = 25.0
_BANDS_DEG = (0.25, 0.75, 1.5, 2.75)
"""The first is more than _MOST_REACH_KM, the last more than FAR_KM."""
_SEPARATOR = re.compile("[,;/|()\\[\\]\n\u060c\u3001\uff0c\uff1b\uff08\uff09]+")
_COMMA = re.compile("[,\u060c\u3001\uff0c]+")
_MOST_SEPARATORS = 8  # the time that a text takes grows with the square of them
_IN_BRACKETS = re.compile(r"([^()]*[^()\s])\s*\(([^()]+)\)?")
_NUMBERS = re.compile(r"\b\d[\d-]*\b")
_POSTAL_CODE = re.compile(r"\A\d[\d-]{2,}\s|\s\d[\d-]{3,}\Z")
_TAILS, _TAIL_WORDS = 2, 3
_LATIN_LETTERS = re.compile("[A-Za-z]{1,2}")  # too short to mean one of a city's other names
_IATA = re.compile("[A-Z]{3}", re.ASCII)

Rows = npt.NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class _Hint:
    """What a word after the name demands. `areas`: in one of these; or else `near` these cities.
    `strict`: or else it is another place; otherwise it may be a county of that name."""

    text: str
    areas: Sequence[NamedArea]
    near: Rows
    strict: bool


class PlaceIndex:
    """The table, with the ways into it. All methods are synchronous and take far less than a
    millisecond (a text of the commonest names, made to be slow: some 5); nothing is changed after
    the beginning, so any thread may call them."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._regions = columns.directory.regions
        self._areas = Areas(columns.directory, PROVIDER)
        self._airports, self._metropolises = (
            columns.directory.airports,
            columns.directory.metropolises,
        )

    def __len__(self) -> int:
        """The number of cities."""
        return len(self._columns.lat)

    def count_names(self) -> int:
        """The number of different names, each counted once for a city."""
        return len(self._columns.hashes)

    # By name.

    def find(self, text: str, country: str = "") -> Place:
        """The place that the text means: an IATA code in capitals, a city, region or country, with
        the names of what it is in after it. `country`: ISO 3166 alpha-2, where that is known.
        Raises PlaceUnknown."""
        bare = check_place_text(text)
        inside = self._find_country(country) if country else None
        if _IATA.fullmatch(bare) and (place := self._find_airport(bare, country)):
            return place
        if (parts := len(_SEPARATOR.findall(bare))) > _MOST_SEPARATORS:
            raise PlaceUnknown(
                f"{quote_place(bare)} has {parts} commas, slashes and brackets; at most "
                f"{_MOST_SEPARATORS} are looked up"
            )
        if parts and (place := self._find_whole(bare, inside)):
            return place
        refusals = []
        for segments in _list_segmentations(bare):
            try:
                return self._find_in_segments(segments, inside)
            except PlaceUnknown as e:
                refusals.append(e)
        if in_brackets := _IN_BRACKETS.fullmatch(bare):
            return self._find_in_brackets(in_brackets, inside, refusals[0])
        raise refusals[0]

    def _find_in_brackets(
        self, found: re.Match[str], inside: NamedArea | None, outside: PlaceUnknown
    ) -> Place:
        """`Europe (Frankfurt)`: what is in the brackets, if what is before them is not known."""
        if self._rows_of(found[1])[0].size or self._areas.list_named(found[1]):
            raise outside
        place = self._find_segment(found[2], (), inside)
        return replace(place, why=f"{quote_place(found[1])} is not known; {place.why}")

    def _find_whole(self, name: str, inside: NamedArea | None) -> Place | None:
        """The city whose name has a comma, slash or bracket in it: `Biel/Bienne`."""
        try:
            return self._find_city_or_area(name, (), inside)
        except PlaceUnknown:
            return None

    def _find_country(self, code: str) -> NamedArea:
        area = self._areas.countries.get(code.upper())
        if area is None:
            raise PlaceUnknown(
                f"{quote_place(code)} is not the code of a country (ISO 3166: DE, US)"
            )
        return area

    def _find_airport(self, code: str, country: str) -> Place | None:
        """By IATA code. `USA` is also one, and never meant as one."""
        if code == "USA":
            return None
        metropolis = self._metropolises.get(code)
        if metropolis and country.upper() in ("", metropolis[1]):
            inside = self._areas.countries.get(metropolis[1])
            if found := self._find_whole(metropolis[0], inside):
                return replace(found, others=0, why=f"the city with the IATA code {code}")
        airport = self._airports.get(code)
        if airport is None or country.upper() not in ("", airport.country):
            return None
        return Place(
            airport.name,
            airport.lat,
            airport.lon,
            airport.country,
            airport.region,
            Precision.CITY,
            PROVIDER,
            why=f"the airport with the IATA code {code}"
            + (f", of {airport.city}" if airport.city else ""),
        )

    def _find_in_segments(self, segments: Sequence[str], inside: NamedArea | None) -> Place:
        """The first segment that names something, given those after it. What is before a city is
        taken for an address if it has a number, or if something after the city confirms it."""
        first: PlaceUnknown | None = None
        for at, segment in enumerate(segments):
            after = segments[at + 1 :]
            if at and not after and not any(c.isdigit() for c in segments[0]):
                break
            try:
                place = self._find_segment(segment, after, inside)
            except PlaceUnknown as e:
                first = first or e
                continue
            if not at:
                return place
            if place.precision is Precision.CITY:
                return replace(place, why=f"{quote_place(segments[0])} is not known; {place.why}")
        raise first or PlaceUnknown("there is no name in it")

    def _find_segment(
        self, segment: str, after: Sequence[str], inside: NamedArea | None, tails: int = 0
    ) -> Place:
        """As `segment` says, or with its last words as the name of what it is in: `Paris TX`.
        `tails`: how many were taken off already (`Portland OR USA`)."""
        try:
            return self._find_city_or_area(segment, self._read_hints(after), inside)
        except PlaceUnknown:
            words = segment.split() if tails < _TAILS else []
            for n in range(1, min(_TAIL_WORDS, len(words) - 1) + 1):
                head, tail = " ".join(words[:-n]), " ".join(words[-n:])
                if not self._areas.list_meant(tail, codes=tail.isupper()):
                    continue
                try:
                    if any(h.text == tail and h.areas for h in self._read_hints((tail, *after))):
                        return self._find_segment(head, (tail, *after), inside, tails + 1)
                except PlaceUnknown:
                    continue
            raise

    def _read_hints(self, words: Sequence[str]) -> tuple[_Hint, ...]:
        """What the words after a name demand. A word before a known area counts only if it can be
        something inside of it: `Kent`, before `United Kingdom`, is not the Kent in Washington, and
        no county is known. Raises PlaceUnknown for another word that is not known."""
        hints: list[_Hint] = []
        known: set[int] | None = None  # the regions of what comes after
        for word in reversed(words):
            areas = meant = self._areas.list_meant(word)
            if known is not None:
                areas = [area for area in meant if set(area.regions) <= known]
                if meant and not areas:
                    raise PlaceUnknown(f"{quote_place(word)} is not in what follows it")
            near, _ = self._rows_of(word)
            if known is not None and not areas:
                near = near[[int(self._columns.region[row]) in known for row in near]]
            if areas:
                known = {row for area in areas for row in area.all_regions}
            if areas or len(near):
                hints.append(_Hint(word, areas, near, bool(areas) or known is None))
            elif known is None:
                raise PlaceUnknown(
                    f"{quote_place(word)} is not a country, region or city that is known"
                )
        return tuple(reversed(hints))

    def _rows_of(self, name: str) -> tuple[Rows, Bools]:
        """The cities with a name, and whether it is their first one."""
        c = self._columns
        key = np.frombuffer(hash_key(fold_name(name)), np.uint64)[0]
        low, high = (int(np.searchsorted(c.hashes, key, side)) for side in ("left", "right"))
        return c.cities[low:high], c.own[low:high]

    def _find_city_or_area(
        self, name: str, hints: Sequence[_Hint], inside: NamedArea | None
    ) -> Place:
        rows, own = self._rows_of(name)
        if _LATIN_LETTERS.fullmatch(name):
            rows, own = rows[own], own[own]
        if inside:
            kept = self._is_in(rows, inside.regions)
            rows, own = rows[kept], own[kept]
        for hint in hints:
            kept = self._meets(rows, hint)
            rows, own = rows[kept], own[kept]
        city = self._choose_city(rows, own) if len(rows) else None
        areas = self._list_areas(name, rows, hints, inside)
        area = self._choose_area(areas, city, hints) if areas else None
        others = len(rows) + len(areas) - 1
        if area is not None:
            where = self._describe_where(hints, inside, area.regions)
            what = "country" if area.place.precision is Precision.COUNTRY else "region"
            more = f"; {counted(others, 'other place')} of this name" if others else ""
            return replace(area.place, others=others, why=f"the {what}{where}{more}")
        if city is None:
            where = self._describe_where(hints, inside, ())
            raise PlaceUnknown(f"no place called {quote_place(name)}{where} is known")
        where = self._describe_where(hints, inside, (int(self._columns.region[city]),))
        why = (
            f"the largest of {others + 1:,} places of this name{where}"
            if others
            else f"the only place of this name{where}"
        )
        return self._place_of(city, others, why)

    def _list_areas(
        self, name: str, rows: Rows, hints: Sequence[_Hint], inside: NamedArea | None
    ) -> list[NamedArea]:
        """The countries and regions of that name inside of what the hints say; not those with a
        city of the same name in them, which the name then means (New York, Singapore). For a
        country, it has to be the city's first name: Mexico is not Mexico City."""
        areas = [
            area
            for area in self._areas.list_named(name) or self._list_with_kind(name, rows)
            if (not inside or set(area.regions) <= set(inside.regions))
            and all(any(set(area.regions) < b.all_regions for b in h.areas) for h in hints)
        ]
        if not areas:
            return []
        regions = set(map(int, self._columns.region[rows]))
        first = {int(self._columns.region[row]) for row in rows if self._is_first(name, row)}
        return [
            area
            for area in areas
            if not (first if area.place.precision is Precision.COUNTRY else regions)
            & set(area.regions)
        ]

    def _list_with_kind(self, name: str, rows: Rows) -> list[NamedArea]:
        """`Washington State`, where no city is called so."""
        return [] if len(rows) else self._areas.list_meant(name, codes=False)

    def _is_first(self, name: str, row: np.uint32) -> bool:
        return fold_name(self._columns.name_of(int(row))) == fold_name(name)

    def _meets(self, rows: Rows, hint: _Hint) -> Bools:
        kept = self._is_in(rows, [row for area in hint.areas for row in area.regions])
        if not kept.any():
            kept = self._is_in(rows, [row for area in hint.areas for row in area.outlying])
        if not kept.any() and len(hint.near):
            kept = self._is_near(rows, hint.near)
        return kept if hint.strict or kept.any() else np.ones(len(rows), bool)

    def _is_in(self, rows: Rows, regions: Sequence[int]) -> Bools:
        wanted = np.zeros(len(self._regions), bool)
        wanted[list(regions)] = True
        found: Bools = wanted[self._columns.region[rows]]
        return found

    def _is_near(self, rows: Rows, near: Rows) -> Bools:
        """Whether each city is near one of the others, and not itself one of them."""
        c = self._columns
        km = haversine_km_rows(
            *(_wide(x) for x in (c.lat[rows, None], c.lon[rows, None], c.lat[near], c.lon[near]))
        )
        found: Bools = ((km <= NEAR_KM) & (rows[:, None] != near)).any(axis=1)
        return found

    def _choose_city(self, rows: Rows, own: Bools) -> int:
        people = np.maximum(self._columns.people[rows], 1)
        return int(rows[(people * np.where(own, 1.0, OTHER_NAME)).argmax()])

    def _choose_area(
        self, areas: Sequence[NamedArea], city: int | None, hints: Sequence[_Hint]
    ) -> NamedArea | None:
        """The area that the name means rather than that city; None: the city, as also where what
        follows can be its region: `Ontario, CA`."""
        if city is not None and any(
            area.place.precision is Precision.REGION
            and int(self._columns.region[city]) in area.regions
            for hint in hints
            for area in hint.areas
        ):
            return None
        area = max(areas, key=lambda a: (a.place.precision is Precision.COUNTRY, a.people))
        if city is None or area.place.precision is Precision.COUNTRY:
            return area
        c = self._columns
        country = self._areas.countries.get(self._regions[int(c.region[city])].country)
        is_capital = country is not None and country.capital == fold_name(c.name_of(city))
        return None if is_capital or int(c.people[city]) >= area.people else area

    @staticmethod
    def _describe_where(
        hints: Sequence[_Hint], inside: NamedArea | None, regions: Sequence[int]
    ) -> str:
        """` in Illinois`: of what a hint can mean, what the place with these regions is in."""
        words = []
        for hint in hints:
            meant = [a for a in hint.areas if set(regions) <= a.all_regions]
            word = meant[0].place.name if len(meant) == 1 else to_one_line(hint.text, 40)
            words.append(f"in {word}" if meant else f"near {word}")
        if inside:
            words.append(f"in {inside.place.name}")
        return " " + ", ".join(words) if words else ""

    # By coordinates.

    def name_at(self, lat: float, lon: float) -> Place:
        """The city that these coordinates in degrees are in, or else the nearest one. Raises
        PlaceUnknown if there is none within FAR_KM."""
        if not is_on_earth(lat, lon):
            raise PlaceUnknown(f"{lat:g}, {lon:g} is not a place on Earth")
        for band in _BANDS_DEG:
            rows, km = self._list_around(lat, lon, band)
            if not len(rows):
                continue
            people = self._columns.people[rows]
            reach = np.minimum(np.sqrt(people / PEOPLE_PER_KM2 / math.pi), _MOST_REACH_KM)
            around = km <= reach
            if around.any():
                at = int(np.where(around, people, 0).argmax())
                return self._place_of(int(rows[at]), 0, f"{km[at]:.0f} km from its middle")
            at = int(km.argmin())
            if km[at] <= min(_complete_to_km(band), FAR_KM):
                return self._place_of(int(rows[at]), 0, f"the nearest city, {km[at]:.0f} km away")
        raise PlaceUnknown(f"there is no city within {FAR_KM:.0f} km of {lat:g}, {lon:g}")

    def country_at(self, lat: float, lon: float) -> str:
        """The ISO 3166 code of the nearest city's country, however far that is."""
        for band in (*_BANDS_DEG, 12.0, 180.0):
            rows, km = self._list_around(lat, lon, band)
            if len(rows) and (band == 180.0 or km.min() <= _complete_to_km(band)):
                return self._regions[int(self._columns.region[rows[km.argmin()]])].country
        return ""

    def _list_around(self, lat: float, lon: float, band: float) -> tuple[Rows, Floats]:
        """The cities within `band` degrees of latitude, and as many kilometres to the sides; and
        how far each is, in km."""
        c = self._columns
        low, high = np.searchsorted(c.lat, (lat - band, lat + band))
        width = band / max(math.cos(math.radians(min(abs(lat) + band, 90.0))), 1e-9)
        aside = np.abs(c.lon[low:high] - lon)
        rows = (low + np.flatnonzero(np.minimum(aside, 360.0 - aside) <= width)).astype(np.uint32)
        return rows, haversine_km_rows(
            np.array(lat), np.array(lon), _wide(c.lat[rows]), _wide(c.lon[rows])
        )

    def _place_of(self, city: int, others: int, why: str) -> Place:
        c, region = self._columns, self._regions[self._columns.region[city]]
        return Place(
            c.name_of(city),
            round(float(c.lat[city]), 5),
            round(float(c.lon[city]), 5),
            region.country,
            region.name,
            Precision.CITY,
            PROVIDER,
            others,
            why,
        )


def _list_segmentations(text: str) -> list[list[str]]:
    """The ways to take the text apart, each once: at all separators; at commas alone, since a name
    can have a slash (`Kailua/Kona, HI`); and both without the numbers of an address."""
    ways: list[list[str]] = []
    for separator in (_SEPARATOR, _COMMA):
        parts = [p.strip() for p in separator.split(text) if any(c.isalpha() for c in p)]
        numbers = _NUMBERS if len(parts) > 1 else _POSTAL_CODE
        ways += parts, [p for part in parts if (p := numbers.sub(" ", part).strip())]
    slash_first = [ways[2], ways[0], ways[3], ways[1]]
    return [way for at, way in enumerate(slash_first) if way not in slash_first[:at]]


def _complete_to_km(band: float) -> float:
    """Every city nearer than this is in a band of `band` degrees."""
    return band * 111.0


def _wide(degrees: npt.NDArray[np.float32]) -> Floats:
    return degrees.astype(np.float64)
