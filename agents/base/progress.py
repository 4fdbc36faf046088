"""How long work tells its caller what it has done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

StepOutcome = Literal["made", "changed", "set", "unchanged", "removed", "note"]
"""What happened to a thing. `set`: it is right now; its earlier state cannot be seen. `note`:
nothing happened, but a person should know."""

ReportStep = Callable[[StepOutcome, str], None]
"""Takes a step's outcome, and what the step was about."""

PrintLine = Callable[[str], None]
"""Shows one line to the person at the terminal."""


def report_to_nobody(outcome: StepOutcome, what: str) -> None:
    """For callers that want no report."""


@contextmanager
def line_of_waiting(describe: Callable[[], str]) -> Iterator[PrintLine]:
    """Prints lines on standard output. On a terminal there is one more below them, which is what
    `describe` says at that moment, in any thread; it is gone at the end."""
    import click
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        yield click.echo
        return
    with Live(
        get_renderable=lambda: Text(describe(), style="dim", no_wrap=True, overflow="ellipsis"),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ):
        yield lambda line: console.print(Text.from_ansi(line), soft_wrap=True)


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Callable[[], None]]:
    """A bar on standard error while work goes through `total` things; call the result after each.
    Nothing is shown where standard error is not a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), what, TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
