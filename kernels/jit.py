"""How kernels are compiled and where the machine code is kept.

`kernel` and, for sums, `summing_kernel` are the only decorators in this folder: serial
(parallel=True is not part of Numba's cache key and would load a threading layer into every worker),
GIL released, multiply-add contraction allowed, machine code cached in a folder whose name is a hash
of all kernel sources and of the Numba version (Numba itself looks only at the decorated function's
own file). See docs/decisions/0003-numba-cache.md.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config

Function = TypeVar("Function", bound=Callable[..., Any])


def source_key() -> str:
    """16 hex digits over every kernel source, the Python and the Numba version."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {numba.__version__}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path | None:
    """Where compiled kernels go, or None when no folder can be written.

    NUMBA_CACHE_DIR wins; then the user's cache folder (XDG_CACHE_HOME or ~/.cache), then the
    temporary folder. Never site-packages: files left there survive an uninstall as a ghost
    package.
    """
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"])
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    owner = os.getuid() if hasattr(os, "getuid") else "user"
    for base in (user_cache / "rawisp", Path(tempfile.gettempdir()) / f"rawisp-cache-{owner}"):
        folder = base / f"kernels-{source_key()}"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and (
            not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
        ):
            return folder
    return None


CACHE_FOLDER = cache_folder()
if CACHE_FOLDER is not None:
    config.CACHE_DIR = str(CACHE_FOLDER)  # type: ignore[attr-defined]


def kernel(function: Function) -> Function:
    """Compiles `function` on first call, or loads what an earlier run compiled."""
    return _compiled(function, {"contract"})


def summing_kernel(function: Function) -> Function:
    """As `kernel`, for sums whose order does not matter: they are taken in several parts at once.

    The order depends on the processor's vectors and on nothing else.
    """
    return _compiled(function, {"contract", "reassoc", "nsz"})


def _compiled(function: Function, fastmath: set[str]) -> Function:
    decorate: Any = numba.njit(
        nogil=True,
        cache=CACHE_FOLDER is not None,
        fastmath=fastmath,
        error_model="numpy",
    )
    compiled: Function = decorate(function)
    return compiled
