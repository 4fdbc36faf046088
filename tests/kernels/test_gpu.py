"""The kernel on a real GPU, where there is one: against the oracle, and to the bit against the
CPU's. Not run on a GPU yet."""

from __future__ import annotations

from itertools import product

import pytest

from kernels.scoring import gpu
from kernels.scoring.cpu import CpuCosts
from tests.kernels import support

USABLE, WHY = gpu.probe_gpu()
needs_a_gpu = pytest.mark.skipif(not USABLE, reason=f"no GPU: {WHY}")
ADVERSARIAL = support.adversarial()


def test_whether_there_is_a_gpu_is_said_in_words() -> None:
    assert gpu.probe_gpu() == (USABLE, WHY)
    assert WHY
    if not USABLE:
        with pytest.raises(gpu.NoGpu):
            gpu.make_gpu_costs(ADVERSARIAL["one lane, one node"])


@needs_a_gpu
def test_adversarial_problems_agree_with_the_oracle_and_the_cpu() -> None:
    for name, p in ADVERSARIAL.items():
        for k, priced in product((1, 3, 8, 32), (False, True)):
            price_ms = support.price(1, len(p.nodes.lat)) if priced else None
            support.check(p, gpu.make_gpu_costs(p), k, price_ms)
            ours, cpu = (
                gpu.make_gpu_costs(p).find_candidates(k, price_ms),
                CpuCosts(p).find_candidates(k, price_ms),
            )
            assert ours.node.tobytes() == cpu.node.tobytes(), name
            assert ours.cost_ms.tobytes() == cpu.cost_ms.tobytes(), name
    assert not gpu.open_device().failed


@needs_a_gpu
def test_large_problems_agree_with_the_cpu_to_the_bit() -> None:
    for lanes, nodes, k in ((10_000, 100, 8), (100_000, 1000, 8), (20_000, 10_000, 1)):
        plain = support.random_problem(lanes, lanes, nodes, regions=40, measured=0.2)
        brokers = support.with_brokers(plain, 3)
        for p, price_ms in product((plain, brokers), (None, support.price(1, nodes))):
            ours, cpu = (
                gpu.make_gpu_costs(p).find_candidates(k, price_ms),
                CpuCosts(p).find_candidates(k, price_ms),
            )
            assert ours.node.tobytes() == cpu.node.tobytes()
            assert ours.cost_ms.tobytes() == cpu.cost_ms.tobytes()
    assert not gpu.open_device().failed
