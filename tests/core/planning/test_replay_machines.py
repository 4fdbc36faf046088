"""A plan's bytes do not depend on how many threads a library has, nor on which of its code paths a
processor gets."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PLANS = """
import hashlib
from agents.core.planning.recording import plan_to_json
from tests.core.planning.support import day, world
print(hashlib.sha256(b"".join(plan_to_json(d.plan) for d in day(world(400, 8), 12))).hexdigest())
"""


def bytes_of_plans(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PLANS], env=os.environ | environment, capture_output=True, check=True
    )
    return done.stdout.decode()


@pytest.mark.parametrize(
    "other",
    [
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"OPENBLAS_CORETYPE": "Prescott"},
        {"NUMBA_NUM_THREADS": "1"},
    ],
)
def test_another_code_path_gives_the_same_plans(other: dict[str, str]) -> None:
    assert bytes_of_plans(**other) == bytes_of_plans()
