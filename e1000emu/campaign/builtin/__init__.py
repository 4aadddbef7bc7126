"""Campaigns that e1000emu itself uses: `e1000emu campaign run NAME`."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from e1000emu.errors import E1000Error
from fastpath.built import ROOT, is_tree


def of_the_tree(campaign: str, module: str) -> ModuleType:
    """Import a module of the source tree that no wheel has.  Raises: E1000Error."""
    if not is_tree(ROOT):
        raise E1000Error(
            f"campaign {campaign}: needs the source tree, which this installation is not; "
            "run it from a clone with: make build"
        )
    if ROOT not in sys.path:
        sys.path.insert(0, ROOT)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise E1000Error(
            f"campaign {campaign}: {error}; run: pip install 'e1000emu[test]'"
        ) from None
