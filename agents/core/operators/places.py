"""`place`: where a name is, or what is at coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agents.base.errors import OperatorError, PlaceUnknown
from agents.core.effects import AskGeo
from agents.core.fleet.geo_questions import find_geo_worker
from agents.core.model.answers import Answer, PlaceData
from agents.core.model.geo import PlaceAnswer, PlaceCommand, Point
from agents.core.model.places import check_place_text, describe_place, parse_coordinates
from agents.core.operators.command import Context, Fetch, Result


@dataclass(frozen=True, slots=True)
class OfflinePlaceQuery:
    """Find the place that `text` names, or name the point `at`, in the coordinator's own table: no
    geo worker runs. The answer is a PlaceAnswer."""

    text: str
    at: Point | None


def query_place(c: Context, args: Sequence[str]) -> Fetch:
    """Ask a geo worker, or without one the offline table. Raises OperatorError for text that cannot
    be a place."""
    text = " ".join(args)
    at = parse_coordinates(text)
    if at is None:
        try:
            text = check_place_text(text)
        except PlaceUnknown as e:
            raise OperatorError(_to_sentence(str(e))) from e
    worker = find_geo_worker(c.fleet)
    if not worker:
        return Fetch(OfflinePlaceQuery(text, at), _show_place, "Looking it up ...")
    boot = c.fleet.views[worker].boot
    command = PlaceCommand(c.fleet.leader_epoch, boot, "" if at else text, at)
    return Fetch(AskGeo(worker, command), _show_place, "Looking it up ...")


def _show_place(c: Context, answer: object) -> Result:
    if not isinstance(answer, PlaceAnswer):
        raise TypeError(answer)
    if answer.place is None:
        raise OperatorError(_to_sentence(answer.reason))
    text = describe_place(answer.place, answer.attribution)
    return Answer(text, PlaceData.of_place(answer.place, answer.attribution))


def _to_sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}."
