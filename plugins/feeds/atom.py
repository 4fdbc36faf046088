"""FeedItem <-> one Atom entry (RFC 4287) with the typed element inside, since an item may carry
only one payload."""

from __future__ import annotations

import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from agents.base.text import to_printable
from agents.core.model.feeds import (
    AlertItem,
    FeedElement,
    FeedItem,
    FleetSummary,
    GeoItem,
    HotspotItem,
    LaneRow,
    LaneRows,
    LaneTrafficRow,
    MoveItem,
    PlacementFigures,
    PlacementPlan,
    Severity,
    TroubleRow,
    TroubleRows,
    TuningValues,
    WorkerRow,
    WorkerRows,
)
from agents.core.model.geo import INDEX
from agents.core.model.hotspots import HotspotState
from agents.core.model.topology import WorkerKind
from plugins import namespaces as ns
from plugins.values import (
    BadStanza,
    format_number,
    parse_integer,
    parse_number,
    parse_optional_word,
    parse_sentence,
    parse_topic,
    parse_word,
    replace_invalid_xml,
    require_only_child,
)

_URN = uuid.UUID("8d1c39a5-7f0e-4b0a-9b7e-6a1d3c1f5e20")
_A = f"{{{ns.ATOM}}}"
_PLAN, _MOVE = f"{{{ns.PLACEMENT}}}placement", f"{{{ns.PLACEMENT}}}move"
_FIGURES = f"{{{ns.PLACEMENT}}}figures"
_FLEET, _ALERT = f"{{{ns.FEED}}}fleet", f"{{{ns.FEED}}}alert"
_WORKERS, _WORKER = f"{{{ns.FEED}}}workers", f"{{{ns.FEED}}}worker"
_LANES, _LANE = f"{{{ns.FEED}}}lanes", f"{{{ns.FEED}}}lane"
_TROUBLES, _TROUBLE = f"{{{ns.FEED}}}troubles", f"{{{ns.FEED}}}trouble"
_HOTSPOT = f"{{{ns.FEED}}}hotspot"
_GEO, _TRAFFIC = f"{{{ns.GEO}}}traffic", f"{{{ns.GEO}}}lane"
_TUNING, _SET = f"{{{ns.FEED}}}tuning", f"{{{ns.FEED}}}set"
SETS_LIMIT = 200
LANES_LIMIT = 1_000
ROWS_LIMIT = 1_000


def item_to_entry(item: FeedItem, updated: datetime) -> ET.Element:
    """The entry. Its id follows from feed and item id, so publishing it again does not make another
    entry.

    ::

        <entry xmlns='http://www.w3.org/2005/Atom'>
         <id>urn:uuid:...</id><title>1 lane moved: fra-1 draining</title>
         <updated>2026-11-22T22:08:12Z</updated>
         <author><name>geolane</name></author><content>12: fra-1 to ams-2, +2.1 ms</content>
         <placement xmlns='urn:geolane:placement:1' leader_epoch='4' plan='918' reason='drain'
           by='ana@example.org'>
          <move lane='12' from='fra-1' to='ams-2' epoch='8' delta_ms='2.1'/></placement>
        </entry>

    On the same feed, on every tick, the item `current`: ``<figures xmlns='urn:geolane:placement:1'
    leader_epoch='4' objective='15204.2' bound='15180.1' gap='0.0016' moves='1' solve_ms='2.1'
    waiting='0'/>``. On the feed `fleet`: ``<fleet xmlns='urn:geolane:feed:1' leader_epoch='4'
    nodes='10' ...>`` with ``<workers turn='0' turns='1'><worker name='node-fra-1' site='fra'
    region='Germany West Central' lat='50.11' lon='8.68' state='ok' lanes='4' rate_eps='410'
    lag_events='12' p99_ms='9.4' capacity_eps='2000'/>...</workers>`` inside (if there are
    many workers, a different share of them in each item) and ``<troubles total='1'><trouble
    kind='lane_stopped' about='main/events.lanes/12' severity='critical' for_s='74'>lane 12 stands
    still at fra-1: ...</trouble></troubles>``, the worst troubles, and ``<lanes turn='0'
    turns='1'><lane n='12' node='fra-1' state='ok' lat='50.1' lon='8.7' rate_eps='41.5'
    lag_events='3' p99_ms='9.4'/>...</lanes>``, in shares like the workers. On `alerts`: ``<alert
    xmlns='urn:geolane:feed:1' leader_epoch='4' severity='warning' kind='node_gone'
    about='node-fra-1'/>``. On `hotspots`, one item for each, which its changes replace: ``<hotspot
    xmlns='urn:geolane:feed:1' leader_epoch='4' id='8326cbfffffffff-1764417000' state='open'
    place='Dallas, US' lat='32.78' lon='-96.8' eps='14.2' usual_eps='2.1' started_s='1764416940'
    last_s='1764417000' ended_s='0' lanes='3 7'/>``. On `geo`, the item `current`:
    ``<traffic xmlns='urn:geolane:geo:1' leader_epoch='4' lanes='8' calls='812'
    daily_calls='20000'><lane n='12' index='1.4' live='1' provider='apple' age_s='35' valid_s='265'
    place='Frankfurt am Main, DE'/></traffic>``. On `tuning`, for the workers:
    ``<tuning xmlns='urn:geolane:feed:1' leader_epoch='4' version='17'><set name='commit_gap_ms'
    value='200'/></tuning>``."""
    entry = ET.Element(f"{_A}entry")
    ET.SubElement(entry, f"{_A}id").text = uuid.uuid5(_URN, f"{item.feed}/{item.item_id}").urn
    ET.SubElement(entry, f"{_A}title").text = replace_invalid_xml(item.title)
    ET.SubElement(entry, f"{_A}updated").text = updated.astimezone(UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )
    ET.SubElement(ET.SubElement(entry, f"{_A}author"), f"{_A}name").text = "geolane"
    ET.SubElement(entry, f"{_A}content").text = replace_invalid_xml(item.content)
    entry.append(_value_to_xml(item.element, item.leader_epoch))
    return entry


def _value_to_xml(value: FeedElement, leader_epoch: int) -> ET.Element:
    head = {"leader_epoch": str(leader_epoch)}
    match value:
        case PlacementPlan():
            root = ET.Element(
                _PLAN, head, plan=str(value.plan), reason=replace_invalid_xml(value.reason)
            )
            if value.by:
                root.set("by", replace_invalid_xml(value.by))
            append_moves(root, value.moves)
            return root
        case PlacementFigures():
            root = ET.Element(_FIGURES, head)
            for name in PlacementFigures.__slots__:
                root.set(name, format_number(getattr(value, name)))
            root.set("gap", f"{value.gap:.6f}")  # a millionth matters here
            return root
        case FleetSummary():
            root = ET.Element(_FLEET, head)
            for name in FleetSummary.figure_names():
                field = getattr(value, name)
                root.set(
                    name, str(field).lower() if isinstance(field, bool) else format_number(field)
                )
            if value.workers is not None:
                root.append(_rows_to_xml(value.workers))
            if value.troubles is not None:
                root.append(_troubles_to_xml(value.troubles))
            if value.lane_rows is not None:
                root.append(_lanes_to_xml(value.lane_rows))
            return root
        case AlertItem():
            return ET.Element(
                _ALERT,
                head,
                severity=value.severity.value,
                kind=replace_invalid_xml(value.kind),
                about=replace_invalid_xml(value.about),
            )
        case HotspotItem():
            root = ET.Element(_HOTSPOT, head, id=value.id, state=value.state.value)
            root.set("place", replace_invalid_xml(value.place))
            for name in _HOTSPOT_NUMBERS:
                root.set(name, format_number(getattr(value, name)))
            root.set("lanes", " ".join(map(str, value.lanes[:LANES_LIMIT])))
            return root
        case GeoItem():
            return _geo_to_xml(value, head)
        case TuningValues():
            root = ET.Element(_TUNING, head, version=str(value.version))
            for name, number_ in value.values:
                ET.SubElement(root, _SET, name=name, value=repr(number_))
            return root


def append_moves(root: ET.Element, moves: Iterable[MoveItem]) -> None:
    """Add a `<move/>` for each."""
    for move in moves:
        x = ET.SubElement(root, _MOVE, lane=str(move.lane))
        x.set("from", move.source)
        x.set("to", move.target)
        x.set("epoch", str(move.epoch))
        x.set("delta_ms", format_number(move.delta_ms))
        if move.topic != WorkerKind.NODE.topic:
            x.set("topic", move.topic)


def moves_from_xml(root: ET.Element) -> tuple[MoveItem, ...]:
    """The moves in `root`. Raises BadStanza."""
    return tuple(_move_from_xml(x) for x in root.iterfind(_MOVE))


def _rows_to_xml(value: WorkerRows) -> ET.Element:
    root = ET.Element(_WORKERS, turn=str(value.turn), turns=str(value.turns))
    for row in value.rows:
        x = ET.SubElement(
            root, _WORKER, name=row.worker, site=row.site, region=replace_invalid_xml(row.region)
        )
        for name in ("lat", "lon"):
            x.set(name, format_number(getattr(row, name)))
        x.set("state", row.state)
        for name in ("lanes", "rate_eps", "lag_events", "p99_ms", "capacity_eps"):
            x.set(name, format_number(getattr(row, name)))
    return root


def _lanes_to_xml(value: LaneRows) -> ET.Element:
    root = ET.Element(_LANES, turn=str(value.turn), turns=str(value.turns))
    for row in value.rows:
        x = ET.SubElement(root, _LANE, n=str(row.lane), node=row.node, state=row.state)
        for name in ("lat", "lon", "rate_eps", "lag_events", "p99_ms"):
            x.set(name, format_number(getattr(row, name)))
    return root


def _geo_to_xml(value: GeoItem, head: dict[str, str]) -> ET.Element:
    root = ET.Element(_GEO, head)
    for name in ("lanes", "calls", "daily_calls"):
        root.set(name, str(getattr(value, name)))
    for row in value.rows:
        x = ET.SubElement(root, _TRAFFIC, n=str(row.lane), live="1" if row.live else "0")
        for name in ("index", "age_s", "valid_s"):
            x.set(name, format_number(getattr(row, name)))
        for name in ("provider", "place"):
            x.set(name, replace_invalid_xml(getattr(row, name)))
    return root


def _geo_from_xml(root: ET.Element) -> GeoItem:
    if len(root) > ROWS_LIMIT:
        raise BadStanza(f"traffic: more than {ROWS_LIMIT}")
    lanes, calls, daily_calls = (
        parse_integer(root.get(name), name) for name in ("lanes", "calls", "daily_calls")
    )
    rows = tuple(
        LaneTrafficRow(
            parse_integer(x.get("n"), "n"),
            parse_number(x.get("index"), "index", *INDEX),
            x.get("live") == "1",
            parse_sentence(x.get("provider")),
            parse_number(x.get("age_s"), "age_s"),
            parse_number(x.get("valid_s"), "valid_s"),
            parse_sentence(x.get("place")),
        )
        for x in root.iterfind(_TRAFFIC)
    )
    return GeoItem(lanes, calls, daily_calls, rows)


def _troubles_to_xml(value: TroubleRows) -> ET.Element:
    root = ET.Element(_TROUBLES, total=str(value.total))
    for row in value.rows:
        about, severity = replace_invalid_xml(row.about), row.severity.value
        x = ET.SubElement(
            root,
            _TROUBLE,
            kind=row.kind,
            about=about,
            severity=severity,
            for_s=format_number(row.for_s),
        )
        x.text = replace_invalid_xml(row.text)
    return root


def item_from_entry(feed: str, item_id: str, entry: ET.Element) -> FeedItem:
    """The value of an entry of ours. Raises BadStanza for any other Atom entry."""
    if entry.tag != f"{_A}entry":
        raise BadStanza("entry: not the expected element")
    typed = [child for child in entry if not str(child.tag).startswith(_A)]
    if len(typed) != 1:
        raise BadStanza("entry: one typed element is needed")
    return FeedItem(
        feed=feed,
        item_id=item_id,
        title=to_printable(require_only_child(entry, f"{_A}title").text or ""),
        content=to_printable(require_only_child(entry, f"{_A}content").text or ""),
        element=_value_from_xml(typed[0]),
        leader_epoch=parse_integer(typed[0].get("leader_epoch"), "leader_epoch"),
    )


def updated_s_from_entry(entry: ET.Element) -> float:
    """When the entry was made, by its sender's clock, in epoch seconds: to be shown, never
    compared. Raises BadStanza."""
    try:
        return (
            datetime.fromisoformat(require_only_child(entry, f"{_A}updated").text or "")
            .replace(tzinfo=UTC)
            .timestamp()
        )
    except (ValueError, OverflowError):
        raise BadStanza("updated: a time is needed") from None


def _value_from_xml(root: ET.Element) -> FeedElement:
    if root.tag == _PLAN:
        return PlacementPlan(
            plan=parse_integer(root.get("plan"), "plan"),
            reason=parse_sentence(root.get("reason")),
            by=parse_sentence(root.get("by")),
            moves=moves_from_xml(root),
        )
    if root.tag == _FIGURES:
        shares = {
            name: parse_number(root.get(name), name)
            for name in ("objective", "bound", "gap", "solve_ms")
        }
        return PlacementFigures(
            **shares,
            moves=parse_integer(root.get("moves"), "moves"),
            waiting=parse_integer(root.get("waiting"), "waiting"),
        )
    if root.tag == _FLEET:
        fields: dict[str, Any] = {
            name: parse_integer(root.get(name), name) for name in _WHOLE
        }  # int and float together
        fields |= {name: parse_number(root.get(name), name) for name in _RATES}
        fields |= {
            "workers": _rows_from_xml(root.find(_WORKERS)),
            "troubles": _troubles_from_xml(root.find(_TROUBLES)),
            "lane_rows": _lanes_from_xml(root.find(_LANES)),
        }
        return FleetSummary(**fields, paused=root.get("paused") == "true")
    if root.tag == _ALERT:
        return AlertItem(
            _severity_from_xml(root),
            parse_sentence(root.get("kind")),
            parse_sentence(root.get("about")),
        )
    if root.tag == _HOTSPOT:
        return _hotspot_from_xml(root)
    if root.tag == _GEO:
        return _geo_from_xml(root)
    if root.tag == _TUNING:
        if len(root) > SETS_LIMIT:
            raise BadStanza(f"tuning: more than {SETS_LIMIT} settings")
        return TuningValues(
            parse_integer(root.get("version"), "version"),
            tuple(
                (parse_word(x.get("name"), "name"), _setting_from_text(x.get("value")))
                for x in root.iterfind(_SET)
            ),
        )
    raise BadStanza(f"{root.tag}: not a known element")


_HOTSPOT_NUMBERS = ("lat", "lon", "eps", "usual_eps", "started_s", "last_s", "ended_s")


def _hotspot_from_xml(root: ET.Element) -> HotspotItem:
    lanes = root.get("lanes", "").split()
    if len(lanes) > LANES_LIMIT:
        raise BadStanza(f"lanes: more than {LANES_LIMIT}")
    try:
        state = HotspotState(root.get("state", ""))
    except ValueError:
        raise BadStanza("state: not a known value") from None
    return HotspotItem(
        parse_word(root.get("id"), "id"),
        state,
        parse_sentence(root.get("place")),
        parse_number(root.get("lat"), "lat", -90, 90),
        parse_number(root.get("lon"), "lon", -180, 180),
        parse_number(root.get("eps"), "eps"),
        parse_number(root.get("usual_eps"), "usual_eps"),
        parse_integer(root.get("started_s"), "started_s"),
        parse_integer(root.get("last_s"), "last_s"),
        parse_integer(root.get("ended_s"), "ended_s"),
        tuple(parse_integer(n, "lanes") for n in lanes),
    )


def _setting_from_text(text: str | None) -> int | float:
    """Whole numbers stay whole."""
    return (
        parse_integer(text, "value")
        if text is not None and text.isdigit()
        else parse_number(text, "value")
    )


_RATES = ("rate_eps", "arrival_eps", "p50_ms", "p99_ms")
_WHOLE = tuple(name for name in FleetSummary.figure_names() if name not in (*_RATES, "paused"))


def _rows_from_xml(root: ET.Element | None) -> WorkerRows | None:
    if root is None:
        return None
    turn, turns = _share_from_xml(root, "workers")
    return WorkerRows(turn, turns, tuple(_row_from_xml(x) for x in root.iterfind(_WORKER)))


def _lanes_from_xml(root: ET.Element | None) -> LaneRows | None:
    if root is None:
        return None
    turn, turns = _share_from_xml(root, "lanes")
    return LaneRows(turn, turns, tuple(_lane_from_xml(x) for x in root.iterfind(_LANE)))


def _share_from_xml(root: ET.Element, name: str) -> tuple[int, int]:
    """(turn, turns). Raises BadStanza, for too many rows, too."""
    if len(root) > ROWS_LIMIT:
        raise BadStanza(f"{name}: more than {ROWS_LIMIT}")
    turns = parse_integer(root.get("turns"), "turns", 1, ROWS_LIMIT)
    return parse_integer(root.get("turn"), "turn", 0, turns - 1), turns


def _lane_from_xml(x: ET.Element) -> LaneRow:
    return LaneRow(
        lane=parse_integer(x.get("n"), "n"),
        node=parse_optional_word(x.get("node"), "node"),
        state=parse_word(x.get("state"), "state"),
        lat=parse_number(x.get("lat"), "lat", -90, 90),
        lon=parse_number(x.get("lon"), "lon", -180, 180),
        rate_eps=parse_number(x.get("rate_eps"), "rate_eps"),
        lag_events=parse_integer(x.get("lag_events"), "lag_events"),
        p99_ms=parse_number(x.get("p99_ms"), "p99_ms"),
    )


def _severity_from_xml(x: ET.Element) -> Severity:
    try:
        return Severity(x.get("severity", ""))
    except ValueError:
        raise BadStanza("severity: not a known value") from None


def _troubles_from_xml(root: ET.Element | None) -> TroubleRows | None:
    if root is None:
        return None
    if len(root) > ROWS_LIMIT:
        raise BadStanza(f"troubles: more than {ROWS_LIMIT}")
    return TroubleRows(
        parse_integer(root.get("total"), "total"),
        tuple(_trouble_from_xml(x) for x in root.iterfind(_TROUBLE)),
    )


def _trouble_from_xml(x: ET.Element) -> TroubleRow:
    return TroubleRow(
        kind=parse_word(x.get("kind"), "kind"),
        about=parse_sentence(x.get("about")),
        severity=_severity_from_xml(x),
        for_s=parse_number(x.get("for_s"), "for_s"),
        text=parse_sentence(x.text),
    )


def _row_from_xml(x: ET.Element) -> WorkerRow:
    return WorkerRow(
        worker=parse_word(x.get("name"), "name"),
        site=parse_word(x.get("site"), "site"),
        region=parse_sentence(x.get("region")),
        lat=parse_number(x.get("lat"), "lat", -90, 90),
        lon=parse_number(x.get("lon"), "lon", -180, 180),
        state=parse_word(x.get("state"), "state"),
        lanes=parse_integer(x.get("lanes"), "lanes"),
        rate_eps=parse_number(x.get("rate_eps"), "rate_eps"),
        lag_events=parse_integer(x.get("lag_events"), "lag_events"),
        p99_ms=parse_number(x.get("p99_ms"), "p99_ms"),
        capacity_eps=parse_number(x.get("capacity_eps"), "capacity_eps"),
    )


def _move_from_xml(x: ET.Element) -> MoveItem:
    return MoveItem(
        lane=parse_integer(x.get("lane"), "lane"),
        source=parse_sentence(x.get("from")),
        target=parse_sentence(x.get("to")),
        epoch=parse_integer(x.get("epoch"), "epoch"),
        delta_ms=parse_number(x.get("delta_ms"), "delta_ms", -1e15),
        topic=parse_topic(x.get("topic", WorkerKind.NODE.topic), "topic"),
    )
