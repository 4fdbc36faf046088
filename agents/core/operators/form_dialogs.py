"""Operator commands by forms (XEP-0050): the list of commands, the steps of a dialog with the dry
run as one of them, and its end.

A dialog belongs to a bare JID and a command, and waits 120 s for its next step. Rights are checked
at every step. Apart from commands that need no dry run (`Done`), only the step that confirms a dry
run changes anything, and only while what the prediction rests on is unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from agents.base.errors import OperatorError
from agents.core.effects import AnswerAdHoc, Effect
from agents.core.events import AdHoc, AdHocList, QueryFinished
from agents.core.model.answers import (
    LISTED_AT_MOST,
    Answer,
    AnswerData,
    ChangeData,
    ChangeState,
    PredictedMove,
)
from agents.core.model.forms import (
    TEXT,
    Field,
    FieldKind,
    Form,
    FormAnswer,
    FormRefusal,
    FormReply,
    Listing,
    Mood,
    Option,
    Remark,
    Status,
)
from agents.core.model.topology import short_name
from agents.core.operators.arguments import field_from_argument, words_from_form
from agents.core.operators.chat import (
    CONFIRM_S,
    NOT_COMMANDING,
    Desk,
    write_then_answer,
)
from agents.core.operators.command import Access, Command, Context, Done, Dry, Fetch, Image, Result
from agents.core.operators.registry import COMMANDS, run_command
from agents.core.operators.second_person import CONFIRM, carry_out_dry_run, describe_request

DIALOGS_AT_MOST = 100
EACH_AT_MOST = 5  # per person; a new dialog ends the oldest

_UNKNOWN = FormRefusal(
    "bad-request",
    "There is no such session: it has expired, or another coordinator leads now. Begin again.",
    "bad-sessionid",
)
_NOT_NOW = FormRefusal("bad-request", "That action is not allowed at this step.", "bad-action")


@dataclass(slots=True)
class _Dialog:
    """One dialog. `given`: the values that were filled in last. `dry`: the dry run that waits to be
    confirmed; `rests_on`: what it rested on when it was made. `waits`: a query is under way, and no
    step is allowed meanwhile. `need`: the access that the given words need."""

    id: str
    jid: str
    command: Command
    until: float
    given: Mapping[str, str] = field(default_factory=dict)
    dry: Dry | None = None
    rests_on: object = None
    waits: bool = False
    need: Access = Access.LOOK


@dataclass(slots=True)
class Dialogs:
    """The dialogs that are not over, by session id."""

    desk: Desk
    _open: dict[str, _Dialog] = field(default_factory=dict)

    def handle_ad_hoc(
        self, event: AdHoc | AdHocList, now: float, now_ms: int, *, commanding: bool
    ) -> Iterator[Effect]:
        """One answer for each event, before its other effects. If a query is needed first, the
        answer follows when it is finished."""
        self._open = {k: d for k, d in self._open.items() if d.until >= now}
        effects: list[Effect] = []
        answer = self._answer_request(event, now, now_ms, commanding, effects)
        if answer is not None:
            yield AnswerAdHoc(event.ref, answer)
        yield from effects

    def _answer_request(
        self,
        event: AdHoc | AdHocList,
        now: float,
        now_ms: int,
        commanding: bool,
        effects: list[Effect],
    ) -> FormAnswer | None:
        # Rights and the person's budget are checked before anything is done or remembered.
        desk = self.desk
        if not desk.known:
            return FormRefusal(
                "resource-constraint",
                "I have not read the ops room's affiliations yet: ask again in a moment.",
            )
        if desk.spend_request(event.jid, now) != "ok":
            return FormRefusal(
                "resource-constraint", "Too many steps (limit: 10); try again in a few seconds."
            )
        if isinstance(event, AdHocList):
            may = desk.access_of(event.jid)
            return Listing(
                tuple(
                    Option(c.name, f"{c.name}: {c.help}")
                    for c in COMMANDS.values()
                    if c.access <= may and (c.name != CONFIRM or desk.second.commands)
                )
            )
        command = COMMANDS.get(event.command)
        if command is None:
            return FormRefusal("item-not-found", "There is no such command.")
        if why := desk.describe_refusal(command, event.jid, command.access):
            return FormRefusal("forbidden", why)
        c = desk.make_context(event.jid, event.jid, now, now_ms, chat=False, commanding=commanding)
        if not event.session:
            if event.action != "execute":
                return _NOT_NOW
            return self._begin_dialog(command, event, c, effects)
        dialog = self._open.get(event.session)
        if dialog is None or dialog.jid != event.jid or dialog.command is not command:
            return _UNKNOWN
        return self._continue_dialog(dialog, event, c, effects)

    # ---- steps ----

    def _begin_dialog(
        self, command: Command, event: AdHoc, c: Context, effects: list[Effect]
    ) -> FormAnswer | None:
        dialog = _Dialog(self._make_dialog_id(), event.jid, command, c.now + CONFIRM_S)
        given = _pick_known_values(command, event.fields)
        if command.access > Access.LOOK and not c.commanding:
            return self._end_dialog(dialog, NOT_COMMANDING, Mood.ERROR)
        mine = [d for d in self._open.values() if d.jid == event.jid]
        if len(mine) >= EACH_AT_MOST:
            del self._open[mine[0].id]
        if len(self._open) >= DIALOGS_AT_MOST:
            return FormRefusal(
                "resource-constraint", "Too many dialogs are open; try again in two minutes."
            )
        self._open[dialog.id] = dialog
        offers = command.needs_arguments or (
            command.changes is not None and self.desk.access_of(event.jid) >= command.changes
        )
        if offers and not given:
            return self._ask_for_arguments(dialog, c)
        return self._run_dialog_command(dialog, event.ref, given, c, effects)

    def _continue_dialog(
        self, dialog: _Dialog, event: AdHoc, c: Context, effects: list[Effect]
    ) -> FormAnswer | None:
        # Cancelling is always possible, even while a query is under way or Kafka is away.
        if event.action == "cancel":
            del self._open[dialog.id]
            return FormReply(dialog.command.name, dialog.id, Status.CANCELED)
        need = Access.LOOK if dialog.dry is None else dialog.need
        if max(need, dialog.command.access) > Access.LOOK and not c.commanding:
            return self._end_dialog(dialog, NOT_COMMANDING, Mood.ERROR)
        if dialog.waits:
            return _NOT_NOW
        dialog.until = c.now + CONFIRM_S
        given = _pick_known_values(dialog.command, event.fields)
        if event.action == "prev":
            if dialog.dry is None or not dialog.command.args:
                return _NOT_NOW
            dialog.dry = None
            return self._ask_for_arguments(dialog, c)
        if dialog.dry is None or given:  # a form sent twice is not a confirmation
            return self._run_dialog_command(dialog, event.ref, given, c, effects)
        # The person confirms only what was predicted; if that has changed, a new dry run is shown.
        if dialog.rests_on != dialog.dry.rests_on(c):
            words = (
                "What this dry run rests on has changed. Nothing was done; this is the "
                "prediction now."
            )
            changed = Remark(Mood.WARN, words)
            return self._run_dialog_command(dialog, event.ref, dialog.given, c, effects, changed)
        try:
            if why := self.desk.describe_refusal(dialog.command, dialog.jid, dialog.need):
                raise OperatorError(why)
            if self.desk.second.must_confirm(dialog.command, dialog.dry):
                request, told = self.desk.second.open_request(
                    c, dialog.command, dialog.need, dialog.dry
                )
                effects.append(told)
                data = make_change_data(dialog.dry, "requested", request.id)
                return self._end_dialog(dialog, describe_request(request), Mood.WARN, data=data)
            effects += carry_out_dry_run(dialog.dry, c)
        except OperatorError as e:
            return self._end_dialog(dialog, str(e), Mood.ERROR)
        data = make_change_data(dialog.dry, "begun")
        return self._end_dialog(dialog, f"On it: {dialog.dry.title}.", data=data)

    def _run_dialog_command(
        self,
        dialog: _Dialog,
        ref: str,
        given: Mapping[str, str],
        c: Context,
        effects: list[Effect],
        *remarks: Remark,
    ) -> FormAnswer | None:
        dialog.given, dialog.dry = given, None
        try:
            words = words_from_form(dialog.command.args, given)
            dialog.need = dialog.command.access_for(len(words))
            if why := self.desk.describe_refusal(dialog.command, dialog.jid, dialog.need):
                del self._open[dialog.id]
                return FormRefusal("forbidden", why)
            if dialog.need > Access.LOOK and not c.commanding:
                raise OperatorError(NOT_COMMANDING)
            result = (
                self.desk.second.predict_confirm(c, words[0])
                if dialog.command.name == CONFIRM
                else run_command(dialog.command, c, words)
            )
            return self._show_result(dialog, ref, result, c, effects, remarks)
        except OperatorError as e:
            return self._show_error(dialog, c, str(e))

    def _show_error(self, dialog: _Dialog, c: Context, why: str) -> FormReply:
        return (
            self._ask_for_arguments(dialog, c, Remark(Mood.ERROR, why))
            if dialog.command.args
            else self._end_dialog(dialog, why, Mood.ERROR)
        )

    def _begin_query(
        self, dialog: _Dialog, ref: str, fetch: Fetch, c: Context, remarks: tuple[Remark, ...]
    ) -> Effect:
        """Begin the query; the step of that `ref` is answered when it is finished."""

        def finish_query(found: QueryFinished, now: float, now_ms: int) -> Iterator[Effect]:
            dialog.waits = False
            if dialog.id not in self._open:  # it was cancelled or has timed out
                yield AnswerAdHoc(ref, _UNKNOWN)
                return
            again = self.desk.make_context(c.jid, c.nick, now, now_ms, chat=False)
            effects: list[Effect] = []
            try:
                if why := found.error or self.desk.describe_refusal(
                    dialog.command, dialog.jid, dialog.need
                ):
                    raise OperatorError(why)
                answer = self._show_result(
                    dialog, ref, fetch.answer(again, found.result), again, effects, remarks
                )
            except OperatorError as e:
                answer = self._show_error(dialog, again, str(e))
            if answer is not None:
                yield AnswerAdHoc(ref, answer)
            yield from effects

        errand = self.desk.errands.begin_query(fetch.what, finish_query, c.now)
        dialog.waits = True
        return errand

    def _show_result(
        self,
        dialog: _Dialog,
        ref: str,
        result: Result,
        c: Context,
        effects: list[Effect],
        remarks: tuple[Remark, ...],
    ) -> FormAnswer | None:
        command = dialog.command
        if isinstance(result, Fetch):
            effects.append(self._begin_query(dialog, ref, result, c, remarks))
            return None
        if isinstance(result, Image):
            told = result.answer
            return self._end_dialog(
                dialog, f"{told.text}\n{result.url}", more={"url": result.url}, data=told.data
            )
        if isinstance(result, Answer):
            return self._end_dialog(dialog, result.text, data=result.data)
        if isinstance(result, Done):
            if not c.commanding:
                raise OperatorError(NOT_COMMANDING)
            told = result.answer
            reply = self._end_dialog(dialog, told.text, data=told.data)
            effects.append(write_then_answer(result, c, AnswerAdHoc(ref, reply)))
            return None
        dialog.dry, dialog.rests_on = result, result.rests_on(c)
        back = ("prev",) if command.args else ()
        return FormReply(
            command.name,
            dialog.id,
            Status.EXECUTING,
            Form(
                result.title,
                f"Complete to do it (within {CONFIRM_S:.0f} s), cancel to change nothing.",
                (_field_from_text(result.text),),
            ),
            remarks,
            ("complete", *back),
            result.moves,
            make_change_data(result, "dry_run"),
        )

    def _ask_for_arguments(self, dialog: _Dialog, c: Context, *remarks: Remark) -> FormReply:
        """The form with the command's arguments."""
        command = dialog.command
        fields = tuple(
            field_from_argument(a, c.fleet, tuple(COMMANDS), dialog.given.get(a.name, ""))
            for a in command.args
        )
        help_text = command.help[:1].upper() + command.help[1:] + "."
        return FormReply(
            command.name,
            dialog.id,
            Status.EXECUTING,
            Form(command.name, help_text, fields),
            remarks,
            ("next",) if command.highest_access > Access.LOOK else ("complete",),
        )

    def _end_dialog(
        self,
        dialog: _Dialog,
        text: str,
        mood: Mood = Mood.INFO,
        more: Mapping[str, str] | None = None,
        data: AnswerData | None = None,
    ) -> FormReply:
        """The last reply of a dialog: text in a form, an error or a warning in a note."""
        self._open.pop(dialog.id, None)
        command = dialog.command
        if mood is not Mood.INFO:
            return FormReply(
                command.name, dialog.id, Status.COMPLETED, remarks=(Remark(mood, text),), data=data
            )
        told = [(a.name, dialog.given[a.name]) for a in command.args if a.name in dialog.given]
        rows = (
            Field(name, FieldKind.TEXT, name, value)
            for name, value in (*told, *(more or {}).items())
        )
        return FormReply(
            command.name,
            dialog.id,
            Status.COMPLETED,
            Form(command.name, "", (_field_from_text(text), *rows), result=True),
            data=data,
        )

    def _make_dialog_id(self) -> str:
        while (wish := self.desk.token() + self.desk.token()) in self._open:
            pass
        return wish


def make_change_data(dry: Dry, state: ChangeState, request: str | None = None) -> ChangeData:
    """What programs are told of a dry run and of what became of it."""
    return ChangeData(
        title=dry.title,
        state=state,
        lanes=dry.lanes[:LISTED_AT_MOST],
        nodes=tuple(short_name(worker) for worker in dry.nodes),
        total_moves=len(dry.moves),
        moves=tuple(
            PredictedMove(m.lane, m.source or None, m.target, round(m.delta_ms, 3))
            for m in dry.moves[:LISTED_AT_MOST]
        ),
        request=request,
    )


def _pick_known_values(command: Command, fields: Mapping[str, str]) -> dict[str, str]:
    """The values that were filled in for the command's arguments; others are ignored."""
    return {a.name: fields[a.name].strip() for a in command.args if fields.get(a.name, "").strip()}


def _field_from_text(text: str) -> Field:
    """A field with the text, without chat's marks of a code block."""
    return Field(TEXT, FieldKind.FIXED, value="\n".join(x for x in text.split("\n") if x != "```"))
