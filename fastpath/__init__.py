"""Bytes and descriptors: the compiled kernels under the device and the stack.

Each kernel has one implementation. If a compiled module is missing or was built from other
sources (``built.py``), importing this package fails with the command that builds it. The
plain-Python twins in ``_ref`` are for tests only.
"""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES

from fastpath.built import make_command, other_tree, refusal
from fastpath.errors import StaleBuild

__all__ = [
    "BUILD",
    "MODULES",
    "BuildInfo",
    "check_modules",
    "rebuild_command",
    "refuse_stale",
    "self_test",
]

# Every compiled module; tests/fastpath/test_init.py compares it with the sources.
_ROOMS = {
    "base": """
        batch bpf buildinfo calltrace csum dma eventq freshbytes intmap sampler seccomp skbuff
    """,
    "net": """
        gro gso hdr hdr6 inet inethash inetkey parse retransmit_queue rings_driver sockaddr
        udp_batches zerocopy
    """,
    "nic": """
        busguard c_abi cable datapath irqblock linkops macctrl macpath microwire misuselog
        mmio moderation pktbuf regfile ring rxfilter rxring tap_end tap_gro tap_gso txring
        wire
    """,
}
MODULES = tuple(f"{room}.{name}" for room, names in _ROOMS.items() for name in names.split())

_HERE = os.path.dirname(os.path.abspath(__file__))


def rebuild_command(directory: str = _HERE) -> str:
    """Return the command that compiles the modules of the `fastpath` in `directory`.

    In a source tree that is make; for an installed package, pip must fetch the sources first.
    """
    root = os.path.dirname(directory)
    if os.path.exists(f"{root}/setup.py"):
        return make_command(root)
    return (
        f"{sys.executable} -m pip install --force-reinstall --no-deps DIRECTORY, with e1000emu's "
        "source distribution or a checkout of its repository as the DIRECTORY"
    )


def check_modules(directory: str = _HERE, names: tuple[str, ...] = MODULES) -> None:
    """Raise ImportError, naming the remedy, unless `directory` holds every compiled module."""
    rooms = [entry.name for entry in os.scandir(directory) if entry.is_dir()]
    present = {f"{room}.{file}" for room in rooms for file in os.listdir(f"{directory}/{room}")}
    missing = [n for n in names if not any(n + s in present for s in EXTENSION_SUFFIXES)]
    if missing:
        python = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
        raise ImportError(
            f"fastpath: no compiled {', '.join(missing)} for {python}; "
            f"run: {rebuild_command(directory)}",
            name="fastpath",
        )


def refuse_stale(package: str, remedy: str = "") -> None:
    """Raise StaleBuild, naming source and remedy, if modules of `package` had others."""
    why = refusal(os.path.dirname(_HERE), package, remedy)
    if why:
        raise StaleBuild(why, name=package)


check_modules()

refuse_stale("fastpath")
if _other := other_tree():
    warnings.warn(_other, RuntimeWarning, stacklevel=2)

from fastpath.base import buildinfo, csum  # noqa: E402


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """Which build is loaded: `mode` is release, debug or asan."""

    mode: str
    compiler: str
    python: str
    simd: str
    simd_levels: tuple[str, ...]


BUILD = BuildInfo(
    mode=buildinfo.mode(),
    compiler=buildinfo.compiler(),
    python=sys.version.split()[0],
    simd=csum.level(),
    simd_levels=csum.levels(),
)


def self_test() -> list[str]:
    """Check the loaded modules on small inputs; return one line for each error.

    Compares checksums at every vector level with the twin's, and imports every compiled module.
    Takes a few milliseconds; changes the checksum level while it runs and restores it.
    """
    import importlib

    from fastpath._ref import csum as reference

    wrong = []
    for name in MODULES:
        try:
            importlib.import_module(f"fastpath.{name}")
        except ImportError as error:
            wrong.append(f"fastpath.{name} does not load: {error}")
    data = bytes((i * 73 + 11) & 0xFF for i in range(1531))
    chosen = csum.level()
    for level in csum.levels():
        csum.set_level(level)
        for n in (0, 1, 20, 63, 64, 65, 129, 1500, 1531):
            if csum.csum_partial(data[:n]) != reference.csum_partial(data[:n]):
                wrong.append(f"fastpath.base.csum: wrong sum of {n} bytes with {level}")
    csum.set_level(chosen)
    return wrong
