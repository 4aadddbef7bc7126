"""Import the stack's modules from their sources, even where compiled modules are beside them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType


class SourcesOnly(MetaPathFinder):
    """A finder for the `.py` files of `stack` only."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how to load a module below `stack`; None for any other."""
        if not fullname.startswith("stack."):
            return None
        last = fullname.rpartition(".")[2]
        for folder in path or ():
            source = Path(folder) / f"{last}.py"
            if source.is_file():
                return spec_from_file_location(fullname, source)
            package = Path(folder) / last / "__init__.py"
            if package.is_file():
                return spec_from_file_location(
                    fullname, package, submodule_search_locations=[str(package.parent)]
                )
        raise ModuleNotFoundError(f"no source of {fullname}", name=fullname)
