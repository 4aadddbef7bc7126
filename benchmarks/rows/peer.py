"""The peers written in C: compiled on the machine that measures, called in this process.

They run under the clock that times our own code; one call is the only overhead.
"""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from e1000emu.compiler import c_compiler
from e1000emu.errors import E1000Error

from . import Unavailable

SOURCES = Path(__file__).resolve().parent.parent / "peers"
DECLARATIONS = {
    "csum_peer": "int csum_peer(const char *name, const uint8_t *p, size_t n, long times);",
    "ring_model": """
        struct ring_model *ring_model_new(uint32_t size, uint32_t batch);
        void ring_model_free(struct ring_model *model);
        int64_t ring_model_run(struct ring_model *model, uint64_t packets);
    """,
    "ring_copy": """
        struct ring_copy *ring_copy_new(uint32_t size, uint32_t batch);
        void ring_copy_free(struct ring_copy *copy);
        int64_t ring_copy_run(struct ring_copy *copy, uint64_t packets);
    """,
    "sockets_peer": """
        int64_t udp_each(int tx, int rx, uint32_t size, int64_t count);
        int64_t udp_mmsg(int tx, int rx, uint32_t size, uint32_t batch, int64_t count);
        int64_t udp_gso(int tx, int rx, uint32_t size, uint32_t segments, int64_t count);
        int64_t tcp_bulk(int tx, int rx, uint32_t write, int64_t volume);
        int64_t tcp_trips(int a, int b, uint32_t size, int64_t count);
        int64_t tcp_connects(int listener, int64_t count);
    """,
    "lwip_peer": """
        int lwip_peer_start(void);
        int64_t lwip_peer_udp(uint32_t size, uint32_t batch, int64_t count);
        int64_t lwip_peer_bulk(uint32_t write, int64_t volume);
        int64_t lwip_peer_trips(uint32_t size, int64_t count);
    """,
    "dpdk_peer": """
        int dpdk_peer_start(void);
        int64_t dpdk_peer_run(uint32_t size, uint32_t batch, int64_t packets);
    """,
}


@dataclass(frozen=True, slots=True)
class Package:
    """A library that a peer is built against: its origin and the compiler's options."""

    debian: str
    header: str
    compile: tuple[str, ...]
    link: tuple[str, ...]

    def present(self, command: list[str]) -> bool:
        """Tell whether the compiler finds the header."""
        text = f"#include <{self.header}>\n"
        words = [*command, *self.compile, "-E", "-x", "c", "-"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        return done.returncode == 0


PACKAGES = {
    "lwip_peer": Package("liblwip-dev", "lwip/tcp.h", ("-I/usr/include/lwip",), ("-llwip",)),
    "dpdk_peer": Package(
        "libdpdk-dev",
        "rte_eal.h",
        (
            "-I/usr/include/dpdk",
            f"-I/usr/include/{platform.machine()}-linux-gnu/dpdk",
            *("-include", "rte_config.h", "-march=native"),
        ),
        tuple(f"-lrte_{part}" for part in ("eal", "mempool", "mbuf", "ring", "ethdev", "net_ring")),
    ),
}


@functools.cache
def load(name: str) -> tuple[cffi.FFI, Any]:
    """Compile `peers/NAME.c` with -O3 and return it with its FFI. Raises Unavailable."""
    try:
        command = c_compiler()
    except E1000Error as error:
        raise Unavailable(str(error)) from None
    package = PACKAGES.get(name)
    if package is not None and not package.present(command):
        raise Unavailable(f"{package.debian} is not installed; apt-get install {package.debian}")
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS[name])
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / f"{name}.so"
        words = [*command, "-O3", "-shared", "-fPIC", "-o", str(made), str(SOURCES / f"{name}.c")]
        if package is not None:
            words += [*package.compile, *package.link]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise Unavailable(f"{shlex.join(command)} does not compile {name}.c: {reason}")
        # A library whose threads run (lwIP, DPDK) must never be unmapped.
        return ffi, ffi.dlopen(str(made), os.RTLD_NOW | os.RTLD_NODELETE)
