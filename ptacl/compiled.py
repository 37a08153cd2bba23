"""Inner loops as machine code."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(signature: Any) -> Callable[[Callable], Callable]:
    """Compiles a function for one numba signature when its module is imported; kept on disk for other processes.

    Eagerly, so that the compiler's time and memory come once, at the start, and not with the first record.
    """

    def compile_now(function: Callable) -> Callable:
        try:
            return numba.njit(signature, cache=True, error_model="numpy")(function)
        except RuntimeError:  # neither the package's folder nor the user's is writable
            return numba.njit(signature, error_model="numpy")(function)

    return compile_now
