"""numba if it is installed. Without it the same functions run as plain Python: slow, but right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba
except ImportError:
    numba = None

HAVE_NUMBA = numba is not None


def njit(signature: str = "", /, *structs: tuple[Any, ...], **options: Any) -> Callable[[F], F]:
    """Compiles a function to machine code that runs without the GIL and is cached on disk.

    With a signature it is compiled when its module is imported, otherwise at its first call. The
    signature may name the classes of `structs`, each a NamedTuple of arrays of any length that has
    the right dtypes. `options`: numba's own."""
    if numba is None:
        return lambda function: function
    usual: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
    names = vars(numba.types) | {type(struct).__name__: numba.typeof(struct) for struct in structs}
    # (numba evaluates a signature in the same way, but knows only its own names)
    typed = [eval(signature, names)] if signature else []
    return cast("Callable[[F], F]", numba.njit(*typed, **(usual | options)))
