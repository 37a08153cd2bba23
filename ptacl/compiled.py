"""Inner loops as machine code."""

from collections.abc import Callable

import numba


def compiled(function: Callable) -> Callable:
    """Compiles `function` on its first call, and keeps the result on disk for other processes where it can."""
    try:
        return numba.njit(cache=True, error_model="numpy")(function)
    except RuntimeError:  # neither the package's folder nor the user's is writable
        return numba.njit(error_model="numpy")(function)
