"""`geolane ctl`: a person commands the fleet over XMPP from a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from agents.cli.options import FILE, SET, WithTimes, load_account_settings


def _complete_command(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    from click.shell_completion import CompletionItem

    from agents.cli.operator_console import command_names

    return [CompletionItem(name, help=text) for name, text in command_names(incomplete)]


def _complete_argument(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from agents.cli.operator_console import argument_values

    p = ctx.params
    words = [p.get("command") or "", *(p.get("args") or ())]
    return argument_values(
        words,
        incomplete,
        lambda: load_account_settings(
            p.get("settings"), p.get("sets") or (), p.get("user") or "operator"
        ),
    )


_HELP_FOR = "geolane.ctl.help_for"


class _Ctl(WithTimes):
    """Its help lists the operator commands; with one named, it explains that one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_HELP_FOR] = tuple(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from agents.core.operators.registry import COMMANDS, describe_command

        named = next((COMMANDS[a] for a in ctx.meta[_HELP_FOR] if a in COMMANDS), None)
        if named is not None:
            return formatter.write(describe_command(named, "geolane ctl ") + "\n")
        super().format_help(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(x.usage, x.brief_help) for x in COMMANDS.values()])


@click.command(cls=_Ctl)
@click.argument("command", shell_complete=_complete_command)
@click.argument("args", nargs=-1, shell_complete=_complete_argument)
@click.option(
    "--settings", type=FILE, help="The person's settings file (default: that of the running stack)."
)
@SET
@click.option("--user", default="operator", show_default=True, help="The person's account.")
@click.option("--yes", is_flag=True, help="Confirm what the dry run predicts.")
@click.option(
    "--json", "as_json", is_flag=True, help="One object with typed values (geolane json-schema)."
)
def ctl(
    command: str,
    args: tuple[str, ...],
    settings: Path | None,
    sets: tuple[str, ...],
    user: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Give an operator command: status, drain NODE ..., with the rights of --user. `geolane ctl
    COMMAND -h` explains one.

    A command that changes the fleet shows its dry run and asks. Exit code 0: done; 1: refused, or
    an error in the command; 2: cannot connect, or wrong settings; 3: not confirmed, and nothing
    done."""
    from agents.base import log
    from agents.cli import operator_console as front

    log.setup("ctl", "WARNING")
    sys.exit(
        front.main(
            lambda: load_account_settings(settings, sets, user),
            user,
            [command, *args],
            yes=yes,
            as_json=as_json,
        )
    )
