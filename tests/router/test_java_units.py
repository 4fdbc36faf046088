"""The unit tests of the Java program (JUnit, TopologyTestDriver)."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from agents.base.files import PROJECT
from tests.router.streams import needs_jars


@needs_jars
@pytest.mark.skipif(
    shutil.which("mvn") is None or shutil.which("javac") is None,
    reason="no JDK or no Maven: sh agents/local/servers/install.sh test",
)
@pytest.mark.timeout(400)
def test_the_unit_tests_of_the_java_program() -> None:
    command = [
        "mvn",
        "-B",
        "-o",
        "-q",
        "-f",
        str(PROJECT / "agents/router/streams/pom.xml"),
        "test",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout[-6000:]
