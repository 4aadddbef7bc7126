"""Plain-Python twin of ``fastpath.net.gso``: a super-packet as bytes in, frames as bytes out."""

from __future__ import annotations

from fastpath._ref.csum import csum_fold, csum_partial

SKB_GSO_TCPV4 = 1 << 0
SKB_GSO_TCP_FIXEDID = 1 << 3
SKB_GSO_TCPV6 = 1 << 4
SKB_GSO_UDP_L4 = 1 << 17
SKB_GSO_TCP_ACCECN = 1 << 19


def pseudo_header(net: bytes, proto: int, length: int) -> bytes:
    """The pseudo header of the packet whose network header is `net`."""
    if net[0] >> 4 == 6:
        return bytes(net[8:40]) + length.to_bytes(4, "big") + bytes([0, 0, 0, proto])
    return bytes(net[12:20]) + bytes([0, proto]) + length.to_bytes(2, "big")


def segment(
    packet: bytes, net: int, l4: int, gso_size: int, gso_type: int, *, checksum: bool = True
) -> list[bytes]:
    """Cut `packet` into frames of `gso_size` payload bytes.

    `net` and `l4` are the offsets of the network and transport headers. `checksum` False: a UDP
    datagram whose check field is 0 keeps it (IPv4 only).
    """
    tcp = not gso_type & SKB_GSO_UDP_L4
    v6 = packet[net] >> 4 == 6
    pay = l4 + ((packet[l4 + 12] >> 4) * 4 if tcp else 8)
    header, payload = packet[:pay], packet[pay:]
    chunks = [payload[i : i + gso_size] for i in range(0, len(payload), gso_size)] or [b""]
    out, done = [], 0
    for i, chunk in enumerate(chunks):
        h = bytearray(header)
        if v6:
            h[net + 4 : net + 6] = (pay - net - 40 + len(chunk)).to_bytes(2, "big")
        else:
            h[net + 2 : net + 4] = (pay - net + len(chunk)).to_bytes(2, "big")
            if not gso_type & SKB_GSO_TCP_FIXEDID:
                ident = int.from_bytes(h[net + 4 : net + 6], "big") + i
                h[net + 4 : net + 6] = (ident & 0xFFFF).to_bytes(2, "big")
            h[net + 10 : net + 12] = b"\0\0"
            h[net + 10 : net + 12] = csum_fold(csum_partial(bytes(h[net:l4]), 0)).to_bytes(2, "big")
        if tcp:
            seq = int.from_bytes(h[l4 + 4 : l4 + 8], "big") + done
            h[l4 + 4 : l4 + 8] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
            if i != len(chunks) - 1:
                h[l4 + 13] &= ~0x09
            if i != 0 and not gso_type & SKB_GSO_TCP_ACCECN:
                h[l4 + 13] &= ~0x80
            place = l4 + 16
        else:
            h[l4 + 4 : l4 + 6] = (8 + len(chunk)).to_bytes(2, "big")
            place = l4 + 6
        if tcp or checksum or v6 or h[place : place + 2] != b"\0\0":
            h[place : place + 2] = b"\0\0"
            body = bytes(h[l4:]) + chunk
            pseudo = pseudo_header(bytes(h[net:]), 6 if tcp else 17, len(body))
            check = csum_fold(csum_partial(body, csum_partial(pseudo, 0)))
            if check == 0 and not tcp:
                check = 0xFFFF
            h[place : place + 2] = check.to_bytes(2, "big")
        out.append(bytes(h) + chunk)
        done += len(chunk)
    return out


def stamped(seq: int, count: int, gso_size: int, tskey: int, *, tcp: bool) -> int | None:
    """Which of `count` segments from `seq` requests the time stamp `tskey`, or None."""
    if not tcp:
        return 0
    behind = (tskey - seq) & 0xFFFFFFFF
    if behind >= 1 << 31:
        return 0
    return behind // gso_size if behind // gso_size < count else None
