"""The GPU's source, unmodified, on the host: equal to the CPU's kernel to the bit, in whatever
order its threads run; and what is around it, with this machine for a device."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.scoring import gpu
from kernels.scoring.cpu import CpuCosts
from kernels.scoring.gpu import Device, GpuCosts, NoGpu
from kernels.tables import Candidates, Floats, Ints, Problem
from tests.kernels import support
from tests.kernels.shim.host import HostCupy
from tests.kernels.shim.problems import busy, prices

ADVERSARIAL = support.adversarial()
ORDERS = (0, 1, 2, 3)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("score")


@pytest.fixture(scope="session")
def cupy(folder: Path) -> HostCupy:
    return HostCupy(folder)


@pytest.fixture(scope="session")
def device(cupy: HostCupy) -> Device:
    return Device(cupy)


def equal_to_the_bit(one: Candidates, other: Candidates) -> bool:
    return (
        one.node.tobytes() == other.node.tobytes()
        and one.cost_ms.tobytes() == other.cost_ms.tobytes()
    )


def agrees(
    device: Device,
    cupy: HostCupy,
    p: Problem,
    k: int,
    price_ms: Floats | None = None,
    rows: Ints | None = None,
) -> None:
    """The kernel answers as the CPU's does, for every order of threads, and all of them meet at
    every barrier."""
    expected, launches = CpuCosts(p, threads=1).find_candidates(k, price_ms, rows), cupy.launches
    for cupy.seed in ORDERS:
        found = GpuCosts(p, device).find_candidates(k, price_ms, rows)
        assert not device.failed
        assert equal_to_the_bit(found, expected), f"threads in order {cupy.seed}"
    assert cupy.divergent == 0
    asked = len(expected.node) > 0 and len(p.nodes.lat) > 0
    assert cupy.launches - launches == (len(ORDERS) if asked else 0)


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_problems_agree_to_the_bit(
    name: str, k: int, device: Device, cupy: HostCupy
) -> None:
    p = ADVERSARIAL[name]
    agrees(device, cupy, p, k)
    agrees(device, cupy, p, k, support.price(1, len(p.nodes.lat)))


@settings(max_examples=60, deadline=None)
@given(p=support.problems(lanes=40), k=st.integers(1, 8), seed=st.integers(0, 3))
def test_any_problem_agrees_to_the_bit(p: Problem, k: int, seed: int, folder: Path) -> None:
    cupy = HostCupy(folder)
    agrees(Device(cupy), cupy, p, k, support.price(seed, len(p.nodes.lat)) if seed else None)


@pytest.mark.parametrize(
    ("lanes", "nodes", "k"), [(900, 100, 8), (700, 1500, 16), (300, 3000, 1), (400, 300, 12)]
)
def test_larger_problems_agree_to_the_bit(
    lanes: int, nodes: int, k: int, device: Device, cupy: HostCupy
) -> None:
    agrees(device, cupy, support.random_problem(lanes, lanes, nodes, measured=0.3, rules=2), k)
    p = busy(lanes, nodes, regions=3, rules=1)
    agrees(device, cupy, p, k, prices(nodes))
    agrees(device, cupy, support.with_brokers(p, 3), k, prices(nodes))


def test_it_agrees_with_the_oracle_too(device: Device) -> None:
    p = support.random_problem(7, 400, 300)
    support.check(p, GpuCosts(p, device), 8)
    support.check(p, GpuCosts(p, device), 4, support.price(2, 300))


def test_some_rows_in_any_order_and_twice(device: Device, cupy: HostCupy) -> None:
    p = support.random_problem(8, 500, 80)
    rows = np.random.default_rng(0).integers(0, 500, 300).astype(np.int32)
    agrees(device, cupy, p, 5, support.price(1, 80), rows)


def test_problems_in_turn_share_the_memory(device: Device) -> None:
    """What the device holds of one problem is never taken for another's; and where places stay,
    they are not sent again."""
    one, other = support.random_problem(1, 300, 70), support.random_problem(2, 40, 200)
    tick = one._replace(lanes=one.lanes._replace(traffic=np.full(300, 2.0)))
    asked = [GpuCosts(p, device) for p in (one, other, tick)]
    expected = [CpuCosts(p).find_candidates(4) for p in (one, other, tick)]
    for _ in range(2):
        for i in (0, 1, 2, 0, 2, 1):
            assert equal_to_the_bit(asked[i].find_candidates(4), expected[i])


def test_memory_is_kept_from_tick_to_tick(folder: Path) -> None:
    cupy = HostCupy(folder)
    device = Device(cupy)
    for traffic in (1.0, 1.5, 2.0):
        p = support.random_problem(3, 200, 50)
        p = p._replace(lanes=p.lanes._replace(traffic=np.full(200, traffic)))
        for k in (8, 1):
            GpuCosts(p, device).find_candidates(k, support.price(1, 50))
    once = len(cupy.made)
    GpuCosts(p, device).find_candidates(8)
    assert len(cupy.made) == once == 15, "one for each array, made once"


def test_what_the_kernel_is_too_narrow_for_comes_from_the_cpu(
    device: Device, cupy: HostCupy
) -> None:
    p, launches = support.random_problem(4, 20, 60), cupy.launches
    assert equal_to_the_bit(
        GpuCosts(p, device).find_candidates(50), CpuCosts(p).find_candidates(50)
    )
    assert cupy.launches == launches


def test_bad_questions_are_refused(device: Device) -> None:
    p = support.random_problem(4, 10, 20)
    with pytest.raises(ValueError, match="k is 0"):
        GpuCosts(p, device).find_candidates(0)
    with pytest.raises(ValueError, match=r"price_ms\[1\] is nan"):
        GpuCosts(p, device).find_candidates(1, np.array([0.0, np.nan] + [0.0] * 18))
    with pytest.raises(ValueError, match=r"nodes\.egress_ms\[0\] is inf"):
        GpuCosts(p._replace(nodes=p.nodes._replace(egress_ms=np.full(20, np.inf))), device)


def test_a_device_that_fails_is_given_up_for_the_cpu(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cupy = HostCupy(folder)
    device, p = Device(cupy), support.random_problem(5, 60, 30)
    costs, expected = GpuCosts(p, device), CpuCosts(p).find_candidates(4)
    assert equal_to_the_bit(costs.find_candidates(4), expected)
    monkeypatch.setattr(cupy, "empty", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(cupy, "RawModule", lambda **_: 1 / 0)
    with caplog.at_level(logging.WARNING, "geolane.kernels"):
        for _ in range(3):
            assert equal_to_the_bit(costs.find_candidates(1), CpuCosts(p).find_candidates(1))
    assert [record.message.split(":")[0] for record in caplog.records] == ["gpu_failed"]
    assert "ZeroDivisionError" in device.failed


def driver_says(reason: str) -> SimpleNamespace:
    def count() -> int:
        raise RuntimeError(reason)

    return SimpleNamespace(
        __version__="14",
        cuda=SimpleNamespace(runtime=SimpleNamespace(is_hip=False, getDeviceCount=count)),
    )


def test_why_there_is_no_gpu_is_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with pytest.raises(NoGpu, match="driver version is insufficient"):
        Device(driver_says("cudaErrorInsufficientDriver: CUDA driver version is insufficient"))
    none = HostCupy(folder)
    none.cuda.runtime.getDeviceCount = lambda: 0
    with pytest.raises(NoGpu, match="no device"):
        Device(none)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoGpu, match="hipcc"):
        Device(HostCupy(folder, rocm=True))
    monkeypatch.setattr(gpu, "_device", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    usable, why = gpu.probe_gpu()
    assert not usable
    assert "CuPy" in why


def test_rocm_is_asked_for_the_same_arithmetic() -> None:
    assert "-ffp-contract=off" in gpu.compile_options(8, rocm=True)
    assert "--fmad=false" in gpu.compile_options(8, rocm=False)
    for rocm in (True, False):
        assert not any("std" in option for option in gpu.compile_options(8, rocm=rocm)), (
            "hiprtc refuses -std"
        )
