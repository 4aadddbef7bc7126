"""How translated modules are compiled: Cython's directives, the C compiler's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

# What Cython puts into each module, once for all of them: half of a small module, and of one that
# takes memoryviews.
SHARED = "fastpath._shared"


def options(build: Path, debug: bool = False) -> dict[str, Any]:
    """Cython's options for modules whose .pyx and .pxd are below `build`."""
    return {
        "compiler_directives": directives(debug),
        "include_path": [str(build), "."],
        "shared_utility_qualified_name": SHARED,
    }


def directives(debug: bool = False) -> dict[str, object]:
    """Cython's directives.

    The stack's sources are Python, and mean the same when compiled: indices from the end, floor
    division, an error instead of a crash where something is None. Annotations were read by stackc.
    """
    return {
        "language_level": 3,
        "embedsignature": True,
        "annotation_typing": False,
        "binding": True,
        "infer_types": True,
        "boundscheck": True,
        "wraparound": True,
        "initializedcheck": debug,
        "nonecheck": True,
        "cdivision": False,
        # A sum that exceeds 64 bits is an OverflowError, never another number.
        "overflowcheck": True,
    }


# By a module's mark in compiled.txt. A packet passes through much code once. -O2 lays it out better
# than -O1 (a twentieth of a datagram's time if all modules had it), and both inline, which saves a
# third compared with -Og. But -O1 takes two thirds of -O2's compile time, and -Og half.
OPTIMIZE = {"hot": "-O2", "": "-O1", "cold": "-Og", "state": "-O2"}

# Attributes of the wrappers that parse a Python caller's arguments (wrappers.py): compiled callers
# do not use them, and without this the compiler takes a sixth more for a hot module. Not in CALLED,
# where each packet passes such wrappers: handlers that a field holds, a socket's own methods.
WRAPPER = {
    "hot": '__attribute__((cold,optimize("Og")))',
    "": '__attribute__((cold,optimize("Og")))',
    "cold": "__attribute__((cold))",
}
CALLED = {
    "stack.api.socket",
    "stack.core.bsd_socket",
    "stack.core.iov",
    "stack.core.irq",
    "stack.core.napi",
    "stack.core.sock",
    "stack.core.softirq",
    "stack.core.wait",
    "stack.ethernet.eth",
    "stack.inet.tcp_recvmsg",
    "stack.inet.tcp_sendmsg",
    "stack.inet.tcp_timer",
    "stack.ipv4.tcp_ipv4",
    "stack.ipv6.tcp_ipv6",
}

# The C compiler's options, beside those of all modules. The last two undefine macros of some
# compilers that are names of fields here.
COMPILE_FLAGS = [
    "-fwrapv",
    "-Wno-unused-variable",
    "-Wno-unused-but-set-variable",
    "-Ulinux",
    "-Uunix",
]
