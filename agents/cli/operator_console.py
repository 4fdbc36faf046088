"""`geolane ctl COMMAND`: one operator command over XMPP, as the person who logs in and with that
person's rights.

0  done
1  refused, or an error in the command
2  cannot connect, or the settings are wrong
3  not confirmed
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import msgspec

from agents.base.errors import CommandRefused, GeolaneError, NoAnswer, NotConnected, OperatorError
from agents.base.standard_streams import watch_stdin
from agents.core.model.answers import AnswerData, CommandAnswer
from agents.core.model.forms import TEXT, FieldKind, FormReply, Mood, Status
from agents.core.operators.arguments import Argument, Type, split_keyed_words
from agents.core.operators.command import Command
from agents.core.operators.registry import COMMANDS, check_argument_count, find_command
from agents.settings import Settings
from agents.xmpp.operator_client import OperatorClient

DONE, REFUSED, AWAY, NOT_CONFIRMED = 0, 1, 2, 3
AGAIN_S, PATIENCE_S = 0.5, 5.0  # for a leader that has just begun, or is about to
TRIES = 5  # how often a dry run is confirmed again when the fleet keeps changing


@dataclass(slots=True)
class Outcome:
    """What `--json` prints. `code` is also the exit code if the command is interrupted."""

    command: str
    code: int = NOT_CONFIRMED
    text: list[str] = field(default_factory=list)
    fields: dict[str, str] = field(default_factory=dict)
    data: AnswerData | None = None

    def to_json(self) -> str:
        """One line."""
        answer = CommandAnswer(
            command=self.command,
            ok=self.code == DONE,
            text="\n".join(self.text),
            fields=self.fields,
            data=self.data,
        )
        return msgspec.json.encode(answer).decode()


Confirm = Callable[[], Awaitable[bool]]


def fields_from_words(command: Command, words: Sequence[str]) -> dict[str, str]:
    """The words after the name, as the form's fields. Raises OperatorError for too few or too
    many."""
    check_argument_count(command, words)
    plain, keyed = split_keyed_words(command.args, words)
    positional = [a for a in command.args if not a.keyed]
    return keyed | {
        a.name: " ".join(plain[i:]) if a.many else plain[i]
        for i, a in enumerate(positional)
        if i < len(plain)
    }


async def run_command(
    settings: Settings,
    account: str,
    words: Sequence[str],
    outcome: Outcome,
    confirm: Confirm,
    tell: Callable[[str], None],
) -> int:
    """Run the command and return the exit code. `confirm` is asked after a dry run was shown; its
    result decides.

    Raises NotConnected, NoAnswer, SettingsError before the command has begun."""
    try:
        command = find_command(words[0])
        fields = fields_from_words(command, words[1:])
        async with OperatorClient(settings.xmpp, account, seen=False) as person:
            outcome.code = await _run_dialog(person, command.name, fields, outcome, confirm, tell)
    except OperatorError as e:
        outcome.code = _note_failure(outcome, tell, str(e))
    except CommandRefused as e:
        outcome.code = _note_failure(outcome, tell, e.text or e.condition)
    return outcome.code


async def _run_dialog(
    person: OperatorClient,
    name: str,
    fields: Mapping[str, str],
    outcome: Outcome,
    confirm: Confirm,
    tell: Callable[[str], None],
) -> int:
    reply = await _send_first_step(person, name, fields)
    if _is_form_to_fill_in(reply):  # the form has fields that may be left out
        reply = await person.send_command_step(name, reply.session, "complete", fields)
    tries = 0
    while True:
        _note_reply(reply, outcome, tell)
        moods = {r.mood for r in reply.remarks}
        wrong = Mood.ERROR in moods
        if reply.status is not Status.EXECUTING:
            # A warning at the end: it waits for a second person.
            return REFUSED if wrong else NOT_CONFIRMED if Mood.WARN in moods else DONE
        # Still executing: a dry run to confirm. After a confirmation it comes again if the fleet
        # has changed since.
        if wrong or tries == TRIES or not await confirm():
            await _cancel_command(person, reply)
            if wrong:
                return REFUSED
            if tries == TRIES:
                raise OperatorError(
                    "The fleet changes faster than it can be confirmed: nothing was done."
                )
            tell("Not confirmed: nothing was done.")
            return NOT_CONFIRMED
        tries += 1
        outcome.code = REFUSED  # in case of an interrupt from here on
        reply = await _confirm_change(person, reply)


def _is_form_to_fill_in(reply: FormReply) -> bool:
    """Whether the reply is a form to fill in, with no error yet."""
    fields = (
        reply.form.fields if reply.form is not None and reply.status is Status.EXECUTING else ()
    )
    return not reply.remarks and any(f.kind is not FieldKind.FIXED for f in fields)


async def _confirm_change(person: OperatorClient, reply: FormReply) -> FormReply:
    try:
        return await person.send_command_step(reply.command, reply.session, "complete")
    except CommandRefused as e:
        if e.detail != "bad-sessionid":
            raise
        raise OperatorError(
            "The leader has changed since, or it took too long: nothing was done. Ask again."
        ) from None
    except NoAnswer:
        raise OperatorError(
            "The leader did not answer: whether it was done is not known. `geolane ctl history` "
            "shows it."
        ) from None
    except NotConnected as e:
        if person.session.is_up:
            raise OperatorError(
                "The leader is gone: nothing was done. Ask the next leader again."
            ) from None
        raise OperatorError(
            f"{e}: whether it was done is not known. `geolane ctl history` shows it."
        ) from None


async def _send_first_step(
    person: OperatorClient, name: str, fields: Mapping[str, str]
) -> FormReply:
    """Send the first step. Retries for 5 s while there is no leader, or while the leader asks to
    wait: nothing has begun then."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + PATIENCE_S
    while True:
        try:
            return await person.send_command_step(name, fields=fields)
        except CommandRefused as e:
            if e.condition != "resource-constraint" or loop.time() > until_s:
                raise
        except NotConnected:
            if not person.session.is_up or loop.time() > until_s:
                raise
        await asyncio.sleep(AGAIN_S)


async def _cancel_command(person: OperatorClient, reply: FormReply) -> None:
    try:
        await person.send_command_step(reply.command, reply.session, "cancel")
    except (CommandRefused, NoAnswer, NotConnected):
        return  # the session expires by itself


def _note_reply(reply: FormReply, outcome: Outcome, tell: Callable[[str], None]) -> None:
    outcome.data = reply.data
    said = [r.text for r in reply.remarks]
    for f in reply.form.fields if reply.form is not None else ():
        if f.var == TEXT:
            said.append(f.value)
        elif reply.status is Status.COMPLETED:
            outcome.fields[f.var] = f.value
    for text in said:
        outcome.text.append(text)
        tell(text)


def _note_failure(outcome: Outcome, tell: Callable[[str], None], text: str) -> int:
    outcome.text.append(text)
    tell(text)
    return REFUSED


# The terminal.


async def ask_terminal() -> bool:
    """Ask on standard error and read a line of standard input without blocking, since the session
    must be kept alive."""
    click.echo("Do it? [y/N] ", nl=False, err=True)
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    watch_stdin(there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def main(
    load: Callable[[], Settings], account: str, words: Sequence[str], *, yes: bool, as_json: bool
) -> int:
    """Returns the exit code. Without `yes`, a change to the fleet must be confirmed on a terminal;
    without a terminal it is not made."""
    from agents.base import supervisor

    asks = sys.stdin.isatty() and not yes

    async def confirm() -> bool:
        return await ask_terminal() if asks else yes

    def tell(text: str) -> None:
        if not as_json or asks:
            click.echo(text, err=as_json)

    outcome = Outcome(words[0])
    try:
        settings = load()
        code = supervisor.run(
            lambda: run_command(settings, account, words, outcome, confirm, tell), tell=False
        )
        outcome.code = code or outcome.code
    except GeolaneError as e:
        outcome.code = AWAY
        outcome.text.append(str(e))
        click.echo(f"geolane: {e}", err=True)
    if as_json:
        click.echo(outcome.to_json())
    return outcome.code


# Completion, without the network.


def command_names(incomplete: str) -> list[tuple[str, str]]:
    """The commands with this prefix, and what each does."""
    return [(c.name, c.help) for c in COMMANDS.values() if c.name.startswith(incomplete)]


def argument_values(
    words: Sequence[str], incomplete: str, settings: Callable[[], Settings]
) -> list[str]:
    """What may follow `words` (the command's name first); empty if that is not known here."""
    command = COMMANDS.get(words[0]) if words else None
    if command is None:
        return []
    given = {w.partition("=")[0] for w in words[1:]}
    left = [a for a in command.args if a.keyed and a.name not in given]
    found: list[str] = []
    for a in left:
        if incomplete.startswith(f"{a.name}="):
            found += [f"{a.name}={x}" for x in _list_values(a, settings)]
        else:
            found.append(f"{a.name}=")
    plain = [
        w for w in words[1:] if w.partition("=")[0] not in {a.name for a in command.args if a.keyed}
    ]
    positional = [a for a in command.args if not a.keyed]
    if len(plain) < len(positional):
        found += _list_values(positional[len(plain)], settings)
    return [x for x in found if x.startswith(incomplete)]


def _list_values(a: Argument, settings: Callable[[], Settings]) -> list[str]:
    match a.type:
        case Type.COMMAND:
            return list(COMMANDS)
        case Type.NODE | Type.WORKER:
            return _list_worker_names(settings, others=a.type is Type.WORKER)
    return list(a.choices)


def _list_worker_names(settings: Callable[[], Settings], *, others: bool) -> list[str]:
    from agents.admin.inventory_file import read_inventory
    from agents.core.model.topology import WorkerKind

    try:
        inventory = read_inventory(Path(settings().coordinator.inventory))
    except GeolaneError:
        return []
    nodes = inventory.workers_of(WorkerKind.NODE)
    rest = [w for w in inventory.workers.values() if w.kind != WorkerKind.NODE] if others else []
    return [w.label for w in (*nodes, *rest)]
