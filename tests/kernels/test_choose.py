"""Which kernel is chosen, that a broken one is passed over with the reason, and what stays
unimported until then."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from kernels import reference
from kernels.scoring import choose, gpu
from kernels.tables import Candidates, Costs, Floats, Ints, Problem, Singles
from tests.kernels import support


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "probe_gpu", lambda: (False, "there is none in this test"))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_numba_is_chosen_and_it_says_why() -> None:
    chosen = choose.choose_numerics()
    assert chosen.name == "cpu"
    assert "numba" in chosen.why
    assert "there is none in this test" in chosen.why
    p = support.random_problem(1, 50, 20)
    support.check(p, chosen.costs(p), 4)
    load, room = np.ones(50), np.full(20, 10.0)
    placed = chosen.solve(chosen.costs(p), load, room, owner=p.lanes.owner)
    assert (np.bincount(placed.node[placed.node >= 0], minlength=20) <= room).all()


@pytest.mark.parametrize(("want", "name"), [("cpu", "cpu"), ("numpy", "numpy"), ("gpu", "cpu")])
@pytest.mark.usefixtures("no_gpu")
def test_what_is_asked_for_or_the_next_that_works(want: str, name: str) -> None:
    chosen = choose.choose_numerics(want)
    assert chosen.name == name
    assert ("does not work here" in chosen.why) == (want != name)


@pytest.mark.usefixtures("no_gpu")
def test_without_numba_numpy_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "HAVE_NUMBA", False)
    chosen = choose.choose_numerics()
    assert chosen.name == "numpy"
    assert "numba cannot be imported" in chosen.why


def test_where_numba_cannot_be_had_lanes_are_placed_all_the_same() -> None:
    """In a process of its own, in which importing numba fails: plain Python does what would be
    compiled."""
    code = """
import sys
sys.modules["numba"] = None
from kernels.scoring.choose import choose_numerics
chosen = choose_numerics()
assert chosen.name == "numpy", chosen
assert "cpu does not work here: numba cannot be imported" in chosen.why, chosen.why
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="'fpga' is unknown: auto, gpu, cpu, numpy"):
        choose.choose_numerics("fpga")


class Broken:
    """The oracle, with one thing wrong."""

    def __init__(
        self, problem: Problem, wrong: Callable[[Candidates], Candidates], at_ms: float = 0.0
    ) -> None:
        self._right, self._wrong, self._at_ms = (
            reference.compute_matrix_costs(problem),
            wrong,
            at_ms,
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self._right.shape

    def find_candidates(
        self, k: int, price_ms: Floats | None = None, rows: Ints | None = None
    ) -> Candidates:
        return self._wrong(self._right.find_candidates(k, price_ms, rows))

    def costs_at(self, lane: Ints, node: Ints) -> Singles:
        return self._right.costs_at(lane, node) + np.float32(self._at_ms)


def dear(found: Candidates) -> Candidates:
    return found._replace(cost_ms=found.cost_ms + np.float32(0.01))


def not_a_number(found: Candidates) -> Candidates:
    return found._replace(cost_ms=found.cost_ms * np.float32(np.nan))


def second_first(found: Candidates) -> Candidates:
    return Candidates(np.roll(found.node, 1, axis=1), np.roll(found.cost_ms, 1, axis=1))


@pytest.mark.parametrize("wrong", [dear, not_a_number, second_first])
def test_a_kernel_that_computes_wrongly_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Candidates], Candidates]
) -> None:
    monkeypatch.setattr(gpu, "probe_gpu", lambda: (True, "a GPU"))
    monkeypatch.setattr(gpu, "make_gpu_costs", lambda p: Broken(p, wrong))
    chosen = choose.choose_numerics()
    assert chosen.name == "cpu"
    assert "from those of the oracle" in chosen.why


def test_single_costs_are_tried_too() -> None:
    with pytest.raises(choose.Unfit, match="single costs"):
        choose.try_out_kernel(lambda p: Broken(p, lambda found: found, at_ms=1.0))


def test_a_gpu_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Problem] = []

    def costs(p: Problem) -> Costs:
        made.append(p)
        return reference.compute_matrix_costs(p)

    class Device:
        failed = ""

    monkeypatch.setattr(gpu, "probe_gpu", lambda: (True, "a GPU (CUDA)"))
    monkeypatch.setattr(gpu, "make_gpu_costs", costs)
    monkeypatch.setattr(gpu, "open_device", Device)
    chosen = choose.choose_numerics()
    assert (chosen.name, chosen.why) == ("gpu", "a GPU (CUDA)")
    assert made
    monkeypatch.setattr(Device, "failed", "out of memory")  # then the CPU has answered in its place
    assert choose.choose_numerics().name == "cpu"
    assert "out of memory" in choose.choose_numerics().why


def test_importing_the_package_imports_no_compiler() -> None:
    """numba takes 100 MB; the core and every process but the coordinator do without."""
    code = (
        "import sys, kernels, kernels.reference; assert not {'numba', 'cupy', 'llvmlite'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
