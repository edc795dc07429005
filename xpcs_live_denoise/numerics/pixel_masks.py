"""Single instructions of the processor that numba does not know, inside compiled loops over frames.

It turns a loop that compares sixteen pixels with zero into some fifty instructions, and frames of
few photons are little else; and ROI pixels lie in short pieces all over a frame, whose way from the
memory takes longer than the work on them.
"""

from __future__ import annotations

from typing import Any, cast

from llvmlite import ir  # pyright: ignore[reportMissingTypeStubs]
from numba import types
from numba.extending import intrinsic

PIECE = 16  # pixels that are looked at together
AHEAD = 32  # pieces of a frame that are on their way while one is worked on

_ir: Any = ir
_types: Any = types
_intrinsic: Any = cast("Any", intrinsic)


@_intrinsic
def which_hold(typingctx: Any, row: Any, start: Any) -> Any:  # noqa: ARG001 (numba's signature)
    """Return a number whose bit i tells whether row[start + i] is not zero, i < 16; NaN is not.

    `row` is one-dimensional and in one piece, `start` an integer; nothing checks that 16 are there.
    """

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, given[0])
        is_float = isinstance(row.dtype, _types.Float)
        pixels = _ir.VectorType(context.get_value_type(row.dtype), PIECE)
        place = builder.gep(array.data, [given[1]])
        some = builder.load(builder.bitcast(place, pixels.as_pointer()))
        some.align = 1
        zeros = _ir.Constant(pixels, [0.0 if is_float else 0] * PIECE)
        compare = builder.fcmp_unordered if is_float else builder.icmp_unsigned
        bits = builder.bitcast(compare("!=", some, zeros), _ir.IntType(PIECE))
        return builder.zext(bits, _ir.IntType(32))

    return _types.uint32(row, _types.intp), code


@_intrinsic
def lowest_bit(typingctx: Any, bits: Any) -> Any:  # noqa: ARG001 (numba's signature)
    """Return the lowest bit that is set in an unsigned number of 32 bits, which is not 0."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:  # noqa: ARG001
        lowest = builder.cttz(given[0], _ir.Constant(_ir.IntType(1), 1))
        return builder.zext(lowest, _ir.IntType(64))

    return _types.intp(_types.uint32), code


@_intrinsic
def fetch(typingctx: Any, row: Any, place: Any) -> Any:  # noqa: ARG001 (numba's signature)
    """Begin to bring row[place], of an array in one piece, from the memory; it need not exist."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, given[0])
        bytes_, number = _ir.IntType(8).as_pointer(), _ir.IntType(32)
        kind = _ir.FunctionType(_ir.VoidType(), [bytes_, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [bytes_], kind)
        pointer = builder.bitcast(builder.gep(array.data, [given[1]]), bytes_)
        read, keep, data = (_ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [pointer, read, keep, data])
        return context.get_dummy_value()

    return _types.void(row, _types.intp), code
