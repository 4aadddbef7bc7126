"""Packets of XTP 4.0, unicast over IPv4: building and parsing.

xtp_build builds a packet of header, segment and data; the xtp_*_segment functions build the part of
each format. xtp_rcv calls xtp_checksum_ok and xtp_parse. Functions only: no state, no clock.

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |R|                       key, 64 bits                          |   R: RTN
    |               options, 24 bits                |ver 3| format 5|   cmd
    |                        dlen: bytes behind the header          |
    |            check              |            sort               |
    |                             sync                              |
    |                          seq, 64 bits                         |

    DATA     [btag 8] data                  CNTL   rseq 8, alloc 8, echo 4
    FIRST    address 16, traffic 24, data   ECNTL  CNTL, nspan 4, spans 16 each
    DIAG     code 4, value 4, text          TCNTL  CNTL, reserved 4, xkey 8, traffic 24

Big endian. Wireshark decodes it. Read xtp_parse first.
"""

from __future__ import annotations

from struct import Struct

from fastpath.base.csum import ip_compute_csum
from stack.core.rows import row, state, wide

XTP_HLEN = 32
XTP_VERSION = 1
XTP_CHECK_OFFSET = 16
XTP_RTN = 1 << 63
"""Top bit of the key: the key was chosen by the packet's receiver."""
XTP_KEY_MASK = (1 << 63) - 1

# Formats: the lower five bits of the command's type byte.
XTP_DATA = 0
XTP_CNTL = 1
XTP_FIRST = 2
XTP_ECNTL = 3
XTP_TCNTL = 5
XTP_DIAG = 8
_KNOWN = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 8

# Option bits of the command, without the type byte.
NOCHECK = 0x400000
EDGE = 0x200000
NOERR = 0x100000
SORT = 0x020000
NOFLOW = 0x010000
FASTNAK = 0x008000
SREQ = 0x004000
DREQ = 0x002000
RCLOSE = 0x001000
WCLOSE = 0x000800
EOM = 0x000400
END = 0x000200
BTAG = 0x000100

# Service types of the traffic specifier.
XTP_SERVICE_DATAGRAM = 1
XTP_SERVICE_ACKED_DATAGRAM = 2
XTP_SERVICE_TRANSACTION = 3
XTP_SERVICE_STREAM = 4

# DIAG: codes, and values for the reason.
XTP_DIAG_REFUSED = 1
XTP_DIAG_INVALID = 3
XTP_DIAG_PROTOCOL_ERROR = 6
XTP_DIAG_TOO_BIG = 7
XTP_VAL_NO_LISTENER = 1
XTP_VAL_NO_PROVIDER = 8
XTP_VAL_BAD_STATE = 12

XTP_ASEG_BYTES = 16
XTP_TSPEC_BYTES = 24
XTP_FIRST_BYTES = XTP_ASEG_BYTES + XTP_TSPEC_BYTES
XTP_MAX_SPANS = 16
"""Maximum number of spans in our ECNTL; the next ECNTL reports the rest."""
XTP_ASEG_IP_DOMAIN = 1
XTP_ASEG_IP_FORMAT = 1

_header = Struct(">QIIHHIQ")
_cntl = Struct(">QQI")
_tcntl = Struct(">QQIIQ")
_nspan = Struct(">I")
_aseg = Struct(">HBBIIHH")
_tspec = Struct(">HBBIIIII")
_diag = Struct(">II")


@state
class xtp_tspec:
    """Traffic specifier of format 1; rates in bytes/s and bursts in bytes, 0: unlimited."""

    service: int = XTP_SERVICE_STREAM
    maxdata: int = 0
    inrate: int = 0
    inburst: int = 0
    outrate: int = 0
    outburst: int = 0


@state
class xtp_packet:
    """A parsed packet. `data` is application data (DATA, FIRST)."""

    key: int
    """63 bits; `rtn`: the receiver chose it."""
    rtn: bool
    options: int
    format: int
    seq: int
    sync: int
    data: bytes = b""
    arrived_ns: int = row(0)
    """By the host's clock."""
    rseq: int = row(0)
    alloc: int = row(0)
    echo: int = row(-1)
    """-1 if the packet has no control segment."""
    spans: list[tuple[int, int]] = row(make=list)
    tspec: xtp_tspec | None = row()
    dport: int = row(0)
    sport: int = row(0)
    code: int = row(0)
    """Code of a DIAG. Its value and text are informational."""

    def __repr__(self) -> str:
        return (
            f"<xtp {self.format} key={self.key:x} rtn={self.rtn} options={self.options:06x} "
            f"seq={self.seq}+{len(self.data)} sync={self.sync} rseq={self.rseq} echo={self.echo}>"
        )


# --- building --------------------------------------------------------------------------------


def xtp_build(
    key: wide, options: int, form: int, seq: int, sync: int, sort: int, segment: bytes, data: bytes
) -> bytes:
    """Build a packet of header, `segment` (the format's part before the data) and `data`.

    `key` includes XTP_RTN if the receiver chose it. With NOCHECK the checksum covers the header.
    """
    header = bytearray(
        _header.pack(
            key,
            options << 8 | XTP_VERSION << 5 | form,
            len(segment) + len(data),
            0,
            sort,
            sync & 0xFFFFFFFF,
            seq,
        )
    )
    body = segment + data
    if options & NOCHECK:
        check = ip_compute_csum(header)
    else:
        check = ip_compute_csum(header + body)
    header[XTP_CHECK_OFFSET : XTP_CHECK_OFFSET + 2] = check.to_bytes(2, "big")
    return bytes(header) + body


def xtp_cntl_segment(rseq: int, alloc: int, echo: int) -> bytes:
    """The segment of a CNTL."""
    return _cntl.pack(rseq, alloc, echo & 0xFFFFFFFF)


def xtp_ecntl_segment(rseq: int, alloc: int, echo: int, spans: list[tuple[int, int]]) -> bytes:
    """The segment of an ECNTL, with the first XTP_MAX_SPANS spans received beyond rseq."""
    told = spans[:XTP_MAX_SPANS]
    parts = [_cntl.pack(rseq, alloc, echo & 0xFFFFFFFF), _nspan.pack(len(told))]
    for left, right in told:
        parts.append(left.to_bytes(8, "big") + right.to_bytes(8, "big"))
    return b"".join(parts)


def xtp_tcntl_segment(rseq: int, alloc: int, echo: int, tspec: xtp_tspec) -> bytes:
    """The segment of a TCNTL. xkey is 0: both ends use the initiator's key."""
    return _tcntl.pack(rseq, alloc, echo & 0xFFFFFFFF, 0, 0) + xtp_tspec_bytes(tspec)


def xtp_tspec_bytes(tspec: xtp_tspec) -> bytes:
    """A traffic specifier of format 1."""
    return _tspec.pack(
        XTP_TSPEC_BYTES,
        tspec.service,
        1,
        tspec.maxdata,
        tspec.inrate,
        tspec.inburst,
        tspec.outrate,
        tspec.outburst,
    )


def xtp_first_segment(saddr: int, sport: int, daddr: int, dport: int, tspec: xtp_tspec) -> bytes:
    """The segments of a FIRST: addresses and traffic specifier."""
    address = _aseg.pack(
        XTP_ASEG_BYTES, XTP_ASEG_IP_DOMAIN, XTP_ASEG_IP_FORMAT, daddr, saddr, dport, sport
    )
    return address + xtp_tspec_bytes(tspec)


def xtp_diag_segment(code: int, value: int, text: str) -> bytes:
    """The segment of a DIAG."""
    return _diag.pack(code, value) + text.encode("ascii", "replace")


# --- parsing ---------------------------------------------------------------------------------


def xtp_checksum_ok(packet: bytes) -> bool:
    """Whether the checksum is right. `packet` has a header and the length of its dlen field."""
    nocheck = int.from_bytes(packet[8:11], "big") & NOCHECK
    return ip_compute_csum(packet[:XTP_HLEN] if nocheck else packet) == 0


def xtp_parse(packet: bytes) -> xtp_packet | None:
    """Parse a packet, without verifying its checksum; None if it is malformed.

    Bytes beyond dlen (padding) are ignored.
    """
    if len(packet) < XTP_HLEN:
        return None
    key, cmd, dlen, _, _, sync, seq = _header.unpack_from(packet)
    kind: int = cmd & 0xFF
    form: int = kind & 0x1F
    if kind >> 5 != XTP_VERSION or not _KNOWN >> form & 1 or seq > XTP_KEY_MASK:
        return None
    if dlen > len(packet) - XTP_HLEN:
        return None
    found = xtp_packet(key & XTP_KEY_MASK, key > XTP_KEY_MASK, cmd >> 8, form, seq, sync)
    body = packet[XTP_HLEN : XTP_HLEN + dlen]
    if form == XTP_DATA:
        return found if xtp_parse_data(found, body) else None
    if form == XTP_FIRST:
        return found if xtp_parse_first(found, body) else None
    if form == XTP_DIAG:
        if dlen < 8:
            return None
        found.code, _ = _diag.unpack_from(body)
        return found
    return found if xtp_parse_control(found, form, body) else None


def xtp_parse_data(found: xtp_packet, body: bytes) -> bool:
    """Parse the data of a DATA or FIRST, after a tag of 8 bytes if BTAG is set; False: bad."""
    if found.options & BTAG:
        if len(body) < 8:
            return False
        body = body[8:]
    found.data = body
    return found.seq <= XTP_KEY_MASK - len(body)


def xtp_parse_first(found: xtp_packet, body: bytes) -> bool:
    """Parse a FIRST's addresses, which must be IPv4, and its traffic specifier; False: bad."""
    if len(body) < XTP_ASEG_BYTES:
        return False
    alen, _, aformat, _, _, dport, sport = _aseg.unpack_from(body)
    if alen != XTP_ASEG_BYTES or aformat != XTP_ASEG_IP_FORMAT:
        return False
    found.dport = dport
    found.sport = sport
    used = xtp_parse_tspec(found, body, alen)
    if not used:
        return False
    return xtp_parse_data(found, body[alen + used :])


def xtp_parse_tspec(found: xtp_packet, body: bytes, at: int) -> int:
    """Parse the traffic specifier at `at`; returns its length, 0 if it is malformed."""
    if len(body) < at + 8:
        return 0
    tlen = int.from_bytes(body[at : at + 2], "big")
    service = body[at + 2]
    tformat = body[at + 3]
    if tformat == 0 and tlen == 8:
        found.tspec = xtp_tspec(service)
    elif tformat == 1 and tlen == XTP_TSPEC_BYTES and len(body) >= at + XTP_TSPEC_BYTES:
        _, _, _, maxdata, inrate, inburst, outrate, outburst = _tspec.unpack_from(body, at)
        found.tspec = xtp_tspec(service, maxdata, inrate, inburst, outrate, outburst)
    else:
        return 0
    return tlen


def xtp_parse_control(found: xtp_packet, form: int, body: bytes) -> bool:
    """The segments of CNTL, ECNTL and TCNTL."""
    if len(body) < 20:
        return False
    rseq, alloc, echo = _cntl.unpack_from(body)
    if rseq > XTP_KEY_MASK or alloc > XTP_KEY_MASK:
        return False
    found.rseq, found.alloc, found.echo = rseq, alloc, echo
    if form == XTP_ECNTL:
        return len(body) >= 24 and xtp_parse_spans(found, body)
    if form == XTP_TCNTL:
        return len(body) >= 40 and bool(xtp_parse_tspec(found, body, 32))
    return True


def xtp_parse_spans(found: xtp_packet, body: bytes) -> bool:
    """The spans of an ECNTL: ascending, apart, beyond rseq."""
    count = int.from_bytes(body[20:24], "big")
    if len(body) != 24 + 16 * count:
        return False
    edge = found.rseq
    for i in range(count):
        at = 24 + 16 * i
        left = int.from_bytes(body[at : at + 8], "big")
        right = int.from_bytes(body[at + 8 : at + 16], "big")
        if not edge < left < right <= XTP_KEY_MASK:
            return False
        found.spans.append((left, right))
        edge = right
    return True
