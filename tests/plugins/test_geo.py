"""Questions to geo workers and their answers survive the wire, and nothing else is read."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.core.model.geo import (
    DESTINATIONS_AT_MOST,
    TRAFFIC_LANES_AT_MOST,
    GeoAnswer,
    GeoCommand,
    LaneRoutes,
    LaneTraffic,
    Named,
    NamesAnswer,
    NamesCommand,
    PlaceAnswer,
    PlaceCommand,
    ProviderCalls,
    Source,
    TrafficAnswer,
    TrafficCommand,
    Unnamed,
)
from agents.core.model.places import Place, Precision
from plugins import geo
from plugins.values import BadStanza
from tests.plugins import support as ours
from tests.plugins.support import line_text, whole, words
from tests.plugins.test_round_trips import iq_with, plain

points = st.tuples(
    st.integers(-9_000_000, 9_000_000).map(lambda e5: e5 / 1e5),
    st.integers(-18_000_000, 18_000_000).map(lambda e5: e5 / 1e5),
)
routes = st.builds(
    LaneRoutes,
    lane=st.integers(0, 1_000_000),
    origin=points,
    destinations=st.lists(points, min_size=1, max_size=DESTINATIONS_AT_MOST).map(tuple),
)
commands: st.SearchStrategy[GeoCommand] = st.one_of(
    st.builds(
        TrafficCommand,
        whole,
        words,
        st.lists(
            routes, min_size=1, max_size=TRAFFIC_LANES_AT_MOST, unique_by=lambda x: x.lane
        ).map(tuple),
    ),
    st.builds(
        NamesCommand,
        whole,
        words,
        st.lists(
            st.builds(Unnamed, words, points), min_size=1, max_size=50, unique_by=lambda x: x.key
        ).map(tuple),
    ),
    st.builds(PlaceCommand, whole, words, text=line_text.filter(bool)),
    st.builds(PlaceCommand, whole, words, at=points),
)
seconds = st.integers(0, 86_400_000).map(lambda ms: ms / 1000)
sources = st.builds(Source, line_text, line_text, seconds, seconds)
indexes = st.integers(250, 16_000).map(lambda n: n / 1000)
said = line_text.filter(bool)
lane_traffic = st.builds(
    LaneTraffic, st.integers(0, 1_000_000), indexes, sources, live=st.booleans()
) | st.builds(LaneTraffic, st.integers(0, 1_000_000), st.none(), sources, reason=said)
names = st.builds(Named, words, said, sources) | st.builds(Named, words, st.just(""), sources, said)
places = st.builds(
    Place,
    said,
    st.integers(-9_000_000, 9_000_000).map(lambda e5: e5 / 1e5),
    st.integers(-18_000_000, 18_000_000).map(lambda e5: e5 / 1e5),
    line_text,
    line_text,
    st.sampled_from(Precision),
    line_text,
    whole,
    line_text,
    st.integers(0, 10**12).map(lambda ms: ms / 1000),
)
answers: st.SearchStrategy[GeoAnswer] = st.one_of(
    st.builds(
        TrafficAnswer,
        st.lists(lane_traffic, max_size=10, unique_by=lambda x: x.lane).map(tuple),
        st.builds(ProviderCalls, whole, whole),
    ),
    st.builds(NamesAnswer, st.lists(names, max_size=20, unique_by=lambda x: x.key).map(tuple)),
    st.builds(PlaceAnswer, places, line_text),
    st.builds(PlaceAnswer, st.none(), line_text, said),
)
NAME_OF = {TrafficAnswer: "traffic", NamesAnswer: "names", PlaceAnswer: "place"}


@given(commands)
def test_a_question_survives(command: GeoCommand) -> None:
    iq = iq_with(geo.command_to_xml(command))
    assert geo.is_geo_command(iq)
    assert geo.command_from_iq(iq) == command


@given(answers)
def test_an_answer_survives(answer: GeoAnswer) -> None:
    node = geo.NODE_PREFIX + NAME_OF[type(answer)]
    assert geo.answer_from_result(iq_with(geo.answer_to_xml(node, answer))) == answer


def test_more_than_one_command_carries_is_not_sent() -> None:
    lane = LaneRoutes(1, (0.0, 0.0), ((1.0, 1.0),))
    with pytest.raises(ValueError, match="at most 10"):
        geo.command_to_xml(TrafficCommand(1, "b", (lane,) * 11))
    with pytest.raises(ValueError, match="at most 10"):
        geo.command_to_xml(TrafficCommand(1, "b", (LaneRoutes(1, (0.0, 0.0), ((1.0, 1.0),) * 11),)))


def _changed(element: ET.Element, before: str, after: str) -> ET.Element:
    text = ET.tostring(element, encoding="unicode")
    assert before in text
    return ET.fromstring(text.replace(before, after, 1))


ONE = TrafficCommand(4, "b1", (LaneRoutes(12, (50.11, 8.68), ((50.08, 8.24),)),))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("12 50.11000,8.68000 50.08000,8.24000", "12 50.11000,8.68000"),
        ("12 50.11000,8.68000", "x 50.11000,8.68000"),
        ("50.11000,8.68000", "NaN,8.68"),
        ("50.11000,8.68000", "91,8.68"),
        ("50.11000,8.68000", "null"),
        (">b1<", "><"),
        ("#traffic", "#fortune"),
        ('action="execute"', 'action="cancel"'),
    ],
)
def test_an_invalid_question_is_refused(before: str, after: str) -> None:
    with pytest.raises(BadStanza):
        geo.command_from_iq(iq_with(_changed(geo.command_to_xml(ONE), before, after)))


ROW = LaneTraffic(12, 1.4, Source("apple", "Apple Maps", 2.0, 298.0))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (">1.4<", "><"),  # neither an index nor a reason
        (">1.4<", ">0<"),
        (">1.4<", ">17<"),
        (">1.4<", ">null<"),
        (">298<", ">-1<"),
        (">298<", ">1e9<"),
        (">12<", ">-12<"),
        ('"completed"', '"executing"'),
    ],
)
def test_an_impossible_answer_is_refused(before: str, after: str) -> None:
    sent = geo.answer_to_xml(
        f"{geo.NODE_PREFIX}traffic", TrafficAnswer((ROW,), ProviderCalls(0, 20_000))
    )
    with pytest.raises(BadStanza):
        geo.answer_from_result(iq_with(_changed(sent, before, after)))


def test_a_question_looks_as_the_documentation_says() -> None:
    expected = """
    <command xmlns='http://jabber.org/protocol/commands' node='urn:geolane:geo:1#traffic' action='execute'>
     <x xmlns='jabber:x:data' type='submit'>
      <field var='FORM_TYPE' type='hidden'><value>urn:geolane:geo:1#traffic</value></field>
      <field var='leader_epoch'><value>4</value></field>
      <field var='boot'><value>b1</value></field>
      <field var='lanes' type='text-multi'><value>12 50.11000,8.68000 50.08000,8.24000</value></field>
     </x></command>"""  # noqa: E501
    sent = ET.tostring(geo.command_to_xml(ONE))
    assert plain(ET.canonicalize(sent, strip_text=True)) == plain(
        ET.canonicalize(expected, strip_text=True)
    )


SENT_ANSWER = geo.answer_to_xml(f"{geo.NODE_PREFIX}traffic", TrafficAnswer((ROW,)))


@given(ours.hostile(geo.COMMAND_TAG) | ours.spoiled(geo.command_to_xml(ONE)))
def test_whatever_comes_is_a_question_or_refused(xml: ET.Element) -> None:
    with suppress(BadStanza):
        geo.command_from_iq(iq_with(xml))


@given(ours.hostile(geo.COMMAND_TAG) | ours.spoiled(SENT_ANSWER))
def test_whatever_comes_is_an_answer_or_refused(xml: ET.Element) -> None:
    with suppress(BadStanza):
        geo.answer_from_result(iq_with(xml))
