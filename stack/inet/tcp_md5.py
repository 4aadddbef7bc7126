"""net/ipv4/tcp_ipv4.c, net/ipv6/tcp_ipv6.c: TCP's MD5 signatures (RFC 2385), as BGP uses them.

    setsockopt: TCP_MD5SIG, TCP_MD5SIG_EXT -> tcp_parse_md5_keys
        tcp_md5_do_add, tcp_md5_do_del      a key for the addresses of a prefix
    tcp_transmit_skb, tcp_make_synack, tcp_answer_bytes -> tcp_md5_option
    tcp_rcv -> tcp_inbound_hash -> tcp_inbound_md5_hash
    syn_recv_sock -> tcp_md5_inherit        a child gets its peer's key

State: `md5sig_info` of a tcp_sock, None until a key is set; `tw_md5_key` of a TIME_WAIT socket.
A signature is over the pseudo header, the TCP header without options and with checksum 0, the data
and the key. Options are not signed, and no device splits a signed segment: each has its
own signature.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
from struct import Struct
from typing import TYPE_CHECKING

from fastpath.base.skbuff import sk_buff, skb_copy_bits
from fastpath.net.inetkey import inet_key
from stack.core import drop_reason
from stack.core.errors import os_error
from stack.core.l3mdev import inet_sdif, l3mdev_master_ifindex_by_index, netif_is_l3_master
from stack.core.rows import state, wide
from stack.core.sock import sk_gso_disable, sock_kfree_s, sock_kmalloc
from stack.core.uapi import AF_INET, AF_INET6, IPPROTO_TCP, TCP_HLEN

if TYPE_CHECKING:
    from stack.inet.inet_connection_sock import request_sock
    from stack.inet.tcp_sock import tcp_sock

TCP_MD5SIG_MAXKEYLEN = 80
TCP_MD5SIG_FLAG_PREFIX = 1
TCP_MD5SIG_FLAG_IFINDEX = 2
TCPOPT_MD5SIG = 19
TCPOLEN_MD5SIG = 18
TCPOLEN_MD5SIG_ALIGNED = 20
MD5SIG_KEY_BYTES = 136
"""Option memory charged for a key: struct tcp_md5sig_key of a 64-bit Linux."""

MD5SIG = Struct("=H2x4s16s104xBBHi80s")
"""struct tcp_md5sig: family, IPv4 and IPv6 address; flags, prefix, length, interface, key."""
_DIAG = Struct("=BBH16s80s")
_PSEUDO4 = Struct("!IIBBH")
_PSEUDO6 = Struct("!II")
_TCPHDR = Struct("!HHIIBBHHH")
_OPTION = bytes((1, 1, TCPOPT_MD5SIG, TCPOLEN_MD5SIG))
_MAPPED = 0xFFFF


@state
class tcp_md5sig_key:
    """struct tcp_md5sig_key: a key for segments to and from the addresses of a prefix."""

    family: int
    addr: wide
    prefixlen: int
    l3index: int
    """The VRF that it applies to."""
    flags: int
    """TCP_MD5SIG_FLAG_IFINDEX: only in that VRF; without, everywhere."""
    key: bytes


# --- keys of a socket ---------------------------------------------------------------------


def tcp_md5_do_lookup(sk: tcp_sock, l3index: int, addr: wide, family: int) -> tcp_md5sig_key | None:
    """net/ipv4/tcp_ipv4.c: the key for a peer: the one of its VRF, then of the longest prefix."""
    best: tcp_md5sig_key | None = None
    for key in sk.md5sig_info or ():
        if key.family != family or (key.flags & TCP_MD5SIG_FLAG_IFINDEX and key.l3index != l3index):
            continue
        rest = (32 if family == AF_INET else 128) - key.prefixlen
        if addr >> rest == key.addr >> rest and _better_md5_match(best, key):
            best = key
    return best


def _better_md5_match(old: tcp_md5sig_key | None, new: tcp_md5sig_key) -> bool:
    if old is None:
        return True
    if bool(old.l3index) != bool(new.l3index):
        return bool(new.l3index)
    return old.prefixlen < new.prefixlen


def tcp_md5_lookup(sk: tcp_sock) -> tcp_md5sig_key | None:
    """icsk_af_ops.md5_lookup: the key of a connection, or of one being opened."""
    l3index = l3mdev_master_ifindex_by_index(sk.net, sk.sk_bound_dev_if)
    return tcp_md5_do_lookup(sk, l3index, sk.inet_daddr, sk.sk_af.family)


def tcp_md5_lookup_req(sk: tcp_sock, req: request_sock) -> tcp_md5sig_key | None:
    """req_md5_lookup: the key that listener sk has for the peer of a request."""
    l3index = l3mdev_master_ifindex_by_index(sk.net, req.sk_bound_dev_if)
    return tcp_md5_do_lookup(sk, l3index, req.inet_daddr, req.rsk_ops.family)


def tcp_md5_lookup_skb(sk: tcp_sock, skb: sk_buff, family: int) -> tcp_md5sig_key | None:
    """The key of sk for the sender of a segment."""
    l3index = skb.skb_iif if inet_sdif(skb) else 0
    return tcp_md5_do_lookup(sk, l3index, inet_key(skb)[1], family)


def _lookup_exact(sk: tcp_sock, like: tcp_md5sig_key) -> tcp_md5sig_key | None:
    for key in sk.md5sig_info or ():
        same = key.family == like.family and key.addr == like.addr
        if (
            same
            and key.prefixlen == like.prefixlen
            and key.l3index == like.l3index
            and not (key.flags ^ like.flags) & TCP_MD5SIG_FLAG_IFINDEX
        ):
            return key
    return None


def tcp_md5_do_add(sk: tcp_sock, new: tcp_md5sig_key) -> None:
    """net/ipv4/tcp_ipv4.c: set a key, or change it. Raises: OSError ENOMEM: too many keys."""
    old = _lookup_exact(sk, new)
    if old is not None:
        old.key = new.key
        return
    if sk.md5sig_info is None:
        sk_gso_disable(sk)
        sk.md5sig_info = []
    try:
        sock_kmalloc(sk, MD5SIG_KEY_BYTES)
    except OSError as exc:
        raise os_error(errno.ENOMEM, f"TCP_MD5SIG: {exc.strerror}") from exc
    sk.md5sig_info.insert(0, new)


def tcp_md5_do_del(sk: tcp_sock, like: tcp_md5sig_key) -> None:
    """net/ipv4/tcp_ipv4.c: delete a key. Raises: OSError ENOENT."""
    key = _lookup_exact(sk, like)
    if key is None or sk.md5sig_info is None:
        raise os_error(errno.ENOENT, "TCP_MD5SIG: there is no key for this address")
    sk.md5sig_info = [one for one in sk.md5sig_info if one is not key]
    sock_kfree_s(sk, MD5SIG_KEY_BYTES)


def tcp_parse_md5_keys(extended: bool, sk: tcp_sock, val: bytes) -> None:
    """tcp_v4_parse_md5_keys, tcp_v6_parse_md5_keys: set a key; an empty one is deleted.

    `extended`: TCP_MD5SIG_EXT, whose flags count. Raises: OSError EINVAL, ENOENT, ENOMEM.
    """
    family, addr4, addr6, flags, prefixlen, keylen, ifindex, secret = MD5SIG.unpack_from(val)
    if family != sk.sk_family:
        raise os_error(errno.EINVAL, f"TCP_MD5SIG: an address of family {family}")
    addr = int.from_bytes(addr4 if family == AF_INET else addr6, "big")
    if family == AF_INET6 and addr >> 32 == _MAPPED:
        family, addr = AF_INET, addr & 0xFFFF_FFFF
    whole = 32 if family == AF_INET else 128
    if not extended or not flags & TCP_MD5SIG_FLAG_PREFIX:
        prefixlen = whole
    elif prefixlen > whole:
        raise os_error(errno.EINVAL, f"TCP_MD5SIG_EXT: a prefix of {prefixlen} bits")
    l3index = 0
    if extended and ifindex and flags & TCP_MD5SIG_FLAG_IFINDEX:
        dev = sk.net.dev_by_index.get(ifindex)
        if dev is None or not netif_is_l3_master(dev):
            raise os_error(errno.EINVAL, f"TCP_MD5SIG_EXT: interface {ifindex} is no VRF")
        l3index = ifindex
    key = tcp_md5sig_key(
        family, addr, prefixlen, l3index, flags & TCP_MD5SIG_FLAG_IFINDEX, secret[:keylen]
    )
    if not keylen:
        tcp_md5_do_del(sk, key)
        return
    if keylen > TCP_MD5SIG_MAXKEYLEN:
        raise os_error(errno.EINVAL, f"TCP_MD5SIG: a key of {keylen} bytes")
    tcp_md5_do_add(sk, key)


def tcp_md5_inherit(sk: tcp_sock, newsk: tcp_sock, req: request_sock) -> None:
    """syn_recv_sock: a child of listener sk gets only its peer's key."""
    key = tcp_md5_lookup_req(sk, req)
    if key is None:
        return
    whole = 32 if key.family == AF_INET else 128
    l3index = l3mdev_master_ifindex_by_index(sk.net, req.ir_iif)
    own = tcp_md5sig_key(key.family, req.inet_daddr, whole, l3index, key.flags, key.key)
    newsk.md5sig_info = [own]
    newsk.sk_omem_alloc += MD5SIG_KEY_BYTES
    newsk.tcp_header_len += TCPOLEN_MD5SIG_ALIGNED
    sk_gso_disable(newsk)


def tcp_diag_md5sig(sk: tcp_sock) -> bytes:
    """net/ipv4/tcp_diag.c: the keys as struct tcp_diag_md5sig, 100 bytes each."""
    return b"".join(
        _DIAG.pack(
            key.family,
            key.prefixlen,
            len(key.key),
            key.addr.to_bytes(4 if key.family == AF_INET else 16, "big"),
            key.key,
        )
        for key in sk.md5sig_info or ()
    )


# --- signatures ---------------------------------------------------------------------------


def tcp_md5_hash(
    key: tcp_md5sig_key, saddr: wide, daddr: wide, head: bytes, size: int, data: bytes
) -> bytes:
    """tcp_v4_md5_hash_skb, tcp_v6_md5_hash_skb: the 16 bytes for a segment of `size` bytes.

    `head`: the first 20 bytes of its header, with checksum 0.
    """
    if key.family == AF_INET:
        pseudo = _PSEUDO4.pack(saddr, daddr, 0, IPPROTO_TCP, size)
    else:
        ends = saddr.to_bytes(16, "big") + daddr.to_bytes(16, "big")
        pseudo = ends + _PSEUDO6.pack(size, IPPROTO_TCP)
    return hashlib.md5(pseudo + head + data + key.key, usedforsecurity=False).digest()


def tcp_md5_option(
    key: tcp_md5sig_key,
    saddr: wide,
    daddr: wide,
    fields: tuple[int, int, int, int, int, int, int],
    others: int,
    data: bytes,
) -> bytes:
    """The option of a segment that has `others` bytes of further options: 20 bytes.

    `fields`: source and destination port, sequence numbers, flags (nine bits), window, urgent
    pointer.
    """
    sport, dport, seq, ack, flags, window, urg_ptr = fields
    hlen = TCP_HLEN + TCPOLEN_MD5SIG_ALIGNED + others
    head = _TCPHDR.pack(
        sport, dport, seq, ack, hlen << 2 | flags >> 8, flags & 0xFF, window, 0, urg_ptr
    )
    return _OPTION + tcp_md5_hash(key, saddr, daddr, head, hlen + len(data), data)


def tcp_md5_verify(key: tcp_md5sig_key, skb: sk_buff, at: int) -> bool:
    """Whether the signature at byte `at` of a segment is key's; data at the TCP header."""
    _, saddr, _, daddr, _ = inet_key(skb)
    segment = skb_copy_bits(skb, 0, skb.len)
    head = segment[:16] + bytes(2) + segment[18:TCP_HLEN]
    data = segment[segment[12] >> 4 << 2 :]
    want = tcp_md5_hash(key, saddr, daddr, head, len(segment), data)
    return hmac.compare_digest(want, segment[at : at + 16])


def tcp_inbound_md5_hash(sk: tcp_sock, skb: sk_buff, at: int, family: int) -> int:
    """include/net/tcp.h: why a segment for sk is dropped (SKB_DROP_REASON_*), or 0.

    `at`: where its signature begins; 0: it has none. Data at the TCP header.
    """
    key = tcp_md5_lookup_skb(sk, skb, family)
    linux = sk.net.mib.linux
    if key is None and not at:
        return 0
    if not at:
        linux.TCPMD5NotFound += 1
        return drop_reason.SKB_DROP_REASON_TCP_MD5NOTFOUND
    if key is None:
        linux.TCPMD5Unexpected += 1
        return drop_reason.SKB_DROP_REASON_TCP_MD5UNEXPECTED
    if not tcp_md5_verify(key, skb, at):
        linux.TCPMD5Failure += 1
        return drop_reason.SKB_DROP_REASON_TCP_MD5FAILURE
    return 0
