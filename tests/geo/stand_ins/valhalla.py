"""A stand-in for Valhalla's matrix and status services, on invented roads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from agents.local.demo.maps.http_stand_in import HttpRequest, HttpResponse, HttpStandIn
from agents.local.demo.maps.invented import Atlas, Json, Point


@dataclass(slots=True)
class Valhalla(HttpStandIn):
    """`has_live_traffic`: None if service_limits.status.allow_verbose is false, as by default.
    `counts_with_time`: whether service_limits.max_timedep_distance_matrix is set (by default it is
    not) and the tiles have time zones. `shuffles`: the cells of a row come in another order."""

    atlas: Atlas = field(default_factory=Atlas)
    has_live_traffic: bool | None = True
    counts_with_time: bool = True
    shuffles: bool = False

    def answer(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/status":
            verbose = json.loads(request.params.get("json", "{}")).get("verbose", False)
            more = {"has_timezones": True, "has_live_traffic": self.has_live_traffic}
            shown: Json = {"version": "3.5.1", "tileset_last_modified": 1790000000}
            return HttpResponse(
                200, shown | (more if verbose and self.has_live_traffic is not None else {})
            )
        if request.path != "/sources_to_targets" or request.method != "POST":
            return _error(404, 106, "Try any of: '/sources_to_targets' '/status'")
        try:
            question = json.loads(request.body)
            [origin] = [(p["lat"], p["lon"]) for p in question["sources"]]
            targets = [(p["lat"], p["lon"]) for p in question["targets"]]
        except (ValueError, KeyError, TypeError):
            return _error(400, 110, "Insufficiently specified required parameter 'sources'")
        if question.get("costing") != "auto":
            return _error(400, 125, "No costing method found")
        cells = [self._cell(question, origin, i, target) for i, target in enumerate(targets)]
        if self.shuffles:
            cells.reverse()
        return HttpResponse(
            200, {"sources_to_targets": [cells], "units": "kilometers", "algorithm": "costmatrix"}
        )

    def _cell(self, question: Json, origin: Point, index: int, target: Point) -> Json:
        cell: Json = {"from_index": 0, "to_index": index, "time": None, "distance": None}
        eta = self.atlas.eta(origin, target, self.now())
        if eta is None:
            return cell
        auto = question.get("costing_options", {}).get("auto", {})
        timed = self.counts_with_time and question.get("date_time") == {"type": 0}
        current = timed and "current" in auto.get("speed_types", ["current"])
        now_s, empty_s = eta["expectedTravelTimeSeconds"], eta["staticTravelTimeSeconds"]
        cell["time"] = now_s if current and self.has_live_traffic else empty_s
        if timed:
            zone = {"time_zone_offset": "+01:00", "time_zone_name": "Europe/Berlin"}
            cell |= {"date_time": "2026-11-29T21:27", **zone}
        cell["distance"] = eta["distanceMeters"] / 1000
        return cell


def _error(status: int, code: int, message: str) -> HttpResponse:
    body = {"error_code": code, "error": message, "status_code": status, "status": "Error"}
    return HttpResponse(status, body)
