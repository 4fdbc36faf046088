"""GeoCommand and GeoAnswer <-> XEP-0050 commands with XEP-0004 forms.

::

    <command xmlns='http://jabber.org/protocol/commands' node='urn:geolane:geo:1#traffic'
             action='execute'>
     <x xmlns='jabber:x:data' type='submit'>
      <field var='FORM_TYPE' type='hidden'><value>urn:geolane:geo:1#traffic</value></field>
      <field var='leader_epoch'><value>4</value></field>
      <field var='boot'><value>01JD8Q</value></field>
      <field var='lanes' type='text-multi'><value>12 50.11,8.68 50.08,8.24</value></field>
     </x></command>

A lane's line is its number, the origin and the destinations; a line of `places` is a key and a
point. The answer is a table: one `<item/>` for each lane or place."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from slixmpp.stanza import Iq

from agents.core.model.geo import (
    AGE_S,
    ATTRIBUTION_LIMIT,
    DESTINATIONS_AT_MOST,
    INDEX,
    NAME_LIMIT,
    NAMES_AT_MOST,
    PLACE_TEXT_LIMIT,
    PROVIDER_LIMIT,
    REASON_LIMIT,
    TRAFFIC_LANES_AT_MOST,
    VALID_S,
    GeoAnswer,
    GeoCommand,
    LaneRoutes,
    LaneTraffic,
    Named,
    NamesAnswer,
    NamesCommand,
    PlaceAnswer,
    PlaceCommand,
    Point,
    ProviderCalls,
    Source,
    TrafficAnswer,
    TrafficCommand,
    Unnamed,
)
from agents.core.model.places import Place, Precision
from plugins import namespaces as ns
from plugins.forms import (
    COMMAND_TAG,
    Fields,
    append_rows,
    fields_to_form,
    has_command,
    parse_completed,
    parse_execute,
    require_one_value,
    rows_from_form,
)
from plugins.values import (
    BadStanza,
    format_number,
    parse_integer,
    parse_number,
    parse_sentence,
    parse_word,
)

NODE_PREFIX = f"{ns.GEO}#"
LANES_LIMIT = 1_000_000
_NAMES: dict[type, str] = {TrafficCommand: "traffic", NamesCommand: "names", PlaceCommand: "place"}
_SOURCE = ("provider", "attribution", "age_s", "valid_s", "reason")
_TRAFFIC = ("lane", "index", "live", *_SOURCE)
_NAMED = ("key", "name", *_SOURCE)
_PLACE = (
    *("name", "at", "country", "region", "precision", "others", "why", "expires_at"),
    *("provider", "attribution", "reason"),
)


def is_geo_command(iq: Iq) -> bool:
    """Whether this IQ is a question to a geo worker, well formed or not."""
    return has_command(iq, NODE_PREFIX)


# Commands.


def command_to_xml(command: GeoCommand) -> ET.Element:
    """The `<command/>` to send. Raises ValueError for more lanes, destinations or places than one
    command carries."""
    fields = [("leader_epoch", [str(command.leader_epoch)]), ("boot", [command.boot])]
    multi = ""
    match command:
        case TrafficCommand():
            _check_size(command.lanes, TRAFFIC_LANES_AT_MOST)
            for lane in command.lanes:
                _check_size(lane.destinations, DESTINATIONS_AT_MOST)
            multi, lines = "lanes", [_routes_to_text(lane) for lane in command.lanes]
            fields.append((multi, lines))
        case NamesCommand():
            _check_size(command.places, NAMES_AT_MOST)
            multi, lines = "places", [f"{x.key} {_point_to_text(x.at)}" for x in command.places]
            fields.append((multi, lines))
        case PlaceCommand():
            fields.append(("text", [command.text]))
            fields.append(("at", [_point_to_text(command.at) if command.at else ""]))
    node = NODE_PREFIX + _NAMES[type(command)]
    root = ET.Element(COMMAND_TAG, node=node, action="execute")
    root.append(fields_to_form("submit", node, fields, multi))
    return root


def _check_size(some: Sequence[object], limit: int) -> None:
    if len(some) > limit:
        raise ValueError(f"at most {limit} in one command, not {len(some)}")


def command_from_iq(iq: Iq) -> GeoCommand:
    """The command in `iq`. Raises BadStanza for anything but a valid single-step execute."""
    node, leader_epoch, boot, fields = parse_execute(iq)
    match node.removeprefix(NODE_PREFIX):
        case "traffic":
            routes = [_routes_from_text(x) for x in _lines(fields, "lanes", TRAFFIC_LANES_AT_MOST)]
            _refuse_repeats("lanes", [x.lane for x in routes])
            return TrafficCommand(leader_epoch, boot, tuple(routes))
        case "names":
            places = [_unnamed_from_text(x) for x in _lines(fields, "places", NAMES_AT_MOST)]
            _refuse_repeats("places", [x.key for x in places])
            return NamesCommand(leader_epoch, boot, tuple(places))
        case "place":
            text = parse_sentence(require_one_value(fields, "text"), PLACE_TEXT_LIMIT)
            at = require_one_value(fields, "at")
            if bool(text) == bool(at):
                raise BadStanza("text, at: one of the two is needed")
            return PlaceCommand(leader_epoch, boot, text, _point_from_text(at) if at else None)
        case _:
            raise BadStanza("node: no such command")


def _lines(fields: Fields, name: str, limit: int) -> list[str]:
    lines = fields.get(name, [])
    if not 0 < len(lines) <= limit:
        raise BadStanza(f"{name}: 1 to {limit} lines are needed")
    return lines


def _refuse_repeats(name: str, keys: Sequence[object]) -> None:
    if len(set(keys)) != len(keys):
        raise BadStanza(f"{name}: one is listed twice")


def _point_to_text(at: Point) -> str:
    return f"{at[0]:.5f},{at[1]:.5f}"


def _point_from_text(text: str) -> Point:
    lat, _, lon = text.partition(",")
    return parse_number(lat, "latitude", -90, 90), parse_number(lon, "longitude", -180, 180)


def _routes_to_text(lane: LaneRoutes) -> str:
    points = [_point_to_text(at) for at in (lane.origin, *lane.destinations)]
    return " ".join([str(lane.lane), *points])


def _routes_from_text(line: str) -> LaneRoutes:
    n, *points = line.split(" ")
    if not 2 <= len(points) <= 1 + DESTINATIONS_AT_MOST:
        raise BadStanza(f"lanes: an origin and 1 to {DESTINATIONS_AT_MOST} destinations are needed")
    origin, *destinations = map(_point_from_text, points)
    return LaneRoutes(parse_integer(n, "lanes", 0, LANES_LIMIT), origin, tuple(destinations))


def _unnamed_from_text(line: str) -> Unnamed:
    key, _, at = line.partition(" ")
    return Unnamed(parse_word(key, "places"), _point_from_text(at))


# Answers.


def answer_to_xml(node: str, answer: GeoAnswer) -> ET.Element:
    """The completed `<command/>` that answers a command of this `node`."""
    fields: list[tuple[str, list[str]]] = []
    match answer:
        case TrafficAnswer():
            budget = answer.budget
            fields = [("calls", [str(budget.calls)]), ("daily_calls", [str(budget.daily_calls)])]
            names: Sequence[str] = _TRAFFIC
            rows = [_traffic_to_row(x) for x in answer.lanes]
        case NamesAnswer():
            names = _NAMED
            rows = [[x.key, x.name, *_source_to_row(x.source, x.reason)] for x in answer.places]
        case PlaceAnswer():
            names, rows = _PLACE, [_place_to_row(answer)]
    root = ET.Element(COMMAND_TAG, node=node, status="completed")
    form = fields_to_form("result", node, fields)
    append_rows(form, names, rows)
    root.append(form)
    return root


def _source_to_row(source: Source, reason: str) -> list[str]:
    ages = [format_number(source.age_s), format_number(source.valid_s)]
    return [source.provider, source.attribution, *ages, reason]


def _traffic_to_row(x: LaneTraffic) -> list[str]:
    index = "" if x.index is None else format_number(x.index)
    return [str(x.lane), index, "1" if x.live else "0", *_source_to_row(x.source, x.reason)]


def _place_to_row(answer: PlaceAnswer) -> list[str]:
    if (x := answer.place) is None:
        return [*[""] * (len(_PLACE) - 2), answer.attribution, answer.reason]
    found = [x.name, _point_to_text((x.lat, x.lon)), x.country, x.region, x.precision.value]
    found += [str(x.others), x.why, format_number(x.expires_at)]
    return [*found, x.provider, answer.attribution, answer.reason]


def answer_from_result(iq: Iq) -> GeoAnswer:
    """The answer in a result. Raises BadStanza."""
    root, fields = parse_completed(iq)
    match root.get("node", "").removeprefix(NODE_PREFIX):
        case "traffic":
            budget = ProviderCalls(
                *(
                    parse_integer(require_one_value(fields, name), name)
                    for name in ("calls", "daily_calls")
                )
            )
            lanes = [_traffic_from_row(r) for r in rows_from_form(root, TRAFFIC_LANES_AT_MOST)]
            _refuse_repeats("lane", [x.lane for x in lanes])
            return TrafficAnswer(tuple(lanes), budget)
        case "names":
            named = [_named_from_row(row) for row in rows_from_form(root, NAMES_AT_MOST)]
            _refuse_repeats("key", [x.key for x in named])
            return NamesAnswer(tuple(named))
        case "place":
            rows = rows_from_form(root, 1)
            if not rows:
                raise BadStanza("item: exactly one is needed")
            return _place_from_row(rows[0])
        case _:
            raise BadStanza("node: no such command")


def _source_from_row(row: Fields) -> tuple[Source, str]:
    """The source and the reason."""
    source = Source(
        parse_sentence(require_one_value(row, "provider"), PROVIDER_LIMIT),
        parse_sentence(require_one_value(row, "attribution"), ATTRIBUTION_LIMIT),
        parse_number(require_one_value(row, "age_s"), "age_s", *AGE_S),
        parse_number(require_one_value(row, "valid_s"), "valid_s", *VALID_S),
    )
    return source, parse_sentence(require_one_value(row, "reason"), REASON_LIMIT)


def _traffic_from_row(row: Fields) -> LaneTraffic:
    source, reason = _source_from_row(row)
    index = require_one_value(row, "index")
    if bool(index) == bool(reason):
        raise BadStanza("index, reason: one of the two is needed")
    return LaneTraffic(
        parse_integer(require_one_value(row, "lane"), "lane", 0, LANES_LIMIT),
        parse_number(index, "index", *INDEX) if index else None,
        source,
        reason,
        require_one_value(row, "live") == "1",
    )


def _named_from_row(row: Fields) -> Named:
    source, reason = _source_from_row(row)
    name = parse_sentence(require_one_value(row, "name"), NAME_LIMIT)
    if bool(name) == bool(reason):
        raise BadStanza("name, reason: one of the two is needed")
    return Named(parse_word(require_one_value(row, "key"), "key"), name, source, reason)


def _place_from_row(row: Fields) -> PlaceAnswer:
    name = parse_sentence(require_one_value(row, "name"), NAME_LIMIT)
    reason = parse_sentence(require_one_value(row, "reason"), REASON_LIMIT)
    if bool(name) == bool(reason):
        raise BadStanza("name, reason: one of the two is needed")
    attribution = parse_sentence(require_one_value(row, "attribution"), ATTRIBUTION_LIMIT)
    if not name:
        return PlaceAnswer(None, attribution, reason)
    try:
        precision = Precision(require_one_value(row, "precision"))
    except ValueError:
        raise BadStanza("precision: not a known value") from None
    lat, lon = _point_from_text(require_one_value(row, "at"))
    place = Place(
        name,
        lat,
        lon,
        parse_sentence(require_one_value(row, "country"), NAME_LIMIT),
        parse_sentence(require_one_value(row, "region"), NAME_LIMIT),
        precision,
        parse_sentence(require_one_value(row, "provider"), PROVIDER_LIMIT),
        parse_integer(require_one_value(row, "others"), "others"),
        parse_sentence(require_one_value(row, "why"), REASON_LIMIT),
        parse_number(require_one_value(row, "expires_at"), "expires_at"),
    )
    return PlaceAnswer(place, attribution)
