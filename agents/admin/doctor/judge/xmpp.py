"""What the XMPP server lets an account do, and how fast."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from agents.admin.doctor.judge.certificate import FAULT_DAYS, WARNING_DAYS
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import Verdict, fault, ok, skipped, warning
from agents.base.text import counted
from agents.core.model.times import format_took
from ejabberd import feeds

FAULT_BPS, WARNING_BPS = 30_000.0, 200_000.0
PING_S, GONE_S = 3.5, 8.0
LARGEST_STANZA = feeds.MAX_PAYLOAD_BYTES + 4096
PROVISION = "run `geolane provision` again (it adds what is missing and removes nothing)"


def judge_speed(answered_bytes: int, sent_bytes: int, took_s: float, *, agent: bool) -> Verdict:
    """Of `sent_bytes` sent at once, the server processed `answered_bytes` within `took_s`."""
    rate = answered_bytes / max(took_s, 1e-6)
    said = (
        f"{answered_bytes / 1000:.0f} of {sent_bytes / 1000:.0f} kB accepted in {took_s:.2f} s, "
        f"{rate / 1000:,.0f} kB/s"
    )
    if rate >= WARNING_BPS:
        return ok(said)
    whose = "agents" if agent else "people"
    todo = f"ejabberd's shaper throttles {whose}: in shaper_rules, c2s_shaper, give " + (
        "`none: coordinator` and `worker: workers` (ejabberd/ejabberd.yml shows it)"
        if agent
        else "people a rate of 100000 and a burst_size of 1000000"
    )
    if rate < FAULT_BPS:
        return fault(said, f"{todo}; the default `normal` slows a fleet to a crawl")
    return warning(said, todo)


def judge_pings(pings_s: Sequence[float], gone_s: float | None, watched_s: float) -> Verdict:
    """A silent session was pinged after each of `pings_s` and ended after `gone_s` (None: not
    within `watched_s`)."""
    todo = (
        "mod_ping on fleet.DOMAIN: send_pings: true, ping_interval: 3200 milliseconds, "
        "ping_ack_timeout: 3100 milliseconds, timeout_action: kill"
    )
    if not pings_s:
        return fault(f"no ping within {watched_s:.0f} s: a frozen worker keeps its lanes", todo)
    said = f"pinged after {format_took(pings_s[0])} of silence"
    if gone_s is None:
        return fault(
            f"{said}, but not ended within {watched_s:.0f} s: a frozen worker keeps its lanes", todo
        )
    said += f", ended after {format_took(gone_s)}"
    if pings_s[0] > PING_S or gone_s > GONE_S:
        return warning(f"{said}: a frozen worker is noticed late", todo)
    if len(pings_s) > 1:
        return warning(
            f"{said}, but pinged {len(pings_s)} times before that: the server ends the next "
            "session under the same name too",
            todo,
        )
    return ok(said)


def judge_resumption(offered: bool, host: str) -> Verdict:
    """Whether the stream of a session at `host` offers XEP-0198."""
    if offered:
        return fault(
            f"{host} offers stream management (XEP-0198): a crashed worker seems present for "
            "minutes",
            "remove mod_stream_mgmt from fleet.DOMAIN's modules (host_config, not the top level)",
        )
    return ok(f"not offered at {host}: a crashed worker is gone at once")


def expected_feeds(who: Whom, workers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The affiliations that `who` must have on each feed (PROTOCOL 4). Any one of them is
    enough."""
    operator = (feed.name for feed in feeds.OPERATOR_FEEDS)
    if who.role is Role.COORDINATOR:
        names = (feeds.TUNING.name, *operator, *(feeds.telemetry_feed(w).name for w in workers))
        return dict.fromkeys(names, ("owner",))
    if who.worker:
        own = feeds.telemetry_feed(who.account).name
        return {
            own: ("publish-only", "publisher", "owner"),
            feeds.TUNING.name: ("member", "publisher", "owner"),
        }
    return dict.fromkeys(operator, ("member", "publisher", "owner"))


def judge_feed_rights(wanted: Mapping[str, tuple[str, ...]], there: Mapping[str, str]) -> Verdict:
    """`there`: feed -> our affiliation, as the service reports it."""
    bad = []
    for feed, may in wanted.items():
        have = there.get(feed, "none")
        if have not in may:
            bad.append(
                f"{feed}: missing or closed to us"
                if have == "none"
                else f"{feed}: we are {have}, not {may[0]}"
            )
    if bad:
        return fault("; ".join(bad), PROVISION)
    return ok(f"{len(wanted)} feeds with their rights")


def judge_roster(wanted: Collection[str], both: Collection[str]) -> Verdict:
    """`wanted`: accounts whose presence we must receive. `both`: roster accounts with subscription
    `both`."""
    missing = sorted(set(wanted) - set(both))
    if missing:
        return fault(
            f"{', '.join(missing[:10])}: not in our roster, so their health is not seen", PROVISION
        )
    return ok(f"{counted(len(wanted), 'account')} as required")


@dataclass(frozen=True, slots=True)
class LoginOutcome:
    """How a login ended. `error`: None on success. `challenged`: the server had asked for the proof
    before it refused."""

    error: str | None
    refused: bool = False
    challenged: bool = False


def judge_erlang(*, is_open: bool) -> Verdict:
    """`is_open`: epmd answers on an address other than loopback."""
    if is_open:
        return warning(
            "epmd, Erlang's port mapper, can be reached on port 4369: anybody with the cookie "
            "can run any code there",
            "bind it and the distribution port to loopback, or close them with a firewall "
            "(docs/deploy.md, 2)",
        )
    return ok("epmd is not open to others, as far as can be seen from here")


def judge_login(who: str, seen: LoginOutcome, password_file: str) -> Verdict:
    """`who`: the bare JID."""
    where = password_file or "the systemd credential of its name"
    if seen.error is None:
        return ok(f"as {who}")
    if seen.refused and seen.challenged:
        return fault(
            f"{who}: the password is wrong",
            f"put the account's password into {where}, or set it again",
        )
    if seen.refused:
        return fault(
            f"{who}: there is no such account, or it may not log in",
            f"{PROVISION}, or use another account",
        )
    return fault(f"{who}: {seen.error}", "look at the server's log")


def judge_certificate_login(who: str, seen: LoginOutcome, days: float) -> Verdict:
    """`who`: the bare JID. `days`: the remaining validity of its certificate."""
    if seen.error is None and days >= WARNING_DAYS:
        return ok(f"as {who}, by certificate, which has {days:.0f} days left")
    if seen.error is None:
        how = fault if days < FAULT_DAYS else warning
        return how(
            f"{who}: its certificate has {days:.1f} days left",
            "renew it in time: it cannot log in after that",
        )
    if seen.refused:
        return fault(
            f"{who}: {seen.error}",
            f"give it a certificate for {who} by the server's c2s_cafile (docs/deploy.md)",
        )
    return fault(f"{who}: {seen.error}", "look at the server's log")


def judge_room(who: Whom, room_jid: str, condition: str) -> Verdict:
    """`condition`: how joining was refused, or, for the coordinator, reading the affiliations."""
    if condition == "item-not-found":
        return fault(f"{room_jid} is missing", PROVISION)
    if condition in ("registration-required", "not-allowed"):
        return fault(
            f"{who.account} is not a member of {room_jid}", "let an owner of the room make it one"
        )
    if condition == "forbidden" and who.role is Role.COORDINATOR:
        return fault(f"geolane is not an owner of {room_jid}", PROVISION)
    if condition == "forbidden":
        return fault(
            f"{who.account} is banned from {room_jid}", "let an owner of the room lift the ban"
        )
    return fault(f"{room_jid}: {condition}", "look at the server's log")


def judge_leader(condition: str, jid: str) -> Verdict:
    """`condition`: how the leader's full JID refused a ping; empty if it answered."""
    if not condition:
        return ok(f"{jid} answers")
    return fault(
        f"no session at {jid} ({condition}): no coordinator leads",
        "start geolane coordinator, and read its log",
    )


def judge_workers(answered: Mapping[str, float], absent: Collection[str]) -> Verdict:
    """`answered`: account -> ms until it answered a ping. `absent`: accounts of the inventory that
    did not answer."""
    if not answered and not absent:
        return skipped("the inventory names no workers")
    total = len(answered) + len(absent)
    if absent:
        names = ", ".join(sorted(absent)[:10])
        how = fault if not answered else warning
        return how(
            f"{len(absent)} of {total} are absent: {names}",
            "start them, or remove them from the inventory; their logs say why",
        )
    return ok(f"all {total} answer, the slowest in {max(answered.values()):.0f} ms")


def judge_worker_versions(ours: str, theirs: Mapping[str, str]) -> Verdict:
    """`theirs`: account -> version, from its presence."""
    if not theirs:
        return skipped("no worker is present")
    other = {w: v for w, v in theirs.items() if v != ours}
    if other:
        said = ", ".join(f"{w} has {v or 'none'}" for w, v in sorted(other.items())[:10])
        return warning(
            f"our version is {ours}; {said}",
            "install the same version everywhere, the coordinator's last",
        )
    return ok(f"{len(theirs)} workers have our version, {ours}")
