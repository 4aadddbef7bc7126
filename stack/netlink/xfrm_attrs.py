"""include/uapi/linux/xfrm.h: structures and attributes of NETLINK_XFRM, and values of them."""

from __future__ import annotations

import struct

from stack.core.rows import rows_of, wide
from stack.core.uapi import AF_INET
from stack.inet.xfrm_policy import (
    xfrm_lifetime_cfg,
    xfrm_lifetime_cur,
    xfrm_policy,
    xfrm_selector,
    xfrm_tmpl,
)
from stack.netlink.nlattr import BINARY, U8, U32, U64, UNSPEC, Attr, AttrTable
from stack.xfrm.xfrm_state import XFRM_STATE_ACQ, xfrm_state

SELECTOR = struct.Struct("=16s16s2s2s2s2sHBBB3xiI")
"""daddr, saddr, dport, dport_mask, sport, sport_mask, family, prefixlen_d, _s, proto, ifindex,
user."""
LIFETIME_CFG, LIFETIME_CUR = struct.Struct("=8Q"), struct.Struct("=4Q")
ID = struct.Struct("=16s4sB3x")
"""daddr, spi, proto."""
USERSA_TAIL = struct.Struct("=IIIIIHBBB7x")
"""Three of xfrm_stats, seq, reqid, family, mode, replay_window, flags."""
USERSA_INFO_BYTES = 224
USERSPI_RANGE = struct.Struct("=II")
"""min, max: the rest of struct xfrm_userspi_info."""
USERSA_ID = struct.Struct("=16s4sHBx")
"""daddr, spi, family, proto."""
POLICY_TAIL = struct.Struct("=IIBBBB4x")
"""priority, index, dir, action, flags, share."""
POLICY_INFO_BYTES = 168
POLICY_ID_TAIL = struct.Struct("=IB3x")
"""index, dir."""
TMPL = struct.Struct("=16s4sB3xH2x16sIBBBxIII")
"""The state's id, family, saddr, reqid, mode, share, optional, aalgos, ealgos, calgos."""
REPLAY_STATE = struct.Struct("=3I")
REPLAY_ESN = struct.Struct("=6I")
"""bmp_len, oseq, seq, oseq_hi, seq_hi, replay_window; then bmp_len words."""
MARK = struct.Struct("=II")
ENCAP = struct.Struct("=H2s2s2x16s")
"""encap_type, sport, dport, oa."""
ALGO = struct.Struct("=64sI")
ALGO_ICV = struct.Struct("=64sII")
POLICY_TYPE = struct.Struct("=BxHBx")
ADDRESS_FILTER = struct.Struct("=16s16sHBB")

XFRMA = AttrTable(
    "XFRMA",
    Attr("XFRMA_ALG_AUTH", 1, UNSPEC, ALGO.size),
    Attr("XFRMA_ALG_CRYPT", 2, UNSPEC, ALGO.size),
    Attr("XFRMA_ALG_COMP", 3, UNSPEC, ALGO.size),
    Attr("XFRMA_ENCAP", 4, UNSPEC, ENCAP.size),
    Attr("XFRMA_TMPL", 5, UNSPEC, TMPL.size),
    Attr("XFRMA_SA", 6, UNSPEC, USERSA_INFO_BYTES),
    Attr("XFRMA_POLICY", 7, UNSPEC, POLICY_INFO_BYTES),
    Attr("XFRMA_SEC_CTX", 8, UNSPEC, 8),
    Attr("XFRMA_LTIME_VAL", 9, UNSPEC, LIFETIME_CUR.size),
    Attr("XFRMA_REPLAY_VAL", 10, UNSPEC, REPLAY_STATE.size),
    Attr("XFRMA_REPLAY_THRESH", 11, U32),
    Attr("XFRMA_ETIMER_THRESH", 12, U32),
    Attr("XFRMA_SRCADDR", 13, UNSPEC, 16),
    Attr("XFRMA_COADDR", 14, UNSPEC, 16),
    Attr("XFRMA_LASTUSED", 15, U64, told=True),
    Attr("XFRMA_POLICY_TYPE", 16, UNSPEC, POLICY_TYPE.size),
    Attr("XFRMA_ALG_AEAD", 18, UNSPEC, ALGO_ICV.size),
    Attr("XFRMA_ALG_AUTH_TRUNC", 20, UNSPEC, ALGO_ICV.size),
    Attr("XFRMA_MARK", 21, UNSPEC, MARK.size),
    Attr("XFRMA_TFCPAD", 22, U32),
    Attr("XFRMA_REPLAY_ESN_VAL", 23, UNSPEC, REPLAY_ESN.size),
    Attr("XFRMA_SA_EXTRA_FLAGS", 24, U32),
    Attr("XFRMA_PROTO", 25, U8),
    Attr("XFRMA_ADDRESS_FILTER", 26, UNSPEC, ADDRESS_FILTER.size),
    Attr("XFRMA_OFFLOAD_DEV", 28, UNSPEC, 8),
    Attr("XFRMA_SET_MARK", 29, U32),
    Attr("XFRMA_SET_MARK_MASK", 30, U32),
    Attr("XFRMA_IF_ID", 31, U32),
    Attr("XFRMA_MTIMER_THRESH", 32, U32),
    Attr("XFRMA_SA_DIR", 33, U8, legal=range(1, 3)),
    last=41,
)
XFRMA_SAD = AttrTable(
    "XFRMA_SAD", Attr("XFRMA_SAD_CNT", 1, U32), Attr("XFRMA_SAD_HINFO", 2, BINARY)
)
XFRMA_SPD = AttrTable(
    "XFRMA_SPD",
    Attr("XFRMA_SPD_INFO", 1, BINARY),
    Attr("XFRMA_SPD_HINFO", 2, BINARY),
    Attr("XFRMA_SPD_IPV4_HTHRESH", 3, BINARY),
    Attr("XFRMA_SPD_IPV6_HTHRESH", 4, BINARY),
)


def address(raw: bytes, family: int) -> wide:
    """xfrm_address_t as an int."""
    return int.from_bytes(raw[:4] if family == AF_INET else raw, "big")


def raw_address(addr: wide, family: int) -> bytes:
    """An int as xfrm_address_t."""
    if family == AF_INET:
        return addr.to_bytes(4, "big") + bytes(12)
    return addr.to_bytes(16, "big")


def be(raw: bytes) -> int:
    """A number in network order."""
    return int.from_bytes(raw, "big")


def get_selector(data: bytes) -> xfrm_selector:
    """struct xfrm_selector."""
    d, s, dport, dmask, sport, smask, family, plen_d, plen_s, proto, ifindex, user = (
        SELECTOR.unpack_from(data)
    )
    ends = address(s, family), plen_s, address(d, family), plen_d
    ports = be(sport), be(dport), ifindex, be(smask), be(dmask)
    return xfrm_selector(family, *ends, proto, *ports, user)


def put_selector(sel: xfrm_selector) -> bytes:
    """struct xfrm_selector."""
    ports = (sel.dport, sel.dport_mask, sel.sport, sel.sport_mask)
    return SELECTOR.pack(
        raw_address(sel.daddr, sel.family),
        raw_address(sel.saddr, sel.family),
        *(port.to_bytes(2, "big") for port in ports),
        *(sel.family, sel.prefixlen_d, sel.prefixlen_s, sel.proto, sel.ifindex, sel.user),
    )


def put_lifetimes(lft: xfrm_lifetime_cfg, cur: xfrm_lifetime_cur) -> bytes:
    """struct xfrm_lifetime_cfg and _cur."""
    limits = [getattr(lft, name) for name in rows_of(xfrm_lifetime_cfg)]
    used = [getattr(cur, name) for name in rows_of(xfrm_lifetime_cur)]
    return LIFETIME_CFG.pack(*limits) + LIFETIME_CUR.pack(*used)


def put_usersa_info(x: xfrm_state) -> bytes:
    """struct xfrm_usersa_info."""
    sel = x.sel if x.sel.family else xfrm_selector(x.family, sport_mask=0, dport_mask=0)
    raw = put_selector(sel)
    if not x.sel.family or x.km_state == XFRM_STATE_ACQ:
        at = 40  # the family, if the selector is unspecified
        raw = raw[:at] + b"\0\0" + raw[at + 2 :]
    return (
        raw
        + ID.pack(raw_address(x.daddr, x.family), x.spi.to_bytes(4, "big"), x.proto)
        + raw_address(x.saddr, x.family)
        + put_lifetimes(x.lft, x.curlft)
        + USERSA_TAIL.pack(
            *(x.stats_replay_window, x.stats_replay, x.stats_integrity_failed),
            *(x.seq, x.reqid, x.family, x.mode, x.replay_window, x.flags),
        )
    )


def put_policy_info(pol: xfrm_policy) -> bytes:
    """struct xfrm_userpolicy_info."""
    tail = pol.priority, pol.index, pol.dir, pol.action, pol.flags, pol.share
    return put_selector(pol.selector) + put_lifetimes(pol.lft, pol.curlft) + POLICY_TAIL.pack(*tail)


def get_tmpl(data: bytes, at: int) -> xfrm_tmpl:
    """struct xfrm_user_tmpl."""
    daddr, spi, proto, family, saddr, reqid, mode, share, optional, *algos = TMPL.unpack_from(
        data, at
    )
    ends = address(daddr, family), address(saddr, family)
    return xfrm_tmpl(family, *ends, be(spi), proto, reqid, mode, share, bool(optional), *algos)


def put_tmpl(tmpl: xfrm_tmpl) -> bytes:
    """struct xfrm_user_tmpl."""
    return TMPL.pack(
        raw_address(tmpl.daddr, tmpl.family),
        tmpl.spi.to_bytes(4, "big"),
        tmpl.proto,
        tmpl.family,
        raw_address(tmpl.saddr, tmpl.family),
        *(tmpl.reqid, tmpl.mode, tmpl.share, tmpl.optional),
        *(tmpl.aalgos, tmpl.ealgos, tmpl.calgos),
    )
