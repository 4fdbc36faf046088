"""Countries and regions by the names and codes that people write after a city's: `Illinois`, `IL`,
`Ontario`, `UK`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agents.core.model.places import Place, Precision
from agents.geodata.gazetteer.columns import Country, Directory, Region
from agents.geodata.gazetteer.names import fold_code, fold_name

_MORE_COUNTRIES = {
    "US": "usa, united states of america, america, estados unidos",
    "GB": "uk, great britain, britain",
    "DE": "deutschland, allemagne, alemania",
    "AT": "osterreich, oesterreich",
    "CH": "schweiz, suisse, svizzera",
    "ES": "espana",
    "IT": "italia",
    "NL": "netherlands, holland, nederland",
    "BE": "belgie, belgique",
    "PL": "polska",
    "CZ": "czech republic",
    "SK": "slovak republic",
    "TR": "turkey, turkiye",
    "RU": "russian federation, россия",
    "UA": "україна",
    "BR": "brasil",
    "MX": "mexico",
    "JP": "日本",
    "CN": "中国, prc",
    "TW": "台灣, 台湾",
    "KR": "korea, republic of korea, 대한민국",
    "KP": "democratic peoples republic of korea",
    "AE": "uae",
    "SA": "ksa",
    "EG": "مصر",
    "MM": "burma",
    "CI": "cote d ivoire",
    "CD": "dr congo, drc",
    "CG": "congo",
    "MK": "macedonia",
    "VA": "vatican city",
    "SZ": "swaziland",
    "LT": "republic of lithuania",
    "MD": "republic of moldova",
    "JO": "hashemite kingdom of jordan",
    "CV": "cape verde",
    "MO": "macau",
    "PS": "palestine",
}
"""More ways to write a country, folded, separated by commas."""

_MORE_REGIONS = {
    "DE": {
        "bayern": "bavaria",
        "saxony": "sachsen",
        "hesse": "hessen",
        "thuringia": "thuringen, thueringen",
        "rheinland pfalz": "rhineland palatinate",
        "nordrhein westfalen": "north rhine westphalia, nrw",
        "sachsen anhalt": "saxony anhalt",
        "niedersachsen": "lower saxony",
        "mecklenburg vorpommern": "mecklenburg western pomerania",
    },
    "IT": {
        "lombardy": "lombardia",
        "tuscany": "toscana",
        "piedmont": "piemonte",
        "sicily": "sicilia",
        "sardinia": "sardegna",
        "apulia": "puglia",
        "latium": "lazio",
        "the marches": "marche",
    },
    "ES": {
        "andalucia": "andalusia",
        "cataluna": "catalonia, catalunya",
        "pais vasco": "basque country, euskadi",
        "comunidad de madrid": "madrid",
        "comunidad valenciana": "valencian community",
        "canary islands": "canarias, islas canarias",
        "islas baleares": "balearic islands, illes balears",
    },
    "FR": {
        "ile de france": "idf",
        "brittany": "bretagne",
        "normandy": "normandie",
        "corsica": "corse",
        "provence alpes cote dazur": "paca",
    },
    "AT": {
        "styria": "steiermark",
        "lower austria": "niederosterreich",
        "upper austria": "oberosterreich",
        "carinthia": "karnten",
        "tyrol": "tirol",
    },
    "CH": {"geneva": "geneve, genf", "lucerne": "luzern", "grisons": "graubunden"},
    "NL": {
        "south holland": "zuid holland",
        "north holland": "noord holland",
        "north brabant": "noord brabant",
    },
    "BE": {"flanders": "vlaanderen", "wallonia": "wallonie"},
}
"""More ways to write a region, by its folded name; separated by commas."""

_KIND_OF_REGION = re.compile(
    r"\b(?:(?:province|state) of|province|provincie|prefecture|voivodeship|oblast|krai|region"
    r"|state)\b"
)

_TERRITORIES = {
    "US": ("PR", "VI", "GU", "AS", "MP"),
    "FR": ("GP", "MQ", "GF", "RE", "YT", "PM", "BL", "MF", "NC", "PF", "WF"),
    "GB": ("GG", "IM", "JE", "GI", "FK", "BM", "KY", "VG", "TC", "AI", "MS", "SH"),
    "NL": ("AW", "CW", "SX", "BQ"),
    "DK": ("FO", "GL"),
    "CN": ("HK", "MO"),
    "NO": ("SJ",),
    "FI": ("AX",),
    "AU": ("CX", "CC", "NF"),
    "NZ": ("CK", "NU", "TK"),
}
"""Countries of GeoNames that texts also call a part of another: `San Juan, PR, USA`."""

_PROVINCES = {
    "CA": "ab:01 bc:02 mb:03 nb:04 nl:05 ns:07 on:08 pe:09 pei:09 qc:10 sk:11 yt:12 nt:13 nu:14",
    "AU": "act:01 nsw:02 nt:03 qld:04 sa:05 tas:06 vic:07 wa:08",
}
"""The usual abbreviations of regions whose GeoNames code is a number."""


@dataclass(frozen=True, slots=True)
class NamedArea:
    """A country or a region. `regions`: its rows in the table; `outlying`: those of its
    territories, which count where nothing in it does. `capital`: the folded name of a country's."""

    place: Place
    people: int
    regions: tuple[int, ...]
    outlying: tuple[int, ...] = ()
    capital: str = ""

    @property
    def all_regions(self) -> frozenset[int]:
        return frozenset(self.regions + self.outlying)


class Areas:
    """All areas by name and by code. A word can mean several: `Georgia`, `CA`."""

    def __init__(self, directory: Directory, provider: str) -> None:
        self.countries: dict[str, NamedArea] = {}
        self._named: dict[str, list[NamedArea]] = {}
        self._shortened: dict[str, list[NamedArea]] = {}
        self._coded: dict[str, list[NamedArea]] = {}
        rows: dict[str, list[int]] = {}
        for row, region in enumerate(directory.regions):
            rows.setdefault(region.country, []).append(row)
        names = {country.code: country.name for country in directory.countries}
        for country in directory.countries:
            outlying = [row for c in _TERRITORIES.get(country.code, ()) for row in rows.get(c, ())]
            inside = tuple(rows.get(country.code, ()))
            self._add_country(country, inside, tuple(outlying), provider)
        abbreviations = {
            (country, code): letters
            for country, pairs in _PROVINCES.items()
            for letters, _, code in (pair.partition(":") for pair in pairs.split())
        }
        for row, region in enumerate(directory.regions):
            place = _place_of_region(region, names.get(region.country, ""), provider)
            area = NamedArea(place, region.people, (row,))
            for name in _list_names(region):
                self._named.setdefault(name, []).append(area)
                if (short := _without_kind(name)) != name:
                    self._shortened.setdefault(short, []).append(area)
            short = abbreviations.get((region.country, region.code), region.code.lower())
            if short.isalpha():
                self._coded.setdefault(short, []).append(area)

    def _add_country(
        self, country: Country, rows: tuple[int, ...], outlying: tuple[int, ...], provider: str
    ) -> None:
        place = Place(
            country.name, country.lat, country.lon, country.code, "", Precision.COUNTRY, provider
        )
        area = NamedArea(place, country.people, rows, outlying, fold_name(country.capital))
        self.countries[country.code] = area
        more = _MORE_COUNTRIES.get(country.code, "")
        for name in {fold_name(country.name), *filter(None, map(fold_name, more.split(",")))}:
            self._named.setdefault(name, []).append(area)
        for code in (country.code, country.code3):
            self._coded.setdefault(code.lower(), []).append(area)

    def list_named(self, text: str) -> list[NamedArea]:
        """The areas of that name, without codes."""
        return self._named.get(fold_name(text), [])

    def list_meant(self, text: str, codes: bool = True) -> list[NamedArea]:
        """The areas that the text can mean after a city's name: `Kanagawa Prefecture`."""
        named = self.list_named(text)
        if not named:
            short = _without_kind(fold_name(text))
            named = self._named.get(short, []) or self._shortened.get(short, [])
        return [*named, *(self._coded.get(fold_code(text), []) if codes else [])]


def _list_names(region: Region) -> set[str]:
    """All ways to write it, folded."""
    if not region.name:
        return set()
    name = fold_name(region.name)
    more = _MORE_REGIONS.get(region.country, {}).get(name, "")
    return {name, *(word.strip() for word in more.split(","))} - {""}


def _without_kind(name: str) -> str:
    return " ".join(_KIND_OF_REGION.sub(" ", name).split())


def _place_of_region(region: Region, country: str, provider: str) -> Place:
    name = region.name or region.code
    return Place(
        name, region.lat, region.lon, region.country, region.name, Precision.REGION, provider
    )
