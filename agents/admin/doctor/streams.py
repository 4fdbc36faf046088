"""The Java program of router.engine = "kafka-streams": whether it can run on this machine."""

from __future__ import annotations

import asyncio
import re

from agents.admin.doctor.check import Check
from agents.admin.doctor.judge.roles import Role, Whom
from agents.admin.doctor.judge.verdict import Verdict, fault, ok
from agents.base.errors import InstallError
from agents.core.model.topology import KAFKA_STREAMS
from agents.router.java_program import BUILD, JARS, require_installed
from agents.settings import Settings

GROUP = "router"
LEAST_JAVA = 17


class StreamsCheck:
    """Whether the program of a router can run here."""

    def __init__(self, settings: Settings, who: Whom) -> None:
        self._settings, self._who = settings, who

    def list_checks(self) -> list[Check]:
        """None if no router on Kafka Streams runs here."""
        if self._settings.router.engine != KAFKA_STREAMS or self._who.role not in (
            Role.ROUTER,
            Role.COORDINATOR,
        ):
            return []
        return [Check(GROUP, "java", self._check_java, todo=BUILD)]

    async def _check_java(self) -> Verdict:
        try:
            await asyncio.to_thread(require_installed)
        except InstallError as e:
            if self._who.role is Role.COORDINATOR:
                return ok("not on this machine; routers need it: --as router-NAME there")
            return fault(str(e), BUILD)
        process = await asyncio.create_subprocess_exec(
            "java",
            "-version",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return judge_java(said.decode(errors="replace"))


def judge_java(said: str) -> Verdict:
    """By what `java -version` says: `openjdk version "17.0.15" 2025-04-15`."""
    first = said.partition("\n")[0].strip()
    found = re.search(r'version "(\d+)', first)
    if found is None or int(found[1]) < LEAST_JAVA:
        return fault(
            f"java says {first[:80]!r}, Kafka Streams needs {LEAST_JAVA} or later",
            "install openjdk-17-jre-headless",
        )
    return ok(f"Java {found[1]}, the program is in {JARS}")
