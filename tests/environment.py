"""A virtual environment with only the packages that a page of the documentation names.

Its packages are links to those of the environment that runs the tests: nothing is fetched, and the
modules are those of the same build.
"""

from __future__ import annotations

import sys
import sysconfig
import venv
from collections.abc import Collection
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement

PACKAGES = Path(sysconfig.get_path("purelib"))


def installed(name: str) -> Distribution:
    """Return the distribution installed under a name, but not a tree's egg-info found by a
    path."""
    found = next(iter(distributions(name=name, path=[str(PACKAGES)])), None)
    assert found is not None, f"{name} is not installed; `make .venv/.packages-test` does that"
    return found


def needed(wanted: Collection[str]) -> dict[str, Distribution]:
    """Return the packages to install for these requirements, by name.  An unknown extra fails."""
    found: dict[str, Distribution] = {}
    seen = set()
    waiting = [Requirement(text) for text in wanted]
    while waiting:
        one = waiting.pop()
        name, extras = one.name.lower(), frozenset(one.extras)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = found[name] = installed(one.name)
        known = set(distribution.metadata.get_all("Provides-Extra") or ())
        assert extras <= known, f"{one}: {name} has the extras {sorted(known)}"
        for other in map(Requirement, distribution.requires or ()):
            if other.marker is None or any(
                other.marker.evaluate({"extra": extra}) for extra in extras | {""}
            ):
                waiting.append(other)
    return found


def make(directory: Path, wanted: Collection[str] = ()) -> Path:
    """Create an environment with e1000emu and `wanted` packages (e1000emu[plot], scapy) in a new
    directory; return the one of its programs."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(directory)
    programs = directory / "bin"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = directory / "lib" / version / "site-packages"
    for distribution in needed({"e1000emu", *wanted}).values():
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(PACKAGES / top)
        for entry in distribution.entry_points.select(group="console_scripts"):
            script = programs / entry.name
            script.write_text(
                f"#!{programs / 'python'}\nimport sys\n"
                f"from {entry.module} import {entry.attr}\nsys.exit({entry.attr}())\n"
            )
            script.chmod(0o755)
    return programs
