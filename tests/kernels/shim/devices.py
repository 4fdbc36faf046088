"""Compiles kernels/scoring/score.cu as CUDA and ROCm do, and reads from what comes out whether
registers were spilled.

NVIDIA: NVRTC, the compiler that CuPy calls, from its wheel. AMD: clang, from the ziglang wheel,
with amd.h in place of the ROCm headers. Neither needs a driver or a device; nothing is run."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parents[2] / "kernels" / "scoring" / "score.cu"


@dataclass(frozen=True, slots=True)
class Compiled:
    """`registers` of a thread, `spilled_bytes` of them that went to memory, `stack_bytes` of a
    thread's private memory, `shared_bytes` of a block; `text`: PTX or AMD's assembly."""

    registers: int
    spilled_bytes: int
    stack_bytes: int
    shared_bytes: int
    text: str


class CompileError(RuntimeError):
    """The compiler refused the source; the message is what it said."""


def for_nvidia(arch: str, options: Sequence[str], source: str | None = None) -> Compiled:
    """For a real architecture, `sm_90`, by NVRTC. Raises CompileError."""
    nvrtc = _nvrtc()
    program = ctypes.c_void_p()
    text = (SOURCE.read_text() if source is None else source).encode()
    _done(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, b"score.cu", 0, None, None))
    flags = [x.encode() for x in (f"-arch={arch}", "--ptxas-options=-v", *options)]
    code = nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
    said = _text(nvrtc, program, "ProgramLog")
    if code:
        raise CompileError(said)
    ptx = _text(nvrtc, program, "PTX")
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    spills = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said
    )
    used = re.search(r"Used (\d+) registers.*?(\d+) bytes smem", said)
    if not spills or not used:
        raise CompileError(f"ptxas did not say what it used: {said}")
    return Compiled(
        registers=int(used[1]),
        spilled_bytes=sum(int(stores) + int(loads) for _, stores, loads in spills),
        stack_bytes=sum(int(stack) for stack, _, _ in spills),
        shared_bytes=int(used[2]),
        text=ptx,
    )


def for_amd(arch: str, options: Sequence[str], source: Path = SOURCE) -> Compiled:
    """For `gfx942`, by clang. Raises CompileError."""
    command = [
        *(
            sys.executable,
            "-m",
            "ziglang",
            "clang",
            "-x",
            "hip",
            "--offload-device-only",
            f"--offload-arch={arch}",
        ),
        *(
            "-nogpulib",
            "-nogpuinc",
            "-O3",
            "-S",
            f'-DSOURCE="{source}"',
            *options,
            str(HERE / "amd.h"),
            "-o",
            "-",
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise CompileError(done.stderr)
    assembly = done.stdout

    def said(key: str) -> int:
        found = re.search(rf"^\s*\.{key}:\s*(\d+)$", assembly, re.M)
        if found is None:
            raise CompileError(f"clang's assembly says no {key}")
        return int(found[1])

    return Compiled(
        registers=said("vgpr_count"),
        spilled_bytes=4 * (said("sgpr_spill_count") + said("vgpr_spill_count")),
        stack_bytes=said("private_segment_fixed_size"),
        shared_bytes=said("group_segment_fixed_size"),
        text=assembly,
    )


def _nvrtc() -> ctypes.CDLL:
    spec = importlib.util.find_spec("nvidia")
    for root in () if spec is None else spec.submodule_search_locations or ():
        for library in sorted(Path(root).glob("cuda_nvrtc/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(library))
    raise CompileError("NVRTC is not there: its wheel is in the extra `test`")


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    _done(getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _done(getattr(nvrtc, f"nvrtcGet{what}")(program, text))
    return text.value.decode()


def _done(code: int) -> None:
    if code:
        raise CompileError(f"NVRTC answers {code}")
