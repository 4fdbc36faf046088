"""Changes that need a second person: the room is told what is asked for, and somebody else with the
same right confirms it (setting coordinator.second_person).

A request holds for 10 minutes, while what its dry run rests on is unchanged and the person who
asked still has the right. Nobody confirms a request of their own. It ends with its leader."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agents.base.errors import OperatorError, SettingsError
from agents.core.effects import Effect, Note, Reply, Say
from agents.core.operators.command import Access, Command, Context, Dry

CONFIRM = "confirm"
SECOND_S = 600.0
REQUESTS_AT_MOST = 20
EACH_AT_MOST = 4  # per person, so that one alone cannot keep all others from asking

Refuse = Callable[[Command, str, Access], str]
"""Why that person (bare JID) may not give the command with that access; empty if the person may."""


def commands_by_two(setting: str, commands: Mapping[str, Command]) -> frozenset[str]:
    """The commands that the setting names. Raises SettingsError for one that changes nothing or
    does not exist."""
    changing = {
        name for name, x in commands.items() if x.highest_access > Access.LOOK or x.may_change
    }
    changing.discard(CONFIRM)
    if setting == "all":
        return frozenset(changing)
    named = frozenset(filter(None, setting.split(",")))
    if wrong := sorted(named - changing):
        raise SettingsError(
            f"coordinator.second_person: {wrong[0]!r} is not a command that changes something; "
            f"these are {', '.join(sorted(changing))}."
        )
    return named


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """A dry run that waits for a second person. `jid`, `nick`: who asked. `message_id`: of the
    message that asked; a correction of it withdraws the request."""

    id: str
    jid: str
    nick: str
    command: Command
    need: Access
    dry: Dry
    rests_on: object
    until: float
    message_id: str = ""
    reply: Reply | None = None


@dataclass(slots=True)
class SecondPerson:
    """The open requests, by id. `commands`: the names of those that need a second person."""

    token: Callable[[], str]
    refuse: Refuse
    commands: frozenset[str] = frozenset()
    requests: dict[str, ChangeRequest] = field(default_factory=dict)

    def must_confirm(self, command: Command, dry: Dry) -> bool:
        """Whether another person than the one who asks must confirm it."""
        return command.name in self.commands and not dry.only_stops

    def open_request(
        self, c: Context, command: Command, need: Access, dry: Dry, message_id: str = ""
    ) -> tuple[ChangeRequest, Effect]:
        """The request, and the message that tells the room. Raises OperatorError when too many are
        open."""
        if sum(r.jid == c.jid for r in self.requests.values()) >= EACH_AT_MOST:
            raise OperatorError(
                f"{EACH_AT_MOST} of your changes wait for a second person already; ask again when "
                "one has ended, or correct a message that asked, which withdraws it."
            )
        if len(self.requests) >= REQUESTS_AT_MOST:
            raise OperatorError(
                "Too many changes wait for a second person; try again when one has ended."
            )
        request = ChangeRequest(
            self.token(),
            c.jid,
            c.nick,
            command,
            max(need, Access.ACT),
            dry,
            dry.rests_on(c),
            c.now + SECOND_S,
            message_id,
            c.reply,
        )
        self.requests[request.id] = request
        return request, Say(
            f"{_name_of(c.jid)} asks for: {dry.title}\n{dry.text}\n"
            f"{describe_wanted(request)}: !confirm {request.id} (within {SECOND_S / 60:.0f} min)",
            reply=c.reply,
        )

    def find_request(self, c: Context, id: str) -> ChangeRequest:
        """The request, if this person may confirm it. Raises OperatorError."""
        request = self.requests.get(id.lower())
        if request is None or c.now > request.until:
            raise OperatorError(
                "There is no dry run with that id: it may have expired, or another coordinator "
                "leads now. Ask again."
            )
        if request.jid == c.jid:
            raise OperatorError(
                f"You asked for this yourself. {describe_wanted(request)} must confirm it."
            )
        if why := self.refuse(request.command, c.jid, request.need):
            raise OperatorError(why)
        return request

    def predict_confirm(self, c: Context, id: str) -> Dry:
        """The confirmation as a change of its own, for a form. Raises OperatorError."""
        request = self.find_request(c, id)
        return Dry(
            f"confirm {request.id}: {request.dry.title}",
            f"{_name_of(request.jid)} asks for: {request.dry.title}\n{request.dry.text}",
            lambda then: self.confirm_request(then, id),
            request.dry.lanes,
            request.dry.nodes,
            request.dry.rests,
        )

    def confirm_request(self, c: Context, id: str) -> Iterator[Effect]:
        """Carry the request out, as the person who asked. Raises OperatorError; the request has
        ended then unless this person may not confirm it."""
        request = self.find_request(c, id)
        # Removed before anything is done: a confirmation counts once.
        del self.requests[request.id]
        if self.refuse(request.command, request.jid, request.need):
            raise OperatorError(
                f"{_name_of(request.jid)} may no longer ask for this: nothing was done."
            )
        if request.rests_on != request.dry.rests_on(c):
            raise OperatorError(
                "What this dry run rests on has changed: nothing was done. "
                f"{_name_of(request.jid)} may ask again: {request.dry.title}"
            )
        asker = replace(
            c, jid=request.jid, nick=request.nick, access=request.need, reply=request.reply
        )
        done = [*carry_out_dry_run(request.dry, asker, confirmed_by=c.jid)]
        yield Say(
            f"{_name_of(c.jid)} confirms what {_name_of(request.jid)} asked for. On it: "
            f"{request.dry.title}.",
            reply=request.reply,
        )
        yield from done

    def withdraw_requests(self, jid: str, message_id: str) -> Iterator[Effect]:
        """The person has corrected the message that asked."""
        for request in [*self.requests.values()]:
            if message_id and (request.jid, request.message_id) == (jid, message_id):
                del self.requests[request.id]
                yield Say(f"Withdrawn: {request.dry.title} ({request.id}).", reply=request.reply)

    def end_expired(self, now: float) -> Iterator[Effect]:
        for request in [r for r in self.requests.values() if now > r.until]:
            del self.requests[request.id]
            text = f"{request.dry.title}: not confirmed by a second person; nothing was done"
            yield Say(f"{_name_of(request.jid)}: {text}.", reply=request.reply)
            yield Note("action", request.jid, text, {})


def carry_out_dry_run(dry: Dry, c: Context, *, confirmed_by: str = "") -> list[Effect]:
    """The effects of a confirmed dry run, and a note of who asked. `confirmed_by`: the bare JID of
    the second person, if there is one. Raises OperatorError, and changes nothing then."""
    told: dict[str, object] = {"version": c.fleet.version}
    told |= {"lanes": list(dry.lanes)} if dry.lanes else {}
    told |= {"nodes": list(dry.nodes)} if dry.nodes else {}
    text = dry.title
    if confirmed_by:
        told["confirmed_by"] = confirmed_by
        text += f" (confirmed by {_name_of(confirmed_by)})"
    return [*dry.act(c), Note("action", c.jid, text, told)]


def describe_request(request: ChangeRequest) -> str:
    """What the person who asked is told."""
    return (
        f"Asked for: {request.dry.title}. Nothing is done yet. {describe_wanted(request)} must "
        f"confirm {request.id} within {SECOND_S / 60:.0f} min; the room was told."
    )


def describe_wanted(request: ChangeRequest) -> str:
    """`Another admin than ana`."""
    role = "owner" if request.need is Access.TUNE else "admin"
    return f"Another {role} than {_name_of(request.jid)}"


def _name_of(jid: str) -> str:
    """A person's name: of the account, since anybody may take any nick."""
    return jid.partition("@")[0]
