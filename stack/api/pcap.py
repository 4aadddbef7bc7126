"""Filters in the language of tcpdump ("tcp port 80 and host 10.0.0.1"), compiled by libpcap.

libpcap is loaded at run time, if it is installed. It compiles expressions to classic BPF programs
(fastpath.base.bpf), for SO_ATTACH_FILTER or for `bpf_filter` on frames.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import cffi

from fastpath.errors import E1000Error

__all__ = ["DLT_EN10MB", "DLT_RAW", "PcapError", "compile_filter", "libpcap"]

DLT_EN10MB = 1
DLT_RAW = 12
SNAPLEN = 262144
NAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so", "libpcap.dylib")

CDEF = """
typedef struct pcap pcap_t;
struct bpf_insn { unsigned short code; unsigned char jt, jf; unsigned int k; };
struct bpf_program { unsigned int bf_len; struct bpf_insn *bf_insns; };
pcap_t *pcap_open_dead(int linktype, int snaplen);
void pcap_close(pcap_t *p);
int pcap_compile(pcap_t *p, struct bpf_program *fp, const char *str, int optimize,
                 unsigned int netmask);
char *pcap_geterr(pcap_t *p);
void pcap_freecode(struct bpf_program *fp);
const char *pcap_lib_version(void);
unsigned int bpf_filter(const struct bpf_insn *pc, const unsigned char *p, unsigned int wirelen,
                        unsigned int buflen);
"""

_lock = threading.Lock()  # its compiler is not thread-safe before 1.8


class PcapError(E1000Error, ValueError):
    """libpcap is missing, or it rejected the expression."""


@functools.cache
def libpcap() -> tuple[Any, Any]:
    """(cffi's FFI, the library). Raises: PcapError: it is not installed."""
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    for name in NAMES:
        try:
            return ffi, ffi.dlopen(name)
        except OSError:
            continue
    raise PcapError(
        f"filters: no libpcap here (looked for {', '.join(NAMES)}); apt-get install libpcap0.8"
    )


def compile_filter(
    expression: str, *, linktype: int = DLT_EN10MB, snap_bytes: int = SNAPLEN, optimize: bool = True
) -> bytes:
    """The program of an expression, as struct sock_filter; "" accepts every frame.

    It returns `snap_bytes` for frames that match, 0 for others. Raises: PcapError, with libpcap's
    message.
    """
    ffi, lib = libpcap()
    try:
        text = expression.encode()
    except UnicodeEncodeError:
        raise PcapError(f"filter {expression!r}: no text") from None
    if b"\0" in text:
        raise PcapError(f"filter {expression!r}: a NUL in it")
    with _lock:
        handle = lib.pcap_open_dead(linktype, snap_bytes)
        if handle == ffi.NULL:
            raise PcapError("filters: libpcap has no memory")
        program = ffi.new("struct bpf_program *")
        try:
            if lib.pcap_compile(handle, program, text, int(optimize), 0xFFFFFFFF):
                said = ffi.string(lib.pcap_geterr(handle)).decode(errors="replace")
                raise PcapError(f"filter {expression!r}: {said}")
            size = program.bf_len * ffi.sizeof("struct bpf_insn")
            code = bytes(ffi.buffer(program.bf_insns, size))
            lib.pcap_freecode(program)
        finally:
            lib.pcap_close(handle)
    return code
