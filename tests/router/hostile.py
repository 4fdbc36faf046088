"""Records of events.raw as nobody should send them, drawn from a seed: each part of an event is
replaced, cut, doubled or mixed with what a parser might take otherwise."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

from tests.router.streams import Raw

NUMBERS = (
    *(
        "0",
        "-0",
        "-0.0",
        "1",
        "-1",
        "1.5",
        "1e3",
        "1E+2",
        "1e-7",
        "0.1",
        "1e22",
        "1e16",
        "123456789012345678",
    ),
    *(
        "1e15",
        "9007199254740993",
        "5e-324",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "1e400",
    ),
    *(
        "18446744073709551615",
        "18446744073709551616",
        "-9223372036854775808",
        "-9223372036854775809",
    ),
    *(
        "90",
        "-90.0",
        "90.00000000000001",
        "180",
        "-180",
        "180.00000000000003",
        "978964500000",
        "978964500",
    ),
    *(
        "978964500000000",
        "978964500000000000",
        "100000000",
        "99999999",
        "31535999999",
        "31536000000",
        "-100000000",
    ),
    *(
        "253402300799999",
        "253402300800000",
        "-62135596800000",
        "-62135596800001",
        "1700000300000",
        "1700000300001",
    ),
    *(
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "-x",
        "0x1",
        "1_0",
        "NaN",
        "Infinity",
        "-Infinity",
        "nan",
    ),
    *(
        "9.8e16",
        "3.2e19",
        "1e17",
        "1e14",
        "0.30000000000000004",
        "1e23",
        "8.41e21",
        "2e-44",
        "123456.789e3",
    ),
)
TIMES = (
    *(
        "2001-01-08T14:35:00Z",
        "2001-01-08t14:35:00z",
        "2001-01-08 14:35:00.5+00:00",
        "2001-01-08T14:35:00-23:59",
    ),
    *(
        "2001-01-08T14:35:00+24:00",
        "2001-01-08T14:35:00+00:99",
        "2001-01-08T14:35:00+23:60",
        "2001-02-29T00:00:00Z",
    ),
    *(
        "2000-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
    ),
    *(
        "9999-12-31T23:59:59.999999999Z",
        "9999-12-31T23:59:60Z",
        "9999-12-31T22:59:60-01:00",
        "2016-12-31T23:59:60Z",
    ),
    *(
        "2016-12-31T23:59:60.250z",
        "2016-12-30T23:59:60Z",
        "2017-01-01T08:59:60+09:00",
        "2001-01-08T14:35:61Z",
    ),
    *(
        "2001-01-08T24:00:00Z",
        "2001-01-08T14:60:00Z",
        "2001-13-01T00:00:00Z",
        "2001-00-01T00:00:00Z",
        "2001-01-08",
    ),
    *(
        "2001-01-08T14:35:00",
        "2001-01-08T14:35Z",
        "2001-1-8T14:35:00Z",
        "2001-01-08T14:35:00.Z",
        "+2001-01-08T14:35:00Z",
    ),
    *(
        "2001-01-08T14:35:00,5Z",
        "2001-01-08T14:35:00+0000",
        "2001-01-08T14:35:00 Z",
        "٢٠٠١-01-08T14:35:00Z",
    ),
    *(
        "2001-01-08T14:35:00.1234567Z",
        "2001-01-08T14:35:00.0000019Z",
        "2023-11-14T22:18:20Z",
        "2023-11-14T22:18:20.001Z",
    ),
)
TEXTS = (
    *(
        "a",
        "",
        " ",
        "\t",
        "\u3000",
        "\x1c",
        "\x85",
        "\u200b",
        "\ufeff",
        "\x00",
        "\x7f",
        "\x80",
        "\xad",
        "é",
        "\u0301",
    ),
    *(
        "it's",
        '"',
        "'\"",
        "\\",
        "\n\r\t\b\f",
        "\ue000",
        "\u2028",
        "\U0001f600",
        "\U000e0001",
        "\U0010ffff",
        "\u0378",
    ),
    *(
        "\U0001fae0",
        "\U00011f00",
        "\uffff",
        "\u061c",
        "\U0001d4b3",
        "x" * 79,
        "x" * 80,
        "x" * 81,
        "\U0001f600" * 81,
        "Chicago",
    ),
)
CHARACTERS = (
    b'{}[]",:\\/ \n\r\t\x000123456789.eE+-truefalsnNuUdD'
    b"\x80\xc3\xa9\xed\xa0\xef\xbb\xbf\xff\xf0\x9f\x98\x80"
)


class Hostile:
    """An endless stream of records, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def records(self, count: int) -> Iterator[Raw]:
        for offset in range(count):
            yield Raw(self._value(), self._key(), self._headers(), offset)

    def _value(self) -> bytes | None:
        rng = self.rng
        kind = rng.randrange(10)
        if kind == 0:
            return None if rng.random() < 0.05 else self._any(3).encode("utf-8", "surrogatepass")
        event = self._event().encode("utf-8", "surrogatepass")
        if kind < 6:
            return event
        return self._broken(event)

    def _event(self) -> str:
        rng = self.rng
        lat, lon = repr(rng.uniform(-90, 90)), repr(rng.uniform(-180, 180))
        members = [
            ("id", rng.choice((self._text, self._any_value, lambda: '"e1"', lambda: '"e2"'))()),
            ("ts", rng.choice((self._time, self._time, self._number, self._any_value))()),
            (
                "origin",
                rng.choice(
                    (
                        lambda: self._origin(lat, lon),
                        lambda: self._origin(lat, lon),
                        self._any_value,
                    )
                )(),
            ),
            ("pad", self._any(2)),
        ]
        if rng.random() < 0.3:
            members.append(rng.choice(members))
        if rng.random() < 0.1:
            members.pop(rng.randrange(len(members)))
        if rng.random() < 0.3:
            rng.shuffle(members)
        return self._object(members)

    def _origin(self, lat: str, lon: str) -> str:
        rng = self.rng
        kind = rng.randrange(8)
        members = [("lat", lat), ("lon", lon)]
        if kind == 0:
            members = [("place", self._text())]
        elif kind == 1:
            members = [("lat", self._number()), ("lon", self._number())]
        elif kind == 2:
            members = [("lat", self._any_value()), ("lon", lon), ("place", self._any_value())]
        elif kind == 3:
            members = [
                ("lat", "null"),
                ("lon", rng.choice(("null", lon))),
                ("place", self._any_value()),
            ]
        elif kind == 4:
            members += [("lat", self._any_value())]
        return self._object(members)

    def _object(self, members: list[tuple[str, str]]) -> str:
        space = self.rng.choice(("", "", " ", "\n", "\r\n\t"))
        inner = ",".join(f"{space}{self._name(k)}{space}:{space}{v}{space}" for k, v in members)
        return f"{{{inner}}}"

    def _name(self, name: str) -> str:
        if self.rng.random() < 0.02:
            return '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"'
        return json.dumps(name)

    def _number(self) -> str:
        return self.rng.choice(NUMBERS)

    def _time(self) -> str:
        text = json.dumps(self.rng.choice(TIMES), ensure_ascii=self.rng.random() < 0.5)
        return text.replace("2001", "\\u0032001") if self.rng.random() < 0.02 else text

    def _text(self) -> str:
        return json.dumps(self.rng.choice(TEXTS), ensure_ascii=self.rng.random() < 0.5)

    def _any_value(self) -> str:
        return self._any(2)

    def _any(self, depth: int) -> str:
        rng = self.rng
        choices: list[Callable[[], str]] = [
            self._number,
            self._text,
            self._time,
            lambda: rng.choice(("true", "false", "null")),
        ]
        if depth:
            choices += [
                lambda: "[" + ",".join(self._any(depth - 1) for _ in range(rng.randrange(4))) + "]",
                lambda: self._object(
                    [(rng.choice(TEXTS), self._any(depth - 1)) for _ in range(rng.randrange(4))]
                ),
            ]
        if rng.random() < 0.005:
            levels = rng.choice((78, 79, 80, 81, 1000, 1020, 1030))
            return "[" * levels + "]" * levels
        return rng.choice(choices)()

    def _broken(self, event: bytes) -> bytes:
        rng = self.rng
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(event) + 1)
            match rng.randrange(5):
                case 0:
                    event = event[:at]
                case 1:
                    event = event[:at] + event[at + 1 :]
                case 2:
                    event = event[:at] + bytes([rng.choice(CHARACTERS)]) + event[at:]
                case 3:
                    event = event[:at] + bytes([rng.choice(CHARACTERS)]) + event[at + 1 :]
                case _:
                    other = rng.randrange(len(event) + 1)
                    event = event[:at] + event[min(at, other) : max(at, other)] + event[at:]
        return event

    def _key(self) -> bytes | None:
        rng = self.rng
        if rng.random() < 0.5:
            return None
        return rng.choice(
            (
                b"",
                b"e1",
                b"k",
                b"\xff\x00",
                rng.randbytes(rng.randrange(300)),
                b"k" * 1_048_600 if rng.random() < 0.01 else b"x",
            )
        )

    def _headers(self) -> list[tuple[bytes, bytes | None]]:
        rng = self.rng
        if rng.random() < 0.6:
            return []
        return [self._header() for _ in range(rng.randrange(1, 5))]

    def _header(self) -> tuple[bytes, bytes | None]:
        rng = self.rng
        name = rng.choice(
            (
                *("src", "raw-ms", "cell", "ts", "map", "part", "reason", "detail", "lane"),
                *("raw-key", "placed", "unplaced-at", "replays", "died"),
            )
        )
        ours = f"geolane-{name}".encode()
        theirs = rng.choice((b"mine", b"", b"geolane-x", "ключ".encode(), b"\xef\xbf\xbd"))
        bad = rng.choice(
            (
                b"gr\xf6\xdfe",
                b"\xed\xa0\x80",
                b"\xe2\x82",
                b"a\xf0\x9f\x98b",
                b"\xc0\x80'",
                b"\xff" * 100,
            )
        )
        content = rng.choice(
            (
                *(
                    None,
                    b"",
                    b"1",
                    b"x",
                    b"\xff\xfe",
                    b"999999",
                    b"1000000",
                    b"0",
                    b"-1",
                    b" 5 ",
                    b"1_0",
                    b"1__0",
                    b"_1",
                ),
                *(b"+7", b"007", b"\x0b7\x0c", b"9" * 20, b"9" * 21, "٣".encode(), b"7\n", b"1.0"),
                *(
                    b"events.raw/9/9",
                    b"events.raw/9/9\n",
                    b"a/1/12345678901234567890",
                    b"a" * 250 + b"/1/1",
                    b"a/1234567890/1",
                ),
                *(
                    b"offline city",
                    b"x country",
                    b"offline  city",
                    b"offline city ",
                    b"a" * 61 + b" city",
                    b"\xe9 city",
                    b" city",
                ),
            )
        )
        return rng.choices((ours, theirs, bad), (6, 3, 0.3))[0], content
