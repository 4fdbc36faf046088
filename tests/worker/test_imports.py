"""What a worker's process loads: memory that each of hundreds would use."""

from __future__ import annotations

import subprocess
import sys

LOOK = (
    "import sys, agents.node.process, agents.router.process\n"
    "print(sorted({'numpy', 'numba', 'scipy', 'matplotlib'} & set(sys.modules)))"
)


def test_nodes_and_routers_load_no_numerics() -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOOK], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.strip() == "[]"
