"""Values as the core makes them, and XML as an enemy does."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import strategies as st

from agents.base.text import to_one_line
from agents.core.events import AdHoc
from agents.core.model.feeds import (
    AlertItem,
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
from agents.core.model.forms import (
    Field,
    FieldKind,
    Form,
    FormRefusal,
    FormReply,
    Listing,
    Mood,
    Option,
    Remark,
    Status,
)
from agents.core.model.hotspots import HotspotState
from agents.core.model.messages import (
    Accelerator,
    Announcement,
    Arrival,
    AssignCommand,
    DrainCommand,
    Grant,
    Health,
    LaneLoad,
    LanesCommand,
    LeaseCommand,
    PathReport,
    ReleaseCommand,
    RestartCommand,
    ResumeCommand,
    Telemetry,
    WorkerAnswer,
)
from agents.core.model.topology import WorkerKind
from plugins import namespaces as ns

words = st.from_regex(r"[A-Za-z0-9_.:-]{1,40}", fullmatch=True)
xml_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=60
)
line_text = xml_text.map(lambda text: to_one_line(text, 60))  # as what others wrote is read
whole = st.integers(0, 10**15)
amounts = st.integers(0, 10**12).map(lambda thousandths: thousandths / 1000)
topics = st.sampled_from([WorkerKind.NODE.topic, WorkerKind.ROUTER.topic, "main/events_2.x-y"])

announcements = st.builds(
    Announcement,
    worker=st.just("node-iad-1"),
    health=st.sampled_from([Health.AVAILABLE, Health.DND, Health.XA]),
    boot=words,
    state=words,
    status=line_text,
    site=line_text,
    capacity_eps=amounts,
    accel=line_text.filter(bool),
    version=line_text,
)
loads = st.builds(
    LaneLoad,
    topic=topics,
    n=whole,
    epoch=whole,
    rate_eps=amounts,
    lag_events=whole,
    p50_ms=amounts,
    p99_ms=amounts,
    fault=line_text,
)


def _figure(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.integers(int(low * 1000), int(high * 1000)).map(
        lambda thousandths: thousandths / 1000
    )


accelerators = st.builds(
    Accelerator,
    vendor=words,
    name=line_text,
    utilisation=_figure(0, 1),
    mem_used_mb=_figure(0, 1e9),
    mem_total_mb=_figure(0, 1e9),
    temperature_c=_figure(-100, 300),
    power_w=_figure(0, 1e5),
    faults=st.lists(words, max_size=8).map(tuple),
)
paths = st.builds(
    PathReport,
    broker=st.integers(0, 2**31 - 1),
    rtt_ms=st.integers(0, 60_000_000).map(lambda us: us / 1000),
    min_ms=st.integers(0, 60_000_000).map(lambda us: us / 1000),
    probes=st.integers(1, 15),
    age_s=st.integers(0, 86_400_000).map(lambda ms: ms / 1000),
)
telemetries = st.builds(
    Telemetry,
    boot=words,
    seq=whole,
    ts=line_text,
    cpu=amounts,
    mem_mb=amounts,
    tuning=whole,
    lanes=st.lists(loads, max_size=4).map(tuple),
    arrivals=st.lists(st.builds(Arrival, whole, amounts), max_size=4).map(tuple),
    accelerators=st.lists(accelerators, max_size=4).map(tuple),
    pipeline=line_text,
    paths=st.lists(paths, max_size=4, unique_by=lambda p: p.broker).map(tuple),
)

grants = st.lists(st.builds(Grant, whole, whole, whole), max_size=8, unique_by=lambda g: g.n).map(
    tuple
)
commands = st.one_of(
    st.builds(
        LeaseCommand,
        whole,
        words,
        transactional_id=words,
        producer_id=st.integers(-1, 10**17),
        producer_epoch=st.integers(-1, 32767),
    ),
    st.builds(AssignCommand, whole, words, topics, grants),
    st.builds(ReleaseCommand, whole, words, topics, grants),
    st.builds(LanesCommand, whole, words),
    st.builds(DrainCommand, whole, words),
    st.builds(ResumeCommand, whole, words),
    st.builds(RestartCommand, whole, words),
)
answers = st.builds(WorkerAnswer, grants)

moves = st.builds(
    MoveItem,
    whole,
    line_text,
    line_text,
    whole,
    st.integers(-(10**9), 10**9).map(lambda x: x / 1000),
    topics,
)
parts_per_million = st.integers(0, 10**6).map(lambda x: x / 10**6)
_degrees = st.integers(-90_000, 90_000).map(lambda x: x / 1000)
worker_rows = st.builds(
    lambda turn, more, rows: WorkerRows(turn, turn + more, tuple(rows)),
    st.integers(0, 400),
    st.integers(1, 400),
    st.lists(
        st.builds(
            WorkerRow,
            words,
            words,
            line_text,
            _degrees,
            _degrees,
            words,
            whole,
            amounts,
            whole,
            amounts,
            amounts,
        ),
        max_size=4,
    ),
)
lane_rows = st.builds(
    lambda turn, more, rows: LaneRows(turn, turn + more, tuple(rows)),
    st.integers(0, 400),
    st.integers(1, 400),
    st.lists(
        st.builds(
            LaneRow, whole, st.just("") | words, words, _degrees, _degrees, amounts, whole, amounts
        ),
        max_size=4,
    ),
)
trouble_rows = st.builds(
    TroubleRows,
    whole,
    st.lists(
        st.builds(TroubleRow, words, line_text, st.sampled_from(Severity), amounts, line_text),
        max_size=4,
    ).map(tuple),
)
elements = st.one_of(
    st.builds(PlacementFigures, amounts, amounts, parts_per_million, whole, amounts, whole),
    st.builds(PlacementPlan, whole, line_text, line_text, st.lists(moves, max_size=4).map(tuple)),
    st.builds(
        FleetSummary,
        *[whole] * 7,
        rate_eps=amounts,
        arrival_eps=amounts,
        lag_events=whole,
        p50_ms=amounts,
        p99_ms=amounts,
        paused=st.booleans(),
        workers=st.none() | worker_rows,
        troubles=st.none() | trouble_rows,
        lane_rows=st.none() | lane_rows,
    ),
    st.builds(AlertItem, st.sampled_from(Severity), line_text, line_text),
    st.builds(
        HotspotItem,
        words,
        st.sampled_from(HotspotState),
        line_text,
        st.integers(-90_000, 90_000).map(lambda n: n / 1000),
        st.integers(-180_000, 180_000).map(lambda n: n / 1000),
        amounts,
        amounts,
        whole,
        whole,
        whole,
        st.lists(whole, max_size=9).map(tuple),
    ),
    st.builds(
        GeoItem,
        whole,
        whole,
        whole,
        st.lists(
            st.builds(
                LaneTrafficRow,
                whole,
                st.integers(250, 16_000).map(lambda n: n / 1000),
                st.booleans(),
                line_text,
                amounts,
                amounts,
                line_text,
            ),
            max_size=4,
        ).map(tuple),
    ),
    st.builds(
        TuningValues, whole, st.lists(st.tuples(words, whole | amounts), max_size=4).map(tuple)
    ),
)
feed_items = st.builds(FeedItem, words, words, line_text, line_text, elements, whole)

# ---- forms ----

filled_in = st.dictionaries(words.filter(lambda w: w != "FORM_TYPE"), xml_text, max_size=5)
steps = st.builds(
    AdHoc,
    st.just("r1"),
    st.just("ana@geolane.test"),
    words,
    words | st.just(""),
    st.sampled_from(["execute", "next", "complete"]),
    filled_in,
) | st.builds(
    AdHoc,
    st.just("r1"),
    st.just("ana@geolane.test"),
    words,
    words,
    st.sampled_from(["cancel", "prev"]),
)
_options = st.lists(st.builds(Option, xml_text, xml_text), max_size=4).map(tuple)
_ranges = st.tuples(whole, whole) | st.just((None, None))


@st.composite
def form_fields(draw: st.DrawFn) -> Field:
    low, high = draw(_ranges)
    return draw(
        st.builds(
            Field,
            words.filter(lambda w: w != "FORM_TYPE"),
            st.sampled_from(FieldKind),
            xml_text,
            xml_text,
            _options,
            st.booleans(),
            xml_text,
            st.just(low),
            st.just(high),
        )
    )


replies = st.builds(
    FormReply,
    words,
    words,
    st.sampled_from(Status),
    st.none()
    | st.builds(
        Form, xml_text, xml_text, st.lists(form_fields(), max_size=4).map(tuple), st.booleans()
    ),
    st.lists(st.builds(Remark, st.sampled_from(Mood), xml_text), max_size=3).map(tuple),
    st.sampled_from(
        [(), ("next",), ("complete",), ("complete", "prev"), ("next", "prev", "complete")]
    ),
    st.lists(moves, max_size=3).map(tuple),
)
refusals = st.builds(
    FormRefusal,
    st.sampled_from(["forbidden", "bad-request", "item-not-found", "resource-constraint"]),
    xml_text.map(str.strip),
    st.sampled_from(["", "bad-sessionid", "bad-action"]),
)
listings = st.builds(Listing, st.lists(st.builds(Option, words, xml_text), max_size=5).map(tuple))

# ---- hostile ----

_TAGS = st.sampled_from(
    [
        f"{{{ns.NODE}}}node",
        f"{{{ns.TELEMETRY}}}telemetry",
        f"{{{ns.TELEMETRY}}}lane",
        f"{{{ns.TELEMETRY}}}arrival",
        f"{{{ns.TELEMETRY}}}accelerator",
        f"{{{ns.COMMANDS}}}command",
        f"{{{ns.DATA}}}x",
        f"{{{ns.DATA}}}field",
        f"{{{ns.DATA}}}value",
        f"{{{ns.DATA}}}option",
        f"{{{ns.COMMANDS}}}actions",
        f"{{{ns.COMMANDS}}}note",
        f"{{{ns.DISCO_ITEMS}}}query",
        f"{{{ns.DISCO_ITEMS}}}item",
        f"{{{ns.VALIDATE}}}range",
        f"{{{ns.PUBSUB_EVENT}}}event",
        f"{{{ns.PUBSUB_EVENT}}}items",
        f"{{{ns.PUBSUB_EVENT}}}item",
        f"{{{ns.MUC_USER}}}x",
        f"{{{ns.MUC_USER}}}item",
        f"{{{ns.MUC_USER}}}status",
        f"{{{ns.ATOM}}}entry",
        f"{{{ns.ATOM}}}title",
        f"{{{ns.PLACEMENT}}}placement",
        f"{{{ns.FEED}}}fleet",
        f"{{{ns.FEED}}}alert",
        f"{{{ns.STANZA_ID}}}stanza-id",
        f"{{{ns.CORRECT}}}replace",
        f"{{{ns.DELAY}}}delay",
        f"{{{ns.CLIENT}}}body",
        f"{{{ns.CLIENT}}}show",
        f"{{{ns.CLIENT}}}status",
        f"{{{ns.CLIENT}}}subject",
        f"{{{ns.CLIENT}}}error",
        "bare",
    ]
)
_NAMES = st.sampled_from(
    [
        "var",
        "type",
        "node",
        "action",
        "boot",
        "seq",
        "ts",
        "cpu",
        "mem_mb",
        "n",
        "epoch",
        "topic",
        "id",
        "by",
        "jid",
        "nick",
        "affiliation",
        "code",
        "publisher",
        "seen",
        "leader_epoch",
        "plan",
        "reason",
        "severity",
        "sessionid",
        "capacity_eps",
        "state",
        "rate_eps",
        "vendor",
        "temperature_c",
        "faults",
    ]
)
_WORDS = (
    "NaN inf -1 1e999 ٣ 1_0 @ a@b@c submit execute FORM_TYPE lanes leader_epoch boot owner 110 dnd"
)
_NASTY = st.sampled_from(
    [
        *_WORDS.split(),
        "9" * 400,
        " 1",
        "1 2",
        "\N{ZERO WIDTH SPACE}",
        f"{ns.LANES}#assign",
        f"{ns.LANES}#lease",
        f"{ns.OPERATOR}#drain",
        ns.COMMANDS,
        "executing",
        "cancel",
        "telemetry/node-a",
        "node-a@fleet.geolane.test/etl",
        "ops@conference.geolane.test",
    ]
)
_STRINGS = _NASTY | xml_text | whole.map(str)


@st.composite
def hostile(draw: st.DrawFn, tag: str | None = None, depth: int = 2) -> ET.Element:
    """An element of any shape out of our vocabulary."""
    element = ET.Element(tag or draw(_TAGS), draw(st.dictionaries(_NAMES, _STRINGS, max_size=5)))
    element.text = draw(st.none() | _STRINGS)
    if depth:
        element.extend(draw(st.lists(hostile(depth=depth - 1), max_size=3)))
    return element


@st.composite
def spoiled(draw: st.DrawFn, good: ET.Element) -> ET.Element:
    """`good` (a copy) with one to three things in it changed, doubled or taken away."""
    root = ET.fromstring(ET.tostring(good))
    for _ in range(draw(st.integers(1, 3))):
        victim = draw(st.sampled_from(list(root.iter())))
        match draw(st.sampled_from(["attribute", "text", "drop", "double", "add"])):
            case "attribute" if victim.attrib:
                victim.set(draw(st.sampled_from(sorted(victim.attrib))), draw(_STRINGS))
            case "text":
                victim.text = draw(_STRINGS)
            case "drop" if len(victim):
                victim.remove(draw(st.sampled_from(list(victim))))
            case "double" if len(victim):
                victim.append(draw(st.sampled_from(list(victim))))
            case _:
                victim.append(draw(hostile(depth=1)))
    return root
