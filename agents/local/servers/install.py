"""Runs install.sh for what only some runs need, with its progress."""

from __future__ import annotations

import asyncio

from agents.base.errors import InstallError
from agents.base.files import INSTALL
from agents.base.progress import PrintLine
from agents.local.servers.java import java_environment


async def install_part(part: str, say: PrintLine) -> None:
    """Install `flink` or `streams`, and Java, if they are missing; `say` gets a line for each
    thing. Raises InstallError, with the last lines, if that fails."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        str(INSTALL),
        part,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=java_environment(),
    )
    last: list[str] = []
    try:
        while process.stdout and (line := await process.stdout.readline()):
            last = [*last[-9:], line.decode(errors="replace").rstrip()]
            say(last[-1])
        await process.wait()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    if process.returncode != 0:
        raise InstallError(f"{part} could not be installed:\n" + "\n".join(last))
