"""include/net/ndisc.h: the options of Neighbor Discovery messages as values.

RFC 4861 4.6 (link-layer addresses, prefix, redirected header, MTU), RFC 4191 2.3 (route
information), RFC 8106 5 (RDNSS, DNSSL), RFC 3971 5.3.2 (nonce, used for DAD by RFC 7527).
Addresses are host-order 128-bit ints, times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stack.core.rows import wide

ND_OPT_SOURCE_LL_ADDR = 1
ND_OPT_TARGET_LL_ADDR = 2
ND_OPT_PREFIX_INFO = 3
ND_OPT_REDIRECT_HDR = 4
ND_OPT_MTU = 5
ND_OPT_NONCE = 14
ND_OPT_ROUTE_INFO = 24
ND_OPT_RDNSS = 25
ND_OPT_DNSSL = 31


# Router preference (RFC 4191 2.1), two bits
ICMPV6_ROUTER_PREF_MEDIUM = 0
ICMPV6_ROUTER_PREF_HIGH = 1
ICMPV6_ROUTER_PREF_INVALID = 2
ICMPV6_ROUTER_PREF_LOW = 3


def _option(kind: int, body: bytes) -> bytes:
    """Type, length in units of 8 bytes, body padded with zeros."""
    units = (2 + len(body) + 7) // 8
    return (bytes((kind, units)) + body).ljust(units * 8, b"\0")


def ndisc_fill_addr_option(kind: int, lladdr: bytes) -> bytes:
    """net/ipv6/ndisc.c: a source or target link-layer address option."""
    return _option(kind, lladdr)


@dataclass(frozen=True, slots=True)
class prefix_info:
    """struct prefix_info (RFC 4861 4.6.2). Lifetimes in s, INFINITY_LIFE_TIME: for ever."""

    prefix: wide
    prefix_len: int
    onlink: bool = True
    autoconf: bool = True
    valid: int = 2_592_000
    prefered: int = 604_800
    router_addr: bool = False

    def pack(self) -> bytes:
        """The option's 32 bytes."""
        flags = self.onlink << 7 | self.autoconf << 6 | self.router_addr << 5
        return (
            bytes((ND_OPT_PREFIX_INFO, 4, self.prefix_len, flags))
            + self.valid.to_bytes(4, "big")
            + self.prefered.to_bytes(4, "big")
            + bytes(4)
            + self.prefix.to_bytes(16, "big")
        )


@dataclass(frozen=True, slots=True)
class route_info:
    """struct route_info (RFC 4191 2.3). `pref` ICMPV6_ROUTER_PREF_*."""

    prefix: wide
    prefix_len: int
    pref: int = ICMPV6_ROUTER_PREF_MEDIUM
    lifetime: int = 1800

    def pack(self) -> bytes:
        """Return the option, of 8, 16 or 24 bytes by the prefix's length."""
        body = bytes((self.prefix_len, self.pref << 3)) + self.lifetime.to_bytes(4, "big")
        units = (self.prefix_len + 63) // 64
        return _option(ND_OPT_ROUTE_INFO, body + self.prefix.to_bytes(16, "big")[: 8 * units])


@dataclass(frozen=True, slots=True)
class rdnss:
    """RFC 8106 5.1: recursive DNS servers."""

    servers: tuple[int, ...]
    lifetime: int = 1800

    def pack(self) -> bytes:
        """8 bytes and 16 a server."""
        body = bytes(2) + self.lifetime.to_bytes(4, "big")
        return _option(ND_OPT_RDNSS, body + b"".join(a.to_bytes(16, "big") for a in self.servers))


@dataclass(frozen=True, slots=True)
class dnssl:
    """RFC 8106 5.2: the domains that a resolver tries, as text without the final dot."""

    domains: tuple[str, ...]
    lifetime: int = 1800

    def pack(self) -> bytes:
        """Encode the names as DNS does, uncompressed. Raises: ValueError, no domain name."""
        body = bytearray(bytes(2) + self.lifetime.to_bytes(4, "big"))
        for domain in self.domains:
            for label in domain.rstrip(".").split("."):
                raw = label.encode("ascii")
                if not 1 <= len(raw) <= 63:
                    raise ValueError(f"{domain!r}: a label of a domain has 1 to 63 bytes")
                body += bytes((len(raw),)) + raw
            body.append(0)
        return _option(ND_OPT_DNSSL, bytes(body))


def opt_mtu(mtu: int) -> bytes:
    """RFC 4861 4.6.4: the MTU option."""
    return _option(ND_OPT_MTU, bytes(2) + mtu.to_bytes(4, "big"))


def opt_nonce(nonce: bytes) -> bytes:
    """RFC 3971 5.3.2: the nonce option; six bytes fill it."""
    return _option(ND_OPT_NONCE, nonce)


def opt_redirected_header(packet: bytes) -> bytes:
    """RFC 4861 4.6.3: the start of the redirected packet, cut to units of 8 bytes."""
    return _option(ND_OPT_REDIRECT_HDR, bytes(6) + packet[: len(packet) & ~7])


@dataclass(slots=True)
class ndisc_options:
    """struct ndisc_options: the options of a message. None or empty: absent.

    If an option that may occur once occurs twice, the first counts. `unknown`: types of unknown
    options, which are ignored (RFC 4861 4.6).
    """

    src_lladdr: bytes | None = None
    tgt_lladdr: bytes | None = None
    """The first one of its kind; empty when its length is wrong."""
    redirected: bytes | None = None
    mtu: int | None = None
    nonce: bytes | None = None
    prefixes: list[prefix_info] = field(default_factory=list)
    routes: list[route_info] = field(default_factory=list)
    rdnss: list[rdnss] = field(default_factory=list)
    dnssl: list[dnssl] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)


def ndisc_parse_options(opt: bytes, addr_len: int = 6) -> ndisc_options | None:
    """net/ipv6/ndisc.c: parse options. None when one has length 0 or runs past the end.

    Such a message must be dropped (RFC 4861 4.6). An option of a known type with a wrong size is
    ignored like an unknown one.
    """
    out = ndisc_options()
    at, end = 0, len(opt)
    while at < end:
        if end - at < 2:
            return None
        size = opt[at + 1] * 8
        if not size or at + size > end:
            return None
        kind, body = opt[at], opt[at : at + size]
        at += size
        if not _take(out, kind, body, addr_len):
            out.unknown.append(kind)
    return out


def _take(out: ndisc_options, kind: int, body: bytes, addr_len: int) -> bool:
    """Store an option in its field of `out`; False when it is unknown or has the wrong size."""
    size = len(body)
    match kind:
        case 1 | 2:  # the address and its padding fill the option exactly (ndisc_opt_addr_data)
            right = size == (addr_len + 2 + 7) // 8 * 8
            lladdr = body[2 : 2 + addr_len] if right else b""
            if kind == ND_OPT_SOURCE_LL_ADDR:
                out.src_lladdr = lladdr if out.src_lladdr is None else out.src_lladdr
            else:
                out.tgt_lladdr = lladdr if out.tgt_lladdr is None else out.tgt_lladdr
        case 3:
            if size != 32:
                return False
            out.prefixes.append(
                prefix_info(
                    int.from_bytes(body[16:32], "big"),
                    body[2],
                    bool(body[3] & 0x80),
                    bool(body[3] & 0x40),
                    int.from_bytes(body[4:8], "big"),
                    int.from_bytes(body[8:12], "big"),
                    bool(body[3] & 0x20),
                )
            )
        case 4:
            out.redirected = body[8:] if out.redirected is None else out.redirected
        case 5:
            if size != 8:
                return False
            out.mtu = int.from_bytes(body[4:8], "big") if out.mtu is None else out.mtu
        case 14:
            if size != 8:  # longer nonces are SEND's, not DAD's
                return False
            out.nonce = body[2:8] if out.nonce is None else out.nonce
        case 24:
            bits = body[2]
            if size > 24 or bits > 128 or bits > (size - 8) * 8:
                return False
            prefix = int.from_bytes(body[8:].ljust(16, b"\0"), "big")
            life = int.from_bytes(body[4:8], "big")
            out.routes.append(route_info(prefix, bits, body[3] >> 3 & 3, life))
        case 25:
            if size < 24 or size % 16 != 8:
                return False
            life = int.from_bytes(body[4:8], "big")
            servers = [int.from_bytes(body[i : i + 16], "big") for i in range(8, size, 16)]
            out.rdnss.append(rdnss(tuple(servers), life))
        case 31:
            domains = _domains(body[8:])
            if domains is None:
                return False
            out.dnssl.append(dnssl(domains, int.from_bytes(body[4:8], "big")))
        case _:
            return False
    return True


def _domains(data: bytes) -> tuple[str, ...] | None:
    """The names of a DNSSL option; None when malformed."""
    out: list[str] = []
    labels: list[str] = []
    at = 0
    while at < len(data):
        size = data[at]
        if not size:
            if labels:
                out.append(".".join(labels))
                labels = []
            at += 1
            continue
        label = data[at + 1 : at + 1 + size]
        if size > 63 or len(label) != size or not label.isascii():
            return None
        labels.append(label.decode("ascii"))
        at += 1 + size
    return None if labels or not out else tuple(out)
