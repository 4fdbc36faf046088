"""score.cu with one thing wrong: each is caught on the host, so what passes there is right (and has
every barrier that it needs)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from kernels.scoring import gpu
from kernels.scoring.cpu import CpuCosts
from kernels.tables import Candidates, Floats, Problem
from tests.kernels.shim.host import HostCupy, OutOfBounds
from tests.kernels.shim.problems import busy, prices
from tests.kernels.support import with_brokers

SEEDS = (0, 1, 2)


class Question(NamedTuple):
    problem: Problem
    k: int
    price_ms: Floats | None


QUESTIONS = (
    Question(busy(260, 700, regions=4, rules=2, seed=1), 8, prices(700)),
    Question(busy(200, 700, rules=2, seed=2), 8, None),
    Question(busy(150, 40, regions=5, rules=2, seed=3), 3, prices(40)),
    Question(busy(60, 6, regions=2, rules=1, seed=4), 8, None),
    Question(
        busy(120, 700, regions=4, rules=2, seed=5), 8, prices(700)
    ),  # threads that begin at different tiles are seen
    Question(with_brokers(busy(90, 70, regions=4, rules=1, seed=6), 3), 5, prices(70)),
)

# What is wrong: a text that is in the source once, and what is put in its place.
MUTATIONS: dict[str, tuple[str, str]] = {
    "no barrier before a tile is overwritten": (
        "        __syncthreads();\n        for (int j = me; j < size",
        "        for (int j = me; j < size",
    ),
    "no barrier before a tile is read": (
        "        __syncthreads();\n        for (int b = 0; b < size / BLOCK",
        "        for (int b = 0; b < size / BLOCK",
    ),
    "no barrier before the nearest tile is read": (
        "        __syncthreads();\n    }\n\n",
        "    }\n\n",
    ),
    "threads without a lane leave early": (
        "    // An arc is never",
        "    if (!real) return;\n    // An arc is never",
    ),
    "the filter passes over too much": ("1.0f - 2e-6f", "1.0f + 2e-3f"),
    "a chord too long for the filter": (
        "2.0f * (mine.slope * mine.slope)",
        "2.2f * (mine.slope * mine.slope)",
    ),
    "the base forgotten in the reach": (" + lane.slope * 1e-5f - lane.base", " - 3.0f * lane.base"),
    "a cap's radius ignored": ("arc(lane.at, cap) - radius", "arc(lane.at, cap)"),
    "the last nodes of a block left out": ("j < (b + 1) * BLOCK", "j < (b + 1) * BLOCK - STEP"),
    "the last block of a tile left out": (
        "b = 0; b < size / BLOCK;",
        "b = 0; b < size / BLOCK - 1;",
    ),
    "the last tile left out": ("turn < tiles; ++turn", "turn < tiles - 1; ++turn"),
    "what the own node saves forgotten": ("i < -1 ? OWN : WARM", "i < -1 ? OTHER : WARM"),
    "the warm node forgotten": ("i < -1 ? OWN : WARM", "i < -1 ? OWN : OTHER"),
    "the own node kept where it may not stay": ("held[H_STAYS * lanes + l] ? own : -1", "own"),
    "the own node not kept among the last": ("own_key < FEASIBLE", "false"),
    "the own node taken from a list too": ("if (n == own || n == warm) continue;", ""),
    "the own node scanned too": ("if (from + i == own || from + i == warm) continue;", ""),
    "rules ignored": ("    bias += (long long)todo.x * nodes;\n", ""),
    "another region's row of the table": ("    table += (long long)todo.w * columns;\n", ""),
    "ties to the higher row": ("row < other", "row > other"),
    "the last mile forgotten in a list": ("key = mine.last + list_ms[row]", "key = list_ms[row]"),
    "the last mile forgotten at the own node": (
        "lane.last + (lane.traffic * rtt + ms)",
        "lane.traffic * rtt + ms",
    ),
    "traffic forgotten at the own node": ("lane.traffic * rtt", "rtt"),
    "another lane's list": ("held[H_LIST * lanes + l] * depth", "todo.x * depth"),
    "far arcs taken for near ones": ("return far ? PI - r : r", "return r"),
    "the price handed back": ("priced && i < K", "false && i < K"),
    "too many kept": ("!real || i < K - k ? -NEVER", "!real ? -NEVER"),
    "a node where there is none": ("best.row[i] == NO_ROW ? -1 : best.row[i]", "best.row[i]"),
    "nothing dearer is pushed on": ("        key = next_key;\n", ""),
    "another lane's answer": ("chosen[asked + todo.y + me]", "todo.y + me"),
}


def answers(folder: Path, edit: Callable[[str], str] = str) -> tuple[list[Candidates], int]:
    """To every question, for every order of threads; and in how many blocks threads missed each
    other at a barrier."""
    cupy = HostCupy(folder, edit=edit)
    device = gpu.Device(cupy)
    said = []
    for question in QUESTIONS:
        costs = gpu.GpuCosts(question.problem, device)
        for seed in SEEDS:
            cupy.seed = seed
            said.append(costs.find_candidates(question.k, question.price_ms))
            if device.failed:
                raise (
                    OutOfBounds
                    if device.failed.startswith("OutOfBounds")
                    else RuntimeError(device.failed)
                )
    return said, cupy.divergent


def same(one: list[Candidates], other: list[Candidates]) -> bool:
    return all(
        np.array_equal(a.node, b.node) and np.array_equal(a.cost_ms, b.cost_ms)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("score")


@pytest.fixture(scope="session")
def right(folder: Path) -> list[Candidates]:
    said, divergent = answers(folder)
    assert divergent == 0
    return said


def test_the_source_itself_answers_as_the_cpu_does(right: list[Candidates]) -> None:
    expected = [
        CpuCosts(q.problem).find_candidates(q.k, q.price_ms) for q in QUESTIONS for _ in SEEDS
    ]
    assert same(right, expected)


@pytest.mark.parametrize("wrong", MUTATIONS)
def test_a_mutation_is_caught(wrong: str, folder: Path, right: list[Candidates]) -> None:
    text, instead = MUTATIONS[wrong]

    def edit(source: str) -> str:
        assert source.count(text) == 1, "the source has changed: this mutation must change with it"
        return source.replace(text, instead)

    edit(gpu.SOURCE.read_text())
    try:
        said, divergent = answers(folder, edit)
    except OutOfBounds:
        return
    assert divergent or not same(said, right)
