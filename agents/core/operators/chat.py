"""From a line of chat to a command and its answer: who asks, whether they may, and which dry runs
wait to be confirmed (PROTOCOL 4).

`confirm ID` holds only for the same bare JID, in the same conversation, while what the prediction
rests on is unchanged, within 120 s. Rights are checked again at the confirmation. Some
commands need a second person instead (second_person.py)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from agents.base.errors import OperatorError
from agents.base.token_bucket import TokenBucket
from agents.core.effects import Effect, MirrorAffiliations, Reply, Say, Show, Whisper
from agents.core.events import QueryFinished, QuestionAsked, Reacted
from agents.core.fleet.fleet import Fleet
from agents.core.fleet.geo_questions import GeoQuestions
from agents.core.fleet.hotspots import Hotspots
from agents.core.fleet.incidents import News, clip_lines
from agents.core.fleet.paths import MeasuredPaths
from agents.core.fleet.placing import Placing
from agents.core.fleet.queries import PendingQueries
from agents.core.fleet.rewinds import Rewinds
from agents.core.fleet.rollout import Rollout
from agents.core.fleet.tuner import Tuner
from agents.core.model.answers import Answer
from agents.core.operators.ack import describe_at_work
from agents.core.operators.command import Access, Command, Context, Done, Dry, Fetch, Image, Result
from agents.core.operators.registry import find_command, run_command
from agents.core.operators.second_person import (
    CONFIRM,
    SecondPerson,
    carry_out_dry_run,
    describe_request,
)
from agents.core.operators.subscriptions import Follows

CONFIRM_S = 120.0
NOT_COMMANDING = (
    "Kafka is away or refuses my writes (see status): until it is back, I send no commands and "
    "change nothing."
)
PROMISES_AT_MOST = 100
EACH_AT_MOST = 10  # dry runs per person; a new one voids the oldest
ANSWER_LINES, ANSWER_CHARACTERS = 60, 3000
ASKS, ASKS_PER_S = 10.0, 1.0  # requests per person: at once, and how many more each second


@dataclass(frozen=True, slots=True)
class Promise:
    """A dry run that waits to be confirmed."""

    id: str
    jid: str
    conversation: str
    rests_on: object
    until: float
    message_id: str
    dry: Dry
    command: Command
    need: Access
    reply: Reply | None


@dataclass(slots=True)
class Desk:
    """Takes chat messages. `address`: ours. `affiliations`: of the room, by bare JID. `promises`:
    dry runs that wait to be confirmed, by id. `by_two`: the commands that a second person must
    confirm."""

    fleet: Fleet
    placing: Placing
    news: News
    token: Callable[[], str]
    tuner: Tuner
    hotspots: Hotspots
    paths: MeasuredPaths
    geo: GeoQuestions
    address: str = ""
    by_two: frozenset[str] = frozenset()
    affiliations: dict[str, str] = field(default_factory=dict)
    known: bool = False  # whether the room's affiliations have been read
    promises: dict[str, Promise] = field(default_factory=dict)
    errands: PendingQueries = field(default_factory=PendingQueries)
    rewinds: Rewinds = field(init=False)
    rollout: Rollout = field(init=False)
    follows: Follows = field(init=False)
    second: SecondPerson = field(init=False)
    # A person's requests, and whether the person knows that they are used up.
    _asks: dict[str, tuple[TokenBucket, bool]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rewinds = Rewinds(self.fleet, self.errands)
        self.rollout = Rollout(self.fleet, self.news)
        self.second = SecondPerson(self.token, self.describe_refusal, self.by_two)
        self.follows = Follows(
            self.fleet, lambda jid: self.access_of(jid) > Access.NONE if self.known else None
        )

    def note_affiliations(self, changed: Mapping[str, str]) -> Iterator[Effect]:
        """Note changed affiliations and mirror them: who may not read the room may not read the
        feeds."""
        self.affiliations |= changed
        self.known = True
        yield MirrorAffiliations(
            {
                jid: a
                for jid, a in self.affiliations.items()
                if Access.from_affiliation(a) > Access.NONE
            }
        )

    def handle_question(
        self, event: QuestionAsked, now: float, now_ms: int, *, commanding: bool
    ) -> Iterator[Effect]:
        """Take a chat message. In the room it counts only with a prefix or our name."""
        text = extract_command(event.text, event.room)
        # A corrected command voids its dry run, even if the correction is not for us.
        if event.replaces is not None:
            said = (event.jid, event.replaces)
            self.promises = {
                k: p for k, p in self.promises.items() if (p.jid, p.message_id) != said
            }
            yield from self.second.withdraw_requests(*said)
        if text is None:
            return
        answer = self._make_reply(event)
        level = self.spend_request(event.jid, now)
        if level == "deaf":
            return
        if level == "full":
            yield answer("Too many requests (limit: 10); try again in a few seconds.")
            return
        context = self.make_context(
            event.jid,
            event.jid.partition("@")[0],  # anybody may take any nick
            now,
            now_ms,
            commanding=commanding,
            prefix="!" if event.room else "",
            reply=_reply_to(event),
        )
        try:
            yield from self._dispatch_command(text.split(), event, context, answer)
        except OperatorError as e:
            yield answer(str(e))

    def handle_reaction(self, event: Reacted, now: float) -> None:
        """A reaction to a message that tells of troubles acknowledges them. From a person who may
        not act it means nothing."""
        if self.access_of(event.jid) < Access.ACT or self.spend_request(event.jid, now) != "ok":
            return
        for text in self.news.acknowledge_troubles(event.about, event.jid, now):
            self.news.add_line(describe_at_work(event.jid, text))

    def make_context(
        self,
        jid: str,
        nick: str,
        now: float,
        now_ms: int,
        *,
        chat: bool = True,
        commanding: bool = True,
        prefix: str = "",
        reply: Reply | None = None,
    ) -> Context:
        """The context of a command that this person gives now."""
        return Context(
            self.fleet,
            self.placing,
            self.news,
            jid,
            nick,
            now,
            now_ms,
            self.errands,
            self.tuner,
            self.rewinds,
            self.rollout,
            self.hotspots,
            self.paths,
            self.geo,
            access=self.access_of(jid),
            chat=chat,
            commanding=commanding,
            prefix=prefix,
            address=self.address,
            reply=reply,
        )

    def _dispatch_command(
        self, words: list[str], event: QuestionAsked, c: Context, answer: Callable[[str], Effect]
    ) -> Iterator[Effect]:
        command = find_command(words[0] if words else "help", c.prefix)
        need = command.access_for(len(words) - 1)
        if why := self.describe_refusal(command, event.jid, need):
            raise OperatorError(why)
        if need > Access.LOOK and not c.commanding:
            raise OperatorError(NOT_COMMANDING)
        if command.name == CONFIRM:
            yield from self._confirm_dry_run(words, event, c, answer)
            return
        yield from self._answer_result(
            run_command(command, c, words[1:]), command, need, event, c, answer
        )

    def _answer_result(
        self,
        result: Result,
        command: Command,
        need: Access,
        event: QuestionAsked,
        c: Context,
        answer: Callable[[str], Effect],
    ) -> Iterator[Effect]:
        if isinstance(result, Answer):
            yield answer(result.text)
            return
        if isinstance(result, Image):
            yield answer(result.answer.text)
            yield Show(result.url, "" if event.room else event.jid)
            return
        if isinstance(result, Done):
            yield write_then_answer(result, c, answer(result.answer.text))
            return
        if isinstance(result, Fetch):
            fetch = result

            def finish_query(found: QueryFinished, now: float, now_ms: int) -> Iterator[Effect]:
                # Time has passed: the rights are checked again, in a fresh context, and the answer
                # names the question.
                answer = self._make_reply(event, _reply_to(event))
                try:
                    if why := found.error or self.describe_refusal(command, event.jid, need):
                        raise OperatorError(why)
                    again = self.make_context(
                        c.jid, c.nick, now, now_ms, prefix=c.prefix, reply=c.reply
                    )
                    yield from self._answer_result(
                        fetch.answer(again, found.result), command, need, event, again, answer
                    )
                except OperatorError as e:
                    yield answer(str(e))

            slow = answer(fetch.slow) if fetch.slow else None
            yield self.errands.begin_query(fetch.what, finish_query, c.now, slow)
            return
        if event.room and self.second.must_confirm(command, result):
            yield self.second.open_request(c, command, need, result, event.message_id)[1]
            return
        mine = [id for id, p in self.promises.items() if p.jid == event.jid]
        if len(mine) >= EACH_AT_MOST:
            del self.promises[mine[0]]
        if len(self.promises) >= PROMISES_AT_MOST:
            raise OperatorError("Too many dry runs wait for a confirm; try again in two minutes.")
        promise = Promise(
            self.token(),
            event.jid,
            _conversation_of(event),
            result.rests_on(c),
            c.now + CONFIRM_S,
            *(event.message_id, result, command, need, c.reply),
        )
        self.promises[promise.id] = promise
        yield answer(
            f"{result.text}\nTo do it: {c.prefix}confirm {promise.id} (within {CONFIRM_S:.0f} s)"
        )

    def access_of(self, jid: str) -> Access:
        """What the bare JID may do."""
        return Access.from_affiliation(self.affiliations.get(jid, "none"))

    def describe_refusal(self, command: Command, jid: str, need: Access) -> str:
        """Why `jid` may not give this command if it needs `need`; empty if it may."""
        if self.access_of(jid) >= need:
            return ""
        have = self.affiliations.get(jid, "none")
        who = {Access.LOOK: "a member", Access.ACT: "an admin", Access.TUNE: "an owner"}[need]
        what = command.name if need is command.access else f"changing anything with {command.name}"
        return f"{what} needs {who} of the ops room; your affiliation is {have}."

    def _confirm_dry_run(
        self, words: list[str], event: QuestionAsked, c: Context, answer: Callable[[str], Effect]
    ) -> Iterator[Effect]:
        if len(words) != 2:
            raise OperatorError("Usage: confirm ID")
        promise = self.promises.get(words[1].lower())
        if promise is None or c.now > promise.until:
            yield from self._confirm_as_second(words[1], event, c, answer)
            return
        if promise.jid != event.jid or promise.conversation != _conversation_of(event):
            raise OperatorError("That id belongs to another person or conversation. Ask here.")
        # Removed before anything is done: a confirmation counts once.
        del self.promises[promise.id]
        if promise.rests_on != promise.dry.rests_on(c):
            raise OperatorError(
                f"What this dry run rests on has changed. Ask again: {c.prefix}{promise.dry.title}"
            )
        c = replace(c, reply=promise.reply)
        if self.second.must_confirm(promise.command, promise.dry):
            request, told = self.second.open_request(
                c, promise.command, promise.need, promise.dry, promise.message_id
            )
            yield answer(describe_request(request))
            yield told
            return
        effects = carry_out_dry_run(promise.dry, c)
        yield answer(f"On it: {promise.dry.title}.")
        yield from effects

    def _confirm_as_second(
        self, id: str, event: QuestionAsked, c: Context, answer: Callable[[str], Effect]
    ) -> Iterator[Effect]:
        """Confirm what another person asked for. Raises OperatorError."""
        dry = self.second.predict_confirm(c, id)
        effects = carry_out_dry_run(dry, c)
        if not event.room:
            yield answer(f"On it: {dry.title}.")
        yield from effects

    def drop_expired(self, now: float) -> Iterator[Effect]:
        yield from self.second.end_expired(now)
        self.promises = {k: p for k, p in self.promises.items() if p.until >= now}
        self._asks = {k: v for k, v in self._asks.items() if now - v[0].refilled_at < 60}

    def spend_request(self, jid: str, now: float) -> str:
        """Spend one request of the person's budget: `ok`; `full`, once, when the budget is spent;
        then `deaf` until there is some again."""
        bucket, told = self._asks.get(jid, (TokenBucket(ASKS, ASKS_PER_S), False))
        bucket = copy.copy(bucket)  # guard.remember does not undo a change in place
        spent = not bucket.try_take(now)
        self._asks[jid] = (bucket, spent)
        return "ok" if not spent else "deaf" if told else "full"

    @staticmethod
    def _make_reply(event: QuestionAsked, to: Reply | None = None) -> Callable[[str], Effect]:
        """How the question is answered. `to`: the question, for an answer that comes later."""

        def answer(text: str) -> Effect:
            text = clip_lines([text], ANSWER_LINES, ANSWER_CHARACTERS)
            return Say(text, reply=to) if event.room else Whisper(event.jid, text)

        return answer


def write_then_answer(result: Done, c: Context, answer: Effect) -> Effect:
    """The write, with the answer to give once it is committed. Raises OperatorError while nothing
    can be written."""
    if not c.commanding:
        raise OperatorError(NOT_COMMANDING)
    return replace(result.write, then=(*result.write.then, answer))


def _reply_to(event: QuestionAsked) -> Reply | None:
    return Reply(event.nick, event.stanza_id) if event.room else None


def _conversation_of(event: QuestionAsked) -> str:
    return "room" if event.room else f"chat with {event.jid}"


def extract_command(text: str, room: bool) -> str | None:
    """The command in `text`, without its prefix; None if it is not for us. One to one, everything
    is."""
    text = text.strip()
    if text.startswith("!"):
        return text[1:].strip()
    head, sep, rest = text.partition(":")
    if not sep:
        head, sep, rest = text.partition(",")
    if sep and head.strip().lower() == "geolane":
        return rest.strip()
    return None if room else text
