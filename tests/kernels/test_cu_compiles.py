"""score.cu as CUDA's and ROCm's compilers take it: compiled for real devices, with nothing spilled.
Nothing is run here."""

from __future__ import annotations

import re

import pytest

from kernels.scoring import gpu
from tests.kernels.shim.devices import Compiled, CompileError, for_amd, for_nvidia

NVIDIA, AMD = ("sm_80", "sm_90"), ("gfx90a", "gfx942", "gfx1100")
CUPY_ADDS = {False: ("-ftz=true",), True: ("-fcuda-flush-denormals-to-zero",)}


def compiled(arch: str, k: int = 8, *more: str) -> Compiled:
    rocm = arch.startswith("gfx")
    options = (*gpu.compile_options(k, rocm=rocm), *CUPY_ADDS[rocm], *more)
    return for_amd(arch, options) if rocm else for_nvidia(arch, options)


@pytest.mark.parametrize("arch", [*NVIDIA, *AMD])
def test_nothing_is_spilled_at_k_8(arch: str) -> None:
    made = compiled(arch)
    assert (made.spilled_bytes, made.stack_bytes) == (0, 0)
    assert made.registers <= 96, (
        "five blocks of 128 threads on a multiprocessor, or five waves on a SIMD"
    )
    assert made.shared_bytes <= 8192


@pytest.mark.parametrize("arch", ["sm_90", "gfx942"])
@pytest.mark.parametrize("k", [k for k in gpu.WIDTHS if k != 8])
def test_every_width_compiles_without_private_memory(arch: str, k: int) -> None:
    assert compiled(arch, k).stack_bytes == 0


def test_sums_are_not_contracted_and_roots_are_exact_on_nvidia() -> None:
    def fused(text: str) -> int:
        return len(re.findall(r"\bfma\.rn", text))

    exact, contracted = compiled("sm_90").text, compiled("sm_90", 8, "--fmad=true").text
    assert fused(exact) < fused(contracted)
    assert not re.search(r"\b(add|sub|mul)\.(ftz\.)?f32", exact), (
        "one without .rn may be contracted by ptxas"
    )
    assert "sqrt.rn" in exact
    assert not re.search(r"\.approx", exact)


def test_sums_are_not_contracted_on_amd() -> None:
    def fused(text: str) -> int:
        return len(re.findall(r"^\s*v_(pk_)?(fma|fmac|mad|mac)", text, re.M))

    assert fused(compiled("gfx942").text) < fused(compiled("gfx942", 8, "-ffp-contract=fast").text)


def test_a_spill_would_be_seen() -> None:
    """By the same reading: 32 nodes in the registers of a thread that may have 48."""
    crowded = [x for x in gpu.compile_options(32, rocm=False) if "RESIDENT" not in x]
    assert for_nvidia("sm_90", (*crowded, "-DBLOCKS_RESIDENT=10")).spilled_bytes > 0
    crowded = [x for x in gpu.compile_options(32, rocm=True) if "RESIDENT" not in x]
    assert for_amd("gfx942", (*crowded, "-DBLOCKS_RESIDENT=8")).spilled_bytes > 0


def test_what_is_no_source_is_refused_in_the_compilers_words() -> None:
    with pytest.raises(CompileError, match="nowhere"):
        for_nvidia("sm_90", (), "__global__ void f() { nowhere(); }")
    with pytest.raises(CompileError, match="nowhere"):
        for_amd("gfx942", ("-DBLOCKS_RESIDENT=nowhere",))
