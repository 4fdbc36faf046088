"""`geolane completion SHELL`: the script that completes commands, nodes and choices in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_GEOLANE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands in SHELL.

    \b
    bash: eval "$(geolane completion bash)" in ~/.bashrc
    zsh:  eval "$(geolane completion zsh)" in ~/.zshrc, after compinit
    fish: geolane completion fish > ~/.config/fish/completions/geolane.fish
    """
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"{shell}: this version of click has no completion for it")
    root = click.get_current_context().find_root().command
    click.echo(made(root, {}, "geolane", VARIABLE).source())
