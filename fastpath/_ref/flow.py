"""Plain-Python twin of ``fastpath.flow``."""

from __future__ import annotations

M32 = 0xFFFFFFFF
HOPOPTS, TCP, UDP, ROUTING, FRAGMENT, DSTOPTS, SCTP = 0, 6, 17, 43, 44, 60, 132


def _rol(v: int, n: int) -> int:
    return (v << n | v >> (32 - n)) & M32


def jhash_3words(a: int, b: int, c: int, initval: int) -> int:
    """Bob Jenkins' lookup3, final mix of three words."""
    init = (initval + 0xDEADBEEF + 12) & M32
    a, b, c = (a + init) & M32, (b + init) & M32, (c + init) & M32
    for n, order in (
        (14, "cb"),
        (11, "ac"),
        (25, "ba"),
        (16, "cb"),
        (4, "ac"),
        (14, "ba"),
        (24, "cb"),
    ):
        v = {"a": a, "b": b, "c": c}
        x, y = order[0], order[1]
        v[x] = ((v[x] ^ v[y]) - _rol(v[y], n)) & M32
        a, b, c = v["a"], v["b"], v["c"]
    return c


def inet_ehashfn(laddr: int, lport: int, faddr: int, fport: int, secret: int) -> int:
    """Hash of a connection."""
    return jhash_3words(laddr, faddr, (lport & 0xFFFF) << 16 | fport & 0xFFFF, secret)


FlowKey = tuple[int, int, int, int, int, int, int, int, int]


def _ext_headers(p: bytes, total: int) -> tuple[int, int, bool] | None:
    """(protocol, length of all headers, is a fragment) of an IPv6 packet."""
    proto, hlen = p[6], 40
    for _ in range(8):
        if proto == FRAGMENT:
            return (p[hlen], hlen + 8, True) if total - hlen >= 8 else None
        if proto not in (HOPOPTS, ROUTING, DSTOPTS):
            break
        if total - hlen < 8 or total - hlen < (p[hlen + 1] + 1) * 8:
            return None
        proto, hlen = p[hlen], hlen + (p[hlen + 1] + 1) * 8
    return proto, hlen, False


def flow_key(frame: bytes) -> FlowKey | None:
    """As the compiled function."""
    if len(frame) < 14:
        return None
    etype, off = int.from_bytes(frame[12:14], "big"), 14
    while etype in (0x8100, 0x88A8) and off < 22 and len(frame) >= off + 4:
        etype, off = int.from_bytes(frame[off + 2 : off + 4], "big"), off + 4
    p = frame[off:]
    if etype == 0x0800 and len(p) >= 20 and p[0] >> 4 == 4:
        hlen, total = (p[0] & 15) * 4, int.from_bytes(p[2:4], "big")
        if hlen < 20 or total < hlen or total > len(p):
            return None
        proto, fragment = p[9], int.from_bytes(p[6:8], "big") & 0x3FFF != 0
        saddr, daddr = int.from_bytes(p[12:16], "big"), int.from_bytes(p[16:20], "big")
    elif etype == 0x86DD and len(p) >= 40 and p[0] >> 4 == 6:
        total = 40 + int.from_bytes(p[4:6], "big")
        found = _ext_headers(p, total) if total <= len(p) else None
        if found is None:
            return None
        proto, hlen, fragment = found
        saddr, daddr = int.from_bytes(p[8:24], "big"), int.from_bytes(p[24:40], "big")
    else:
        return None
    n, t = total - hlen, p[hlen:total]
    size = 0
    if not fragment:
        if proto == TCP:
            size = (t[12] >> 4) * 4 if n >= 20 else 99
            if not 20 <= size <= n:
                return None
        elif proto == UDP:
            length = int.from_bytes(t[4:6], "big") if n >= 8 else 0
            if not 8 <= length <= n:
                return None
            size, n = 8, length
        elif proto == SCTP:
            size = 12
            if n < 12:
                return None
    sport = int.from_bytes(t[:2], "big") if size else 0
    dport = int.from_bytes(t[2:4], "big") if size else 0
    return etype, proto, saddr, daddr, sport, dport, off + hlen, off + hlen + size, n - size


def _fold6(addr: int) -> int:
    w = [addr >> s & M32 for s in (96, 64, 32, 0)]
    return jhash_3words(*w)


def flow_hash(frame: bytes, secret: int = 0) -> int:
    """What skb_get_hash gives for the packet of this frame; 0 when it is not IP or malformed."""
    key = flow_key(frame)
    if key is None:
        return 0
    etype, proto, saddr, daddr, sport, dport = key[:6]
    if etype == 0x86DD:
        saddr, daddr = _fold6(saddr), _fold6(daddr)
    return jhash_3words(saddr, daddr, (sport << 16 | dport) ^ proto << 8, secret) or 1
