"""Servers of maps: what their answers and the budget mean."""

from __future__ import annotations

from pathlib import Path

from agents.admin.doctor.judge.verdict import Verdict, ok, warning
from agents.base.text import counted
from agents.core.model.times import format_duration
from agents.geo.apple.budget import CallsLeft
from agents.geo.valhalla import ValhallaStatus
from agents.settings.geo import APPLE_TEAM_CALLS


def judge_key_file(file: Path | None) -> Verdict:
    return ok(f"a key for ES256 in {file}, which only we can read")


def judge_budget(left: CallsLeft, daily_calls: int, file: Path) -> Verdict:
    """`file`: where the calls are counted. At first there is no file, and the budget is full."""
    said = f"{counted(left.calls, 'call')} since midnight UTC, of {daily_calls:,} in any 24 hours"
    if left.ended_for_s:
        return warning(
            f"Apple says that the team's quota is used up; it is asked again in "
            f"{format_duration(left.ended_for_s)} ({said})",
            "see which other service of the team uses it, or lower geo.apple.daily_calls",
        )
    if left.calls_left < 1:
        return warning(
            f"used up for now ({said})",
            "wait, or raise geo.apple.daily_calls: Apple allows a team 25,000 with MapKit JS",
        )
    return ok(f"{said}; {left.calls_left:,} may be sent at once; counted in {file}")


def judge_team(sites: int, workers: int, daily_calls: int) -> Verdict:
    """`sites`: where the inventory has geo workers, and how many these are. Each machine counts for
    itself, and what is at several sites is on several machines."""
    together, apart = sites * daily_calls, workers * daily_calls
    if together <= APPLE_TEAM_CALLS:
        said = f"geo workers at {counted(sites, 'site')} send {together:,} calls or fewer a day"
        if apart > APPLE_TEAM_CALLS:
            said += (
                f", if those of a site share a machine; on {workers} machines it would be {apart:,}"
                f", and geo.apple.daily_calls should be {APPLE_TEAM_CALLS // workers:,} on each"
            )
        return ok(said)
    return warning(
        f"geo workers at {counted(sites, 'site')} do not share their budgets: together they may "
        f"send {together:,} calls in 24 hours, and Apple allows the team {APPLE_TEAM_CALLS:,}",
        f"set geo.apple.daily_calls to {APPLE_TEAM_CALLS // sites:,} or less on each machine",
    )


def judge_valhalla(status: ValhallaStatus, took: str) -> Verdict:
    said = f"Valhalla {status.version} answers ({took})"
    if status.has_live_traffic is None:
        return warning(
            f"{said}, and does not tell whether it has live traffic, so that none is used",
            "set service_limits.status.allow_verbose in its configuration",
        )
    if not status.has_live_traffic:
        return warning(
            f"{said}, without live traffic, so that no plan depends on traffic",
            "feed it live traffic (mjolnir.traffic_extract in its configuration), or set "
            'geo.travel_times to "none"',
        )
    if not status.has_timezones:
        return warning(
            f"{said}, with live traffic, and without time zones, so that it is not used",
            "build its tiles with time zones (mjolnir.timezone in its configuration)",
        )
    return ok(
        f"{said}, with live traffic; it counts with it if service_limits."
        "max_timedep_distance_matrix is set"
    )
