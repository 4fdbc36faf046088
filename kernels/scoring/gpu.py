"""Scores on a GPU: runs score.cu through CuPy, on NVIDIA's and AMD's devices. If the device fails,
the CPU takes over.

Not run on a GPU yet: the tests run the same source on the host instead (tests/kernels/shim). CuPy
always flushes subnormals to zero, which prepare.py allows for. On ROCm it compiles by hiprtc, and
needs `hipcc` on PATH to find headers."""

from __future__ import annotations

import logging
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from kernels.scoring import prepare
from kernels.scoring.prepare import NearestQuery, ScoringTick, Selection
from kernels.tables import Candidates, Costs, Floats, Ints, Problem, Singles, check_problem

SOURCE = Path(__file__).with_name("score.cu")
THREADS = 128
WIDTHS = (1, 8, 16, 32)  # values that TOP_K is compiled for; for more, the CPU answers

_log = logging.getLogger("geolane.kernels")
_lock = threading.Lock()
_device: Device | None = None


class NoGpu(RuntimeError):
    """There is no usable GPU. The message says why."""


def probe_gpu() -> tuple[bool, str]:
    """Whether there is a GPU, and its name or why not. The first call takes seconds: CuPy is
    imported."""
    try:
        return True, open_device().name
    except NoGpu as e:
        return False, str(e)


def open_device() -> Device:
    """The first GPU, opened once for this process. Raises NoGpu."""
    global _device
    with _lock:
        if _device is None:
            _device = Device(_import_cupy())
        return _device


def make_gpu_costs(problem: Problem) -> Costs:
    """The costs of a problem, computed on the GPU on demand. Raises NoGpu, and ValueError naming
    column and row."""
    return GpuCosts(problem, open_device())


def compile_options(k: int, *, rocm: bool) -> tuple[str, ...]:
    """The options that compile score.cu without contraction and without spills."""
    exact = (
        ("-ffp-contract=off", "-DBLOCKS_RESIDENT=1")
        if rocm
        else ("--fmad=false", "-DBLOCKS_RESIDENT=4")
    )
    return (*exact, f"-DTOP_K={k}", f"-DBLOCK_THREADS={THREADS}")


class Device:
    """A GPU with the kernels compiled for it, and memory that is kept from one tick to the next. It
    runs one call at a time.

    `cupy`: the module, or a stand-in. `failed`: why the device was given up; from then on the CPU
    answers. Raises NoGpu if there is no device."""

    def __init__(self, cupy: Any) -> None:  # Any: CuPy has no types
        self._cupy = cupy
        self.rocm = bool(cupy.cuda.runtime.is_hip)
        if self.rocm and shutil.which("hipcc") is None:
            raise NoGpu("CuPy needs ROCm's hipcc on PATH to compile")
        try:
            if cupy.cuda.runtime.getDeviceCount() < 1:
                raise NoGpu("CuPy finds no device")
            found = cupy.cuda.runtime.getDeviceProperties(0)["name"]
        except RuntimeError as e:  # for example no driver, or one that is too old
            raise NoGpu(f"CuPy finds no device: {e}") from e
        said = found.decode(errors="replace") if isinstance(found, bytes) else str(found)
        self.name = f"{said} ({'ROCm' if self.rocm else 'CUDA'}, CuPy {cupy.__version__})"
        self.failed = ""
        self._kernels: dict[int, Any] = {}
        self._memory: dict[str, Any] = {}
        self._ground: object = None
        self._tick: object = None
        self._lock = threading.Lock()

    def find_candidates(
        self, t: ScoringTick, q: NearestQuery, chosen: Selection, k: int
    ) -> Candidates:
        """The kernel's answer for a selection that is not empty, with `k` from 1 to the largest of
        WIDTHS. Raises any error of CuPy."""
        with self._lock:
            return self._run_kernel(t, q, chosen, k)

    def _run_kernel(self, t: ScoringTick, q: NearestQuery, chosen: Selection, k: int) -> Candidates:
        g, count = t.ground, len(chosen.place)
        lanes, nodes = len(g.lane_row), len(g.node_row)
        self._copy_tables(t)
        self._copy_values("held", q.list_of, 3 * lanes, 4 * lanes)
        self._copy_values("node", q.key_ms, 6 * nodes, 9 * nodes)
        work = _split_work(chosen, g.filter_region)
        answer_node = self._reserve_memory("answer_node", count * k, np.int32)
        answer_ms = self._reserve_memory("answer_ms", count * k, np.float32)
        arguments = (
            *(
                self._copy_values("work", work),
                self._copy_values("chosen", np.stack((chosen.place, chosen.out))),
                np.int32(count),
            ),
            *(self._memory["lane"], self._memory["held"], np.int32(lanes)),
            *(
                self._memory["node"],
                self._memory["node_is"],
                np.int32(nodes),
                self._memory["node_place"],
            ),
            *(self._memory["cap"], self._memory["table"], np.int32(t.table.shape[1])),
            *(self._copy_values("bias", q.bias), self._copy_values("least", q.least)),
            *(
                self._copy_values("list_node", q.list_node),
                self._copy_values("list_ms", q.list_ms),
                np.int32(q.list_ms.shape[1]),
            ),
            *(np.int32(q.priced), np.int32(k), answer_node, answer_ms),
        )
        self._compile_kernel(k)((len(work),), (THREADS,), arguments)
        return Candidates(
            answer_node[: count * k].get().reshape(count, k),
            answer_ms[: count * k].get().reshape(count, k),
        )

    def _copy_tables(self, t: ScoringTick) -> None:
        """Copies to the device what it does not hold yet. A Ground stays while places stay; a Tick
        serves all its queries."""
        g = t.ground
        lanes, nodes = len(g.lane_row), len(g.node_row)
        if self._ground is not g:
            self._ground = self._tick = None
            self._copy_values("lane", g.lane_xyz, 0, 7 * lanes)
            self._copy_values("node", g.node_xyz, 0, 9 * nodes)
            self._reserve_memory("held", 4 * lanes, np.int32)
            self._copy_values("node_is", np.stack((g.node_row, g.site)))
            self._copy_values("node_place", g.node_place)
            self._copy_values("cap", np.concatenate((g.cap_xyz, g.cap_rad[None, :])))
            self._ground = g
        if self._tick is not t:
            self._tick = None
            self._copy_values(
                "lane", np.stack((t.slope, t.base, t.last, t.traffic)), 3 * lanes, 7 * lanes
            )
            self._copy_values(
                "held", np.stack((t.own, t.stays.astype(np.int32), t.warm)), 0, 4 * lanes
            )
            self._copy_values("node", t.node_ms, 3 * nodes, 9 * nodes)
            self._copy_values("table", t.table)
            self._tick = t

    def _copy_values(self, name: str, values: Singles | Ints, start: int = 0, room: int = 0) -> Any:
        """Copies `values` to the memory of that name, from item `start` on. `room`: the items that
        the memory must have."""
        memory = self._reserve_memory(name, max(room, start + values.size), values.dtype.type)
        if values.size:
            memory[start : start + values.size].set(np.ascontiguousarray(values).ravel())
        return memory

    def _reserve_memory(
        self, name: str, items: int, dtype: type[np.float32] | type[np.int32]
    ) -> Any:
        """Memory of at least that many items. Its content is lost only when it grows."""
        memory = self._memory.get(name)
        if memory is None or len(memory) < items:
            memory = self._memory[name] = self._cupy.empty(max(1, items), dtype=dtype)
        return memory

    def _compile_kernel(self, k: int) -> Any:
        width = next(w for w in WIDTHS if w >= k)
        if width not in self._kernels:
            module = self._cupy.RawModule(
                code=SOURCE.read_text(), options=compile_options(width, rocm=self.rocm)
            )
            self._kernels[width] = module.get_function("score")
        return self._kernels[width]


class GpuCosts:
    """Costs (see kernels.tables) by the kernel. `costs_at`, and queries wider than the kernel, are
    answered by the CPU, with the same numbers."""

    def __init__(self, problem: Problem, device: Device) -> None:
        check_problem(problem)
        self._problem, self._device = problem, device
        self._tick = prepare.prepare_tick(problem)
        self._by_cpu: Costs | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._problem.lanes.lat), len(self._problem.nodes.lat)

    def find_candidates(
        self, k: int, price_ms: Floats | None = None, rows: Ints | None = None
    ) -> Candidates:
        """Raises ValueError for `k` below 1 and for a price that is negative or not finite."""
        if k < 1:
            raise ValueError(f"k is {k}: at least one candidate is needed")
        lanes, nodes = self.shape
        width, count = min(k, nodes), lanes if rows is None else len(rows)
        if width > WIDTHS[-1] or self._device.failed or not width or not count:
            return self._cpu_costs().find_candidates(k, price_ms, rows)
        query = prepare.prepare_query(self._problem, self._tick, width, price_ms)
        try:
            return self._device.find_candidates(
                self._tick, query, prepare.select_lanes(self._tick.ground, rows), width
            )
        except Exception as e:  # noqa: BLE001 - whatever the device, its driver or its compiler does, lanes must be placed
            self._device.failed = f"{type(e).__name__}: {e}"
            _log.warning("gpu_failed: the CPU scores from now on: %s", self._device.failed[:1000])
            return self._cpu_costs().find_candidates(k, price_ms, rows)

    def costs_at(self, lane: Ints, node: Ints) -> Singles:
        return self._cpu_costs().costs_at(lane, node)

    def _cpu_costs(self) -> Costs:
        from kernels.scoring.cpu import CpuCosts  # only here: importing it compiles

        if self._by_cpu is None:
            self._by_cpu = CpuCosts(self._problem)
        return self._by_cpu


def _split_work(chosen: Selection, filter_region: Ints) -> Ints:
    """The work of each block of threads: filter group, first of the chosen, how many, and the
    group's row of the table; int32[B, 4]."""
    size = np.diff(chosen.first)
    blocks = -(-size // THREADS)
    group = np.repeat(np.arange(len(size)), blocks)
    nth = np.arange(len(group)) - np.repeat(np.cumsum(blocks) - blocks, blocks)
    begin = chosen.first[group] + nth * THREADS
    count = np.minimum(THREADS, chosen.first[group + 1] - begin)
    return np.stack((group, begin, count, filter_region[group]), axis=1).astype(np.int32)


def _import_cupy() -> Any:
    """The module. Raises NoGpu. The CUDA wheel can be imported anywhere, the ROCm wheel only with
    ROCm."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its warning that it finds no CUDA
            import cupy
    except ModuleNotFoundError:
        raise NoGpu("CuPy is not installed: install the extra gpu-cuda or gpu-rocm") from None
    except Exception as e:
        raise NoGpu(f"CuPy cannot be imported: {e}") from e
    return cupy
