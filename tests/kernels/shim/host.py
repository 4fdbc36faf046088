"""A stand-in for CuPy whose device is this machine: kernels/scoring/gpu.py runs on it unchanged,
and so does the source it compiles.

Memory has guards on both sides and is filled with nonsense when it is made, so that what reads or
writes beside it, or reads what was never written, shows."""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
GUARD = 4096  # items on each side: more than a tile, and more than a block of threads
NONSENSE = 0xFF  # of every byte: NaN, and -1

Array: TypeAlias = npt.NDArray[Any]


class OutOfBounds(Exception):
    """A kernel wrote where it has no business."""


class Memory:
    """One array on the device."""

    def __init__(self, whole: Array, begin: int, end: int) -> None:
        self._whole, self._begin, self._end = whole, begin, end

    @classmethod
    def of(cls, items: int, dtype: type[np.generic]) -> Memory:
        size = np.dtype(dtype).itemsize
        raw = np.full((items + 2 * GUARD) * size + 64, NONSENSE, dtype=np.uint8)
        raw = raw[-raw.ctypes.data % 64 :][: (items + 2 * GUARD) * size]
        return cls(raw.view(dtype), GUARD, GUARD + items)

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, part: slice) -> Memory:
        begin, end, _ = part.indices(len(self))
        return Memory(self._whole, self._begin + begin, self._begin + end)

    def set(self, values: Array) -> None:
        """From the host."""
        assert values.dtype == self._whole.dtype
        assert values.shape == (len(self),)
        self._whole[self._begin : self._end] = values

    def get(self) -> Array:
        """To the host."""
        return self._whole[self._begin : self._end].copy()

    @property
    def address(self) -> int:
        return self._whole.ctypes.data + self._begin * self._whole.itemsize

    def guards_hold(self) -> bool:
        """Whether nothing was written beside it; asked of the whole array."""
        sides = np.concatenate((self._whole[: self._begin], self._whole[self._end :]))
        return bool((sides.view(np.uint8) == NONSENSE).all())


class HostCupy:
    """`folder`: where to keep what is compiled. `edit`: changes the source first. `seed`: the order
    in which threads run between barriers, 0 for the order of their numbers; may be set between
    calls. `divergent`: blocks so far in which not all threads came to the same barrier; `rocm`:
    what to pretend."""

    __version__ = "host"

    def __init__(
        self, folder: Path, *, edit: Callable[[str], str] = str, rocm: bool = False
    ) -> None:
        self.folder, self.edit, self.seed, self.divergent, self.launches = folder, edit, 0, 0, 0
        self.made: list[Memory] = []
        runtime = SimpleNamespace(
            is_hip=rocm,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda _: {"name": b"This machine"},
        )
        self.cuda = SimpleNamespace(runtime=runtime)

    def empty(self, items: int, dtype: type[np.generic]) -> Memory:
        self.made.append(Memory.of(items, dtype))
        return self.made[-1]

    def RawModule(self, *, code: str, options: Sequence[str]) -> SimpleNamespace:
        library = build(self.edit(code), options, self.folder)
        return SimpleNamespace(
            get_function=lambda name: Kernel(self, getattr(library, f"launch_{name}"))
        )


class Kernel:
    """Called as CuPy's: with a grid, a block, and arguments that are memory or NumPy scalars."""

    def __init__(self, cupy: HostCupy, launch: Any) -> None:  # Any: a function of ctypes
        self._cupy, self._launch = cupy, launch
        launch.restype = ctypes.c_long

    def __call__(
        self, grid: tuple[int], block: tuple[int], arguments: Sequence[Memory | np.generic]
    ) -> None:
        values = [
            np.array([x.address], dtype=np.uint64) if isinstance(x, Memory) else np.array([x])
            for x in arguments
        ]
        pointers = (ctypes.c_void_p * len(values))(*(x.ctypes.data for x in values))
        (blocks,), (threads,), seed = grid, block, self._cupy.seed
        self._cupy.divergent += self._launch(
            ctypes.c_uint(blocks), ctypes.c_uint(threads), ctypes.c_uint(seed), pointers
        )
        self._cupy.launches += 1
        if not all(memory.guards_hold() for memory in self._cupy.made):
            raise OutOfBounds("the kernel wrote outside its memory")


def build(code: str, options: Sequence[str], folder: Path) -> ctypes.CDLL:
    """The source, compiled for the host with the macros among `options`. Raises RuntimeError with
    what g++ said."""
    macros = [x for x in options if x.startswith("-D")]
    name = hashlib.sha256(" ".join((code, *macros)).encode()).hexdigest()[:16]
    library, source = folder / f"{name}.so", folder / f"{name}.cu"
    if not library.exists():
        source.write_text(code)
        command = [
            *(
                "g++",
                "-std=c++17",
                "-O1",
                "-march=native",
                "-ffp-contract=off",
                "-shared",
                "-fPIC",
                "-w",
            ),
            *(*macros, f'-DSOURCE="{source}"', str(HERE / "launch.cpp"), "-o", str(library)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(done.stderr)
    return ctypes.CDLL(str(library))
