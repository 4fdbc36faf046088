"""What numba cannot express: a fused multiply-add, and a test of 64 nodes at once, written as LLVM
vectors of 16.

LLVM turns them into whatever the machine has (AVX-512, AVX2, NEON, or single numbers), with the
same result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.scoring.nearest_nodes import BLOCK
from kernels.tables import Singles

Single: TypeAlias = np.float32

WIDTH = 16
FLOAT = ir.FloatType()
FLOATS = ir.VectorType(FLOAT, WIDTH)


def _fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.fma(*values)

    return types.float32(types.float32, types.float32, types.float32), generate


def _lowest_bit(_context: Any, mask: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


def _within_reach(
    _context: Any,
    xyz: Any,
    bias: Any,
    row: Any,
    start: Any,
    x: Any,
    y: Any,
    z: Any,
    c: Any,
    top: Any,
) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        arrays = [
            context.make_array(signature.args[i])(context, builder, values[i]) for i in (0, 1)
        ]
        row, start = values[2], values[3]
        width = builder.extract_value(arrays[0].shape, 1)
        offsets = [
            builder.add(start, builder.mul(width, ir.Constant(width.type, i))) for i in range(3)
        ]
        columns = [builder.gep(arrays[0].data, [offset]) for offset in offsets]
        columns.append(builder.gep(arrays[1].data, [builder.add(start, builder.mul(width, row))]))
        scale_x, scale_y, scale_z, constant, highest = (
            _spread_value(builder, value) for value in values[4:]
        )
        out = ir.Constant(ir.IntType(BLOCK), 0)
        fused = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(FLOATS, [FLOATS] * 3), "llvm.fma.v16f32"
        )
        zero = ir.Constant(FLOATS, [0.0] * WIDTH)
        for i in range(0, BLOCK, WIDTH):
            node_x, node_y, node_z, node_bias = (
                _load_vector(builder, column, i) for column in columns
            )
            squared = builder.call(fused, (scale_z, node_z, constant))
            squared = builder.call(fused, (scale_y, node_y, squared))
            squared = builder.call(fused, (scale_x, node_x, squared))
            left = builder.fsub(highest, node_bias)
            near = builder.fcmp_ordered(">=", builder.fmul(left, left), squared)
            near = builder.and_(near, builder.fcmp_ordered(">=", left, zero))
            bits = builder.zext(builder.bitcast(near, ir.IntType(WIDTH)), out.type)
            out = builder.or_(out, builder.shl(bits, ir.Constant(out.type, i)))
        return out

    single = types.float32
    return types.uint64(
        xyz, bias, types.intp, types.intp, single, single, single, single, single
    ), generate


def _spread_value(builder: Any, value: Any) -> Any:
    """The same number in all places of a vector."""
    one = builder.insert_element(
        ir.Constant(FLOATS, ir.Undefined), value, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(
        one, one, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    )


def _load_vector(builder: Any, column: Any, offset: int) -> Any:
    at = builder.gep(column, [ir.Constant(ir.IntType(64), offset)])
    return builder.load(builder.bitcast(at, FLOATS.as_pointer()), align=4, typ=FLOATS)


fma: Callable[[Single, Single, Single], Single] = intrinsic(_fma)
"""a * b + c, rounded once; three float32."""

lowest_bit: Callable[[np.uint64], int] = intrinsic(_lowest_bit)
"""Number of the lowest bit that is set in a uint64 other than 0."""

within_reach: Callable[
    [Singles, Singles, int, int, Single, Single, Single, Single, Single], np.uint64
]
within_reach = intrinsic(_within_reach)
"""`within_reach(xyz, bias, row, start, x, y, z, c, top)`: which of the 64 nodes from place `start`
may cost less than `top`, as the bits of a uint64: those with d >= 0 and d * d >= x * node_x + y *
node_y + z * node_z + c where d = top - bias[row, node].

`xyz` float32[3, P], `bias` float32[F, P], both contiguous."""
