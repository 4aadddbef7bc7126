"""net/xfrm/xfrm_user.c: NETLINK_XFRM: states and policies of `ip xfrm`, and notifications.

    xfrm_user_rcv_msg                   MESSAGES: the header's size, doit, dump
        xfrm_add_sa                     verify_newsa_info -> xfrm_state_construct
        xfrm_alloc_userspi              an SPI for a daemon that negotiates the rest
        xfrm_del_sa, xfrm_get_sa, xfrm_flush_sa, xfrm_get_sadinfo
        xfrm_add_policy                 verify_newpolicy_info -> xfrm_policy_construct
        xfrm_get_policy (and delete), xfrm_flush_policy, xfrm_get_spdinfo
    xfrm_compile_policy                 the policy of a socket (IP_XFRM_POLICY)
    km_notify                           the groups of `ip xfrm monitor`
    km_acquire                          a policy needs a state: notify a key manager

Structures are in xfrm_attrs.py; state is `net.xfrm`. The first state and the first policy with a
template load stack/xfrm.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from stack.core.rows import narrow, wide
from stack.core.uapi import AF_INET, AF_INET6, IP_XFRM_POLICY, IPV6_XFRM_POLICY
from stack.inet.xfrm_policy import (
    XFRM_MODE_TUNNEL,
    XFRM_POLICY_ALLOW,
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_MAX,
    XFRM_POLICY_OUT,
    xfrm_changed,
    xfrm_lifetime_cfg,
    xfrm_policy,
    xfrm_policy_delete,
    xfrm_policy_insert,
    xfrm_selector,
    xfrm_tmpl,
)
from stack.net import Net
from stack.netlink.af_netlink import (
    netlink_capable,
    netlink_dump_start,
    netlink_reply,
    nlmsg_notify,
    nlmsg_part,
)
from stack.netlink.netlink_sock import (
    NETLINK_XFRM,
    NLM_F_DUMP,
    NLMSG_HDRLEN,
    netlink_callback,
    netlink_protocol,
    nlmsg,
)
from stack.netlink.nlattr import Attrs, NlError
from stack.netlink.xfrm_attrs import (
    ADDRESS_FILTER,
    ALGO,
    ALGO_ICV,
    ENCAP,
    ID,
    LIFETIME_CFG,
    MARK,
    POLICY_ID_TAIL,
    POLICY_INFO_BYTES,
    POLICY_TAIL,
    POLICY_TYPE,
    REPLAY_ESN,
    REPLAY_STATE,
    SELECTOR,
    TMPL,
    USERSA_ID,
    USERSA_INFO_BYTES,
    USERSA_TAIL,
    USERSPI_RANGE,
    XFRMA,
    XFRMA_SAD,
    XFRMA_SPD,
    address,
    be,
    get_selector,
    get_tmpl,
    put_policy_info,
    put_selector,
    put_tmpl,
    put_usersa_info,
    raw_address,
)
from stack.xfrm.xfrm_input import XFRM_MAX_DEPTH, xfrm_init
from stack.xfrm.xfrm_replay import LOW, xfrm_replay
from stack.xfrm.xfrm_state import (
    IPPROTO_ESP,
    XFRM_STATE_AF_UNSPEC,
    XFRM_STATE_ESN,
    netns_xfrm_state,
    xfrm_algo,
    xfrm_encap_tmpl,
    xfrm_find_acq,
    xfrm_init_state,
    xfrm_state,
    xfrm_state_add,
    xfrm_state_delete,
    xfrm_state_lookup,
    xfrm_state_update,
)

NEWSA, DELSA, GETSA, NEWPOLICY, DELPOLICY, GETPOLICY = range(0x10, 0x16)
ALLOCSPI, ACQUIRE = 0x16, 0x17
EXPIRE, UPDPOLICY, UPDSA = 0x18, 0x19, 0x1A
FLUSHSA, FLUSHPOLICY = 0x1C, 0x1D
MAPPING = 0x20
NEWSADINFO, GETSADINFO, NEWSPDINFO, GETSPDINFO = 0x22, 0x23, 0x24, 0x25
SETDEFAULT, GETDEFAULT, LAST = 0x27, 0x28, 0x28
GROUP_ACQUIRE, GROUP_EXPIRE, GROUP_SA, GROUP_POLICY = 1, 2, 3, 4
GROUP_MAPPING = GROUPS = 8
XFRM_MODE_BEET, XFRM_MODE_IPTFS, XFRM_MODE_MAX = 4, 5, 6
AH, COMP, ROUTING, DSTOPTS = 51, 108, 43, 60
IPSEC_PROTO_ANY = 255
TMPL_PROTOS = (AH, IPPROTO_ESP, COMP, ROUTING, DSTOPTS)
XFRMA_REPLAY_ESN_MAX = 4096
"""Bits of a replay window (XFRMA_REPLAY_ESN_MAX)."""
U16, U32 = struct.Struct("=H"), struct.Struct("=I")
ACQUIRE_TAIL = struct.Struct("=IIII")
"""Algorithms that authenticate, encrypt and compress; the number of the state."""
FLAGS_BYTES = U32.size
SAD_BUCKETS, SAD_BUCKETS_MAX = 8, 1 << 20
SPD_MASK, SPD_BUCKETS_MAX = 7, 1 << 20
BITS = {AF_INET: (32, "IPv4"), AF_INET6: (128, "IPv6")}
ESP_NEEDS = (
    "Missing required attribute for ESP: at least one of AUTH, AUTH_TRUNC, CRYPT, AEAD",
    "Invalid attribute combination for ESP: AEAD can't be used with AUTH, AUTH_TRUNC, CRYPT",
)
DEFAULTS = {XFRM_POLICY_BLOCK: 1, XFRM_POLICY_ALLOW: 2}
"""XFRM_USERPOLICY_BLOCK, _ACCEPT of an action."""


def states(net: Net) -> list[xfrm_state]:
    """All states, from the newest to the oldest."""
    return list(reversed(net.xfrm.state.by_id.values())) if net.xfrm.state is not None else []


def table(net: Net) -> netns_xfrm_state:
    """The states of a namespace; load their module if needed."""
    if net.xfrm.state is None:
        xfrm_init(net.machine)
    found = net.xfrm.state
    assert found is not None
    if found.km is None:
        found.km, found.km_new_mapping = km_state_expired, km_new_mapping
        found.km_acquire = km_acquire
    return found


# --- dumping --------------------------------------------------------------------------------------


def put_algo(algo: xfrm_algo, *icv_bits: int) -> bytes:
    """struct xfrm_algo; with the bits of a check value xfrm_algo_auth, xfrm_algo_aead."""
    code = ALGO_ICV if icv_bits else ALGO
    return code.pack(algo.name.encode(), algo.key_bits, *icv_bits) + algo.key


def put_encap(encap: xfrm_encap_tmpl) -> bytes:
    """struct xfrm_encap_tmpl."""
    ports = (port.to_bytes(2, "big") for port in (encap.encap_sport, encap.encap_dport))
    return ENCAP.pack(encap.encap_type, *ports, encap.encap_oa)


def put_esn(x: xfrm_state) -> bytes:
    """struct xfrm_replay_state_esn."""
    r = x.replay
    words = (r.window + 31) // 32
    tail = r.oseq & LOW, r.seq & LOW, r.oseq >> 32, r.seq >> 32, r.window
    bitmap = struct.pack(f"={words}I", *esn_bitmap(r, words))
    return REPLAY_ESN.pack(words, *tail) + bitmap


def esn_bits(r: xfrm_replay) -> list[int]:
    """The place of each number of the window, from `seq` back, in the kernel's ring of bits.

    Number n is bit (n - 1) modulo the window.
    """
    return [narrow((r.seq - 1 - behind) % r.window) for behind in range(r.window)]


def esn_bitmap(r: xfrm_replay, words: int) -> list[int]:
    """The kernel's ring of bits."""
    found = [0] * words
    for behind, bit in enumerate(esn_bits(r)):
        if r.bitmap >> behind & 1:
            found[bit >> 5] |= 1 << (bit & 31)
    return found


def copy_to_user_state_extra(x: xfrm_state) -> bytes:
    """net/xfrm/xfrm_user.c: struct xfrm_usersa_info and all attributes."""
    r, aalg = x.replay, x.aalg
    icv = x.esp.icv_bytes * 8 if x.esp is not None else 0
    legacy = REPLAY_STATE.pack(r.oseq & LOW, r.seq & LOW, r.bitmap & LOW)
    esn = x.flags & XFRM_STATE_ESN or r.window > 32
    return put_usersa_info(x) + XFRMA.build(
        {
            "XFRMA_SA_EXTRA_FLAGS": x.extra_flags or None,
            "XFRMA_LASTUSED": x.lastused or None,
            "XFRMA_ALG_AEAD": put_algo(x.aead, icv) if x.aead is not None else None,
            "XFRMA_ALG_AUTH": put_algo(aalg) if aalg is not None else None,
            "XFRMA_ALG_AUTH_TRUNC": put_algo(aalg, icv) if aalg is not None else None,
            "XFRMA_ALG_CRYPT": put_algo(x.ealg) if x.ealg is not None else None,
            "XFRMA_ENCAP": put_encap(x.encap) if x.encap is not None else None,
            "XFRMA_MARK": MARK.pack(x.mark, x.mark_mask) if x.mark_mask or x.mark else None,
            "XFRMA_REPLAY_ESN_VAL": put_esn(x) if esn else None,
            "XFRMA_REPLAY_VAL": None if esn else legacy,
            "XFRMA_IF_ID": x.if_id or None,
            "XFRMA_SA_DIR": x.dir or None,
        }
    )


def put_policy(pol: xfrm_policy) -> bytes:
    """net/xfrm/xfrm_user.c dump_one_policy: struct xfrm_userpolicy_info and its attributes."""
    tmpls = b"".join(put_tmpl(tmpl) for tmpl in pol.xfrm_vec)
    return put_policy_info(pol) + XFRMA.build(
        {"XFRMA_TMPL": tmpls or None, "XFRMA_POLICY_TYPE": POLICY_TYPE.pack(pol.type, 0, 0)}
    )


def notify(net: Net, group: int, kind: int, payload: bytes) -> None:
    """net/xfrm/xfrm_user.c xfrm_nlmsg_multicast: with port and number of such a request."""
    by = net.nl_table.protocols[NETLINK_XFRM].asked
    portid, seq = (by.sk.portid, by.seq) if by is not None and by.type == kind else (0, 0)
    nlmsg_notify(net, NETLINK_XFRM, group, kind, payload, portid=portid, seq=seq)


def notify_sa(x: xfrm_state, kind: int) -> None:
    """net/xfrm/xfrm_user.c xfrm_notify_sa: a state was added, changed or removed."""
    payload = copy_to_user_state_extra(x)
    if kind == DELSA:
        ident = raw_address(x.daddr, x.family), x.spi.to_bytes(4, "big"), x.family, x.proto
        info, rest = payload[:USERSA_INFO_BYTES], payload[USERSA_INFO_BYTES:]
        payload = USERSA_ID.pack(*ident) + XFRMA.build({"XFRMA_SA": info}) + rest
    notify(x.net, GROUP_SA, kind, payload)


def notify_policy(net: Net, pol: xfrm_policy, kind: int) -> None:
    """net/xfrm/xfrm_user.c xfrm_notify_policy."""
    payload = put_policy(pol)
    if kind == DELPOLICY:
        ident = put_selector(pol.selector) + POLICY_ID_TAIL.pack(pol.index, pol.dir)
        info, rest = payload[:POLICY_INFO_BYTES], payload[POLICY_INFO_BYTES:]
        payload = ident + XFRMA.build({"XFRMA_POLICY": info}) + rest
    notify(net, GROUP_POLICY, kind, payload)


def km_state_expired(x: xfrm_state, hard: bool) -> None:
    """net/xfrm/xfrm_user.c xfrm_exp_state_notify: struct xfrm_user_expire."""
    notify(x.net, GROUP_EXPIRE, EXPIRE, put_usersa_info(x) + bytes((hard, *bytes(7))))
    if hard:
        notify_sa(x, DELSA)


def km_acquire(x: xfrm_state, tmpl: xfrm_tmpl, pol: xfrm_policy) -> bool:
    """net/xfrm/xfrm_user.c xfrm_send_acquire: struct xfrm_user_acquire. False: nobody listens."""
    if not x.net.nl_table.protocols[NETLINK_XFRM].listeners.get(GROUP_ACQUIRE):
        return False
    ident = ID.pack(raw_address(x.daddr, x.family), x.spi.to_bytes(4, "big"), x.proto)
    head = ident + raw_address(x.saddr, x.family) + put_selector(x.sel) + put_policy_info(pol)
    payload = head + ACQUIRE_TAIL.pack(tmpl.aalgos, tmpl.ealgos, tmpl.calgos, x.seq)
    tmpls = b"".join(put_tmpl(each) for each in pol.xfrm_vec)
    payload += XFRMA.build(
        {"XFRMA_TMPL": tmpls, "XFRMA_POLICY_TYPE": POLICY_TYPE.pack(pol.type, 0, 0)}
    )
    notify(x.net, GROUP_ACQUIRE, ACQUIRE, payload)
    return True


def km_new_mapping(x: xfrm_state, saddr: wide, sport: int) -> None:
    """net/xfrm/xfrm_user.c xfrm_send_mapping: struct xfrm_user_mapping."""
    assert x.encap is not None
    old, new = raw_address(x.saddr, x.family), raw_address(saddr, x.family)
    ident = raw_address(x.daddr, x.family), x.spi.to_bytes(4, "big"), x.family, x.proto
    ports = struct.pack(">HH", x.encap.encap_sport, sport)
    payload = USERSA_ID.pack(*ident) + U32.pack(x.reqid) + old + new + ports
    notify(x.net, GROUP_MAPPING, MAPPING, payload)


# --- states ---------------------------------------------------------------------------------------


def verify_selector(sel: xfrm_selector, unknown: str) -> None:
    """The prefix lengths of a selector. Raises: NlError EINVAL."""
    if sel.family not in BITS:
        raise NlError(errno.EINVAL, unknown)
    bits, name = BITS[sel.family]
    if sel.prefixlen_d > bits or sel.prefixlen_s > bits:
        text = f"Invalid prefix length in selector (must be <= {bits} for {name})"
        raise NlError(errno.EINVAL, text)


def verify_newsa_info(sel: xfrm_selector, family: int, proto: int, mode: int, tb: Attrs) -> None:
    """net/xfrm/xfrm_user.c: validate structure and attributes. Raises: NlError EINVAL."""
    if family not in BITS:
        raise NlError(errno.EINVAL, "Invalid address family")
    if sel.family:
        verify_selector(sel, "Invalid address family in selector")
    auth = any(name in tb for name in ("XFRMA_ALG_AUTH", "XFRMA_ALG_AUTH_TRUNC", "XFRMA_ALG_CRYPT"))
    if proto == IPPROTO_ESP:
        if "XFRMA_ALG_COMP" in tb:
            raise NlError(errno.EINVAL, "Invalid attribute for ESP: COMP")
        if not auth and "XFRMA_ALG_AEAD" not in tb:
            raise NlError(errno.EINVAL, ESP_NEEDS[0])
        if auth and "XFRMA_ALG_AEAD" in tb:
            raise NlError(errno.EINVAL, ESP_NEEDS[1])
        if "XFRMA_TFCPAD" in tb and mode != XFRM_MODE_TUNNEL:
            raise NlError(errno.EINVAL, "TFC padding can only be used in tunnel mode")
    elif proto not in TMPL_PROTOS:
        raise NlError(errno.EINVAL, "Unsupported protocol")
    if not 0 <= mode <= XFRM_MODE_IPTFS or mode == 3:
        raise NlError(errno.EINVAL, "Unsupported mode")


def get_algo(tb: Attrs, name: str, code: struct.Struct) -> xfrm_algo | None:
    """An algorithm of an attribute; None: absent. Raises: NlError EINVAL."""
    raw: bytes | None = tb.get(name)
    if raw is None:
        return None
    text, key_bits, *icv = code.unpack_from(raw)
    size = (key_bits + 7) // 8
    if len(raw) < code.size + size:
        what = name.removeprefix("XFRMA_ALG_")
        kind = "AUTH/CRYPT/COMP" if code is ALGO else what
        raise NlError(errno.EINVAL, f"Invalid {kind} attribute length")
    key = raw[code.size : code.size + size]
    algo = text.partition(b"\0")[0].decode("latin-1")
    return xfrm_algo(algo, key, key_bits, icv[0] if icv else -1)


def get_replay(tb: Attrs, flags: int, window: int) -> xfrm_replay:
    """net/xfrm/xfrm_user.c verify_replay, xfrm_alloc_replay_state_esn. Raises: NlError EINVAL."""
    raw: bytes | None = tb.get("XFRMA_REPLAY_ESN_VAL")
    if raw is None:
        if flags & XFRM_STATE_ESN:
            raise NlError(errno.EINVAL, "Missing required attribute for ESN")
        found = xfrm_replay()
        if "XFRMA_REPLAY_VAL" in tb:
            found.oseq, found.seq, found.bitmap = REPLAY_STATE.unpack_from(tb["XFRMA_REPLAY_VAL"])
        return found
    words, oseq, seq, oseq_hi, seq_hi, size = REPLAY_ESN.unpack_from(raw)
    if words > XFRMA_REPLAY_ESN_MAX // 32:
        raise NlError(errno.EINVAL, "ESN bitmap length must be <= 128")
    whole = len(raw) >= REPLAY_ESN.size + words * 4
    if not whole and len(raw) != REPLAY_ESN.size:
        raise NlError(errno.EINVAL, "ESN attribute is too short to fit the full bitmap length")
    if window:
        raise NlError(errno.EINVAL, "Replay window and ESN attribute cannot be given together")
    if size > words * 32:
        raise NlError(errno.EINVAL, "ESN replay window is too large for the chosen bitmap size")
    esn = bool(flags & XFRM_STATE_ESN)
    if esn and not size:
        raise NlError(errno.EINVAL, "ESN replay window must be > 0")
    found = xfrm_replay(size, esn)
    found.oseq, found.seq = oseq_hi << 32 | oseq, seq_hi << 32 | seq
    if whole:
        ring = struct.unpack_from(f"={words}I", raw, REPLAY_ESN.size)
        for behind, bit in enumerate(esn_bits(found)):
            found.bitmap |= (ring[bit >> 5] >> (bit & 31) & 1) << behind
    return found


def copy_from_user_state(net: Net, data: bytes, tb: Attrs) -> xfrm_state:
    """net/xfrm/xfrm_user.c: struct xfrm_usersa_info, and the selecting attributes. No keys."""
    at = SELECTOR.size
    daddr, spi, proto = ID.unpack_from(data, at)
    saddr = data[at + ID.size : at + ID.size + 16]
    at += ID.size + 16
    *_, seq, reqid, family, mode, window, flags = USERSA_TAIL.unpack_from(data, at + 96)
    ends = address(daddr, family), address(saddr, family)
    x = xfrm_state(net, family, *ends, be(spi), proto, mode, get_selector(data), reqid, flags)
    x.lft = xfrm_lifetime_cfg(*LIFETIME_CFG.unpack_from(data, at))
    x.seq, x.replay_window = seq, window
    x.dir, x.if_id = tb.get("XFRMA_SA_DIR", 0), tb.get("XFRMA_IF_ID", 0)
    if "XFRMA_MARK" in tb:
        x.mark, x.mark_mask = MARK.unpack_from(tb["XFRMA_MARK"])
        x.mark &= x.mark_mask
    return x


def xfrm_state_construct(net: Net, data: bytes, tb: Attrs) -> xfrm_state:
    """net/xfrm/xfrm_user.c: a state of struct xfrm_usersa_info. Raises: OSError."""
    x = copy_from_user_state(net, data, tb)
    verify_newsa_info(x.sel, x.family, x.proto, x.mode, tb)
    aead = get_algo(tb, "XFRMA_ALG_AEAD", ALGO_ICV)
    trunc = get_algo(tb, "XFRMA_ALG_AUTH_TRUNC", ALGO_ICV)
    plain = get_algo(tb, "XFRMA_ALG_AUTH", ALGO)
    ealg = get_algo(tb, "XFRMA_ALG_CRYPT", ALGO)
    if trunc is not None and not trunc.icv_bits:
        trunc.icv_bits = -1
    x.replay = get_replay(tb, x.flags, x.replay_window)
    if not x.sel.family and not x.flags & XFRM_STATE_AF_UNSPEC:
        x.sel = get_selector(data[:40] + U16.pack(x.family) + data[42:])
    x.extra_flags = tb.get("XFRMA_SA_EXTRA_FLAGS", 0)
    x.aead, x.aalg, x.ealg = aead, trunc if trunc is not None else plain, ealg
    if "XFRMA_ENCAP" in tb:
        kind, sport, dport, oa = ENCAP.unpack_from(tb["XFRMA_ENCAP"])
        x.encap = xfrm_encap_tmpl(kind, be(sport), be(dport), oa)
    for name in ("XFRMA_TFCPAD", "XFRMA_OFFLOAD_DEV", "XFRMA_COADDR"):
        if name in tb:
            raise tb.wrong(name, f"{name} is not supported", errno.EOPNOTSUPP)
    xfrm_init_state(x)
    return x


def xfrm_add_sa(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_NEWSA, _UPDSA. Raises: OSError EINVAL, ENOSYS, EPROTONOSUPPORT, EEXIST, ESRCH."""
    net = nlh.sk.net
    x = xfrm_state_construct(net, data, tb)
    table(net)
    if nlh.type == NEWSA:
        xfrm_state_add(x)
    else:
        xfrm_state_update(x)
    notify_sa(x, nlh.type)


def verify_spi_info(proto: int, low: int, high: int) -> None:
    """net/xfrm/xfrm_user.c: a range of SPIs. Raises: NlError EINVAL."""
    if proto not in (AH, IPPROTO_ESP, COMP):
        raise NlError(errno.EINVAL, "Invalid protocol, must be one of AH, ESP, IPCOMP")
    if proto == COMP and high > 0xFFFF:
        raise NlError(errno.EINVAL, "IPCOMP SPI must be <= 65535")
    if low > high:
        raise NlError(errno.EINVAL, "Invalid SPI range: min > max")


def xfrm_alloc_userspi(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_ALLOCSPI: a state without keys that keeps an SPI. Raises: OSError EINVAL, ENOENT."""
    x = copy_from_user_state(nlh.sk.net, data, tb)
    x.seq = x.flags = x.replay_window = 0  # the daemon sets these later
    low, high = USERSPI_RANGE.unpack_from(data, USERSA_INFO_BYTES)
    verify_spi_info(x.proto, low, high)
    if x.family not in BITS:
        raise NlError(errno.ENOENT, "Target ACQUIRE not found")
    table(x.net)
    bits = BITS[x.family][0]
    x.sel = xfrm_selector(x.family, x.saddr, bits, x.daddr, bits, sport_mask=0, dport_mask=0)
    xfrm_find_acq(x, low, high)
    netlink_reply(nlh, NEWSA, copy_to_user_state_extra(x))


def xfrm_user_state_lookup(net: Net, data: bytes) -> xfrm_state:
    """net/xfrm/xfrm_user.c: the state of struct xfrm_usersa_id. Raises: NlError ESRCH."""
    daddr, spi, family, proto = USERSA_ID.unpack_from(data)
    x = None
    if net.xfrm.state is not None:
        x = xfrm_state_lookup(net, address(daddr, family), be(spi), proto, family)
    if x is None:
        raise NlError(errno.ESRCH)
    return x


def xfrm_del_sa(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_DELSA. Raises: OSError ESRCH."""
    x = xfrm_user_state_lookup(nlh.sk.net, data)
    xfrm_state_delete(x)
    notify_sa(x, DELSA)


def xfrm_get_sa(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_GETSA. Raises: OSError ESRCH."""
    x = xfrm_user_state_lookup(nlh.sk.net, data)
    netlink_reply(nlh, NEWSA, copy_to_user_state_extra(x))


def xfrm_dump_sa(nlh: nlmsg) -> Iterator[bytes]:
    """XFRM_MSG_GETSA of all, or of a protocol and addresses. Such a request has no structure."""
    tb = XFRMA.parse(nlh.whole, NLMSG_HDRLEN)
    proto = tb.get("XFRMA_PROTO", 0)
    wanted = tb.get("XFRMA_ADDRESS_FILTER")
    for x in states(nlh.sk.net):
        if proto not in (0, IPSEC_PROTO_ANY, x.proto) or not (
            wanted is None or in_filter(x, ADDRESS_FILTER.unpack_from(wanted))
        ):
            continue
        yield nlmsg_part(nlh, NEWSA, copy_to_user_state_extra(x))


def in_filter(x: xfrm_state, wanted: tuple[bytes, bytes, int, int, int]) -> bool:
    """net/xfrm/xfrm_state.c __xfrm_state_filter_match: addresses in two prefixes."""
    saddr, daddr, family, splen, dplen = wanted
    if family not in BITS or x.family != family:
        return family not in BITS and not family
    bits = BITS[family][0]
    return (x.saddr ^ address(saddr, family)) >> max(bits - splen, 0) == 0 and (
        x.daddr ^ address(daddr, family)
    ) >> max(bits - dplen, 0) == 0


def xfrm_flush_sa(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_FLUSHSA: the states of a protocol, or all."""
    net, proto = nlh.sk.net, data[0]
    gone = [x for x in states(net) if proto in (0, IPSEC_PROTO_ANY, x.proto)]
    for x in gone:
        xfrm_state_delete(x)
    if gone:
        notify(net, GROUP_SA, FLUSHSA, bytes((proto,)))


def xfrm_get_sadinfo(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_GETSADINFO: how many states there are."""
    hinfo = struct.pack("=II", SAD_BUCKETS, SAD_BUCKETS_MAX)
    told = {"XFRMA_SAD_CNT": len(states(nlh.sk.net)), "XFRMA_SAD_HINFO": hinfo}
    netlink_reply(nlh, NEWSADINFO, data[:FLAGS_BYTES] + XFRMA_SAD.build(told))


# --- policies -------------------------------------------------------------------------------------


def verify_newpolicy_info(pol: xfrm_policy) -> None:
    """net/xfrm/xfrm_user.c: validate the structure. Raises: NlError EINVAL."""
    if pol.share > 3:
        raise NlError(errno.EINVAL, "Invalid policy share")
    if pol.action not in DEFAULTS:
        raise NlError(errno.EINVAL, "Invalid policy action")
    verify_selector(pol.selector, "Invalid selector family")
    verify_policy_dir(pol.dir)
    if pol.index and pol.index & 7 != pol.dir:
        raise NlError(errno.EINVAL, "Policy index doesn't match direction")


def verify_policy_dir(direction: int) -> None:
    """net/xfrm/xfrm_user.c. Raises: NlError EINVAL."""
    if direction >= XFRM_POLICY_MAX:
        raise NlError(errno.EINVAL, "Invalid policy direction")


def get_tmpls(raw: bytes, family: int, direction: int) -> tuple[xfrm_tmpl, ...]:
    """net/xfrm/xfrm_user.c copy_from_user_tmpl, validate_tmpl. Raises: NlError EINVAL."""
    count = len(raw) // TMPL.size
    if count > XFRM_MAX_DEPTH:
        raise NlError(errno.EINVAL, "Template count must be <= XFRM_MAX_DEPTH (6)")
    found, before = [], family
    for at in range(count):
        one = raw[at * TMPL.size : (at + 1) * TMPL.size]
        if not be(one[24:26]):
            one = one[:24] + U16.pack(family) + one[26:]
        tmpl = get_tmpl(one, 0)
        if tmpl.mode in (XFRM_MODE_TUNNEL, XFRM_MODE_BEET):
            if tmpl.optional and direction == XFRM_POLICY_OUT:
                text = "Mode in optional template not allowed in outbound policy"
                raise NlError(errno.EINVAL, text)
        elif tmpl.mode != XFRM_MODE_IPTFS and tmpl.family != before:
            raise NlError(errno.EINVAL, "Mode in template doesn't support a family change")
        if tmpl.mode >= XFRM_MODE_MAX:
            raise NlError(errno.EINVAL, "Mode in template must be < XFRM_MODE_MAX (6)")
        before = tmpl.family
        if tmpl.family not in BITS:
            raise NlError(errno.EINVAL, "Invalid family in template")
        if tmpl.proto not in TMPL_PROTOS:
            raise NlError(errno.EINVAL, "Invalid XFRM protocol in template")
        found.append(tmpl)
    return tuple(found)


def policy_type(tb: Attrs) -> int:
    """net/xfrm/xfrm_user.c copy_from_user_policy_type. Raises: NlError EINVAL."""
    kind: int = tb["XFRMA_POLICY_TYPE"][0] if "XFRMA_POLICY_TYPE" in tb else 0
    if kind:
        raise NlError(errno.EINVAL, "There are no sub-policies")
    return kind


def same(one: xfrm_selector, other: xfrm_selector) -> bool:
    """Whether two selectors are equal."""
    return put_selector(one) == put_selector(other)


def get_policy(data: bytes) -> xfrm_policy:
    """struct xfrm_userpolicy_info. Raises: NlError EINVAL."""
    at = SELECTOR.size
    priority, index, direction, action, flags, share = POLICY_TAIL.unpack_from(data, at + 96)
    pol = xfrm_policy(get_selector(data), direction, action, priority, (), index, flags, share)
    pol.lft = xfrm_lifetime_cfg(*LIFETIME_CFG.unpack_from(data, at))
    verify_newpolicy_info(pol)
    return pol


def xfrm_compile_policy(net: Net, family: int, optname: int, data: bytes) -> xfrm_policy:
    """net/xfrm/xfrm_user.c: the policy of a socket: the structure, then templates.

    Raises: OSError EOPNOTSUPP: an option of another family's; EINVAL.
    """
    if optname != (IP_XFRM_POLICY if family == AF_INET else IPV6_XFRM_POLICY):
        raise NlError(errno.EOPNOTSUPP)
    if len(data) < POLICY_INFO_BYTES:
        raise NlError(errno.EINVAL)
    pol = get_policy(data)
    pol.xfrm_vec = get_tmpls(data[POLICY_INFO_BYTES:], pol.selector.family, pol.dir)
    if pol.dir > XFRM_POLICY_OUT:
        raise NlError(errno.EINVAL)
    if pol.xfrm_vec:
        table(net)
    return pol


def xfrm_add_policy(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_NEWPOLICY, _UPDPOLICY. Raises: OSError EINVAL, EEXIST."""
    net = nlh.sk.net
    pol = get_policy(data)
    pol.type = policy_type(tb)
    pol.xfrm_vec = get_tmpls(tb.get("XFRMA_TMPL", b""), pol.selector.family, pol.dir)
    for old in net.xfrm.policy[pol.dir]:
        if same(old.selector, pol.selector):
            if nlh.type == NEWPOLICY:
                raise NlError(errno.EEXIST)
            xfrm_policy_delete(net, old)
            pol.index = old.index
            break
    if pol.xfrm_vec:
        table(net)
    xfrm_policy_insert(net, pol)
    notify_policy(net, pol, nlh.type)


def xfrm_get_policy(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_GETPOLICY, _DELPOLICY. Raises: OSError EINVAL, ENOENT."""
    net = nlh.sk.net
    sel = get_selector(data)
    index, direction = POLICY_ID_TAIL.unpack_from(data, SELECTOR.size)
    policy_type(tb)
    verify_policy_dir(direction)
    for pol in net.xfrm.policy[direction]:
        if pol.index == index if index else same(pol.selector, sel):
            break
    else:
        raise NlError(errno.ENOENT)
    if nlh.type == GETPOLICY:
        netlink_reply(nlh, NEWPOLICY, put_policy(pol))
        return
    xfrm_policy_delete(net, pol)
    notify_policy(net, pol, DELPOLICY)


def xfrm_dump_policy(nlh: nlmsg) -> Iterator[bytes]:
    """XFRM_MSG_GETPOLICY of all, from the newest to the oldest."""
    for pol in reversed(nlh.sk.net.xfrm.policy_all):
        yield nlmsg_part(nlh, NEWPOLICY, put_policy(pol))


def xfrm_flush_policy(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_FLUSHPOLICY."""
    net = nlh.sk.net
    policy_type(tb)
    gone = net.xfrm.policy_all
    for pol in gone:
        xfrm_policy_delete(net, pol)
    if gone:
        kind = XFRMA.build({"XFRMA_POLICY_TYPE": POLICY_TYPE.pack(0, 0, 0)})
        notify(net, GROUP_POLICY, FLUSHPOLICY, kind)


def xfrm_get_spdinfo(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_GETSPDINFO: how many policies there are."""
    counts = [len(chain) for chain in nlh.sk.net.xfrm.policy]
    told = {
        "XFRMA_SPD_INFO": struct.pack("=6I", *counts, 0, 0, 0),
        "XFRMA_SPD_HINFO": struct.pack("=II", SPD_MASK, SPD_BUCKETS_MAX),
        "XFRMA_SPD_IPV4_HTHRESH": bytes((32, 32)),
        "XFRMA_SPD_IPV6_HTHRESH": bytes((128, 128)),
    }
    netlink_reply(nlh, NEWSPDINFO, data[:FLAGS_BYTES] + XFRMA_SPD.build(told))


def xfrm_set_default(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_SETDEFAULT: the action for flows without policy; other values keep it."""
    xfrm = nlh.sk.net.xfrm
    actions = {number: action for action, number in DEFAULTS.items()}
    for at, direction in enumerate((0, 2, 1)):  # in, fwd, out
        if data[at] in actions:
            xfrm.default[direction] = actions[data[at]]
    xfrm_changed(nlh.sk.net)
    notify(nlh.sk.net, GROUP_POLICY, SETDEFAULT, put_default(nlh.sk.net))


def xfrm_get_default(nlh: nlmsg, data: bytes, tb: Attrs) -> None:
    """XFRM_MSG_GETDEFAULT."""
    netlink_reply(nlh, GETDEFAULT, put_default(nlh.sk.net))


def put_default(net: Net) -> bytes:
    """struct xfrm_userpolicy_default."""
    actions = (DEFAULTS[net.xfrm.default[direction]] for direction in (0, 2, 1))
    return bytes((*actions, 0))


# --- the protocol ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """The handler of a message; `size`: bytes of its structure."""

    size: int
    doit: Callable[[nlmsg, bytes, Attrs], None]
    dump: Callable[[nlmsg], Iterator[bytes]] | None = None


POLICY_ID_BYTES = SELECTOR.size + POLICY_ID_TAIL.size
MESSAGES = {
    NEWSA: Message(USERSA_INFO_BYTES, xfrm_add_sa),
    UPDSA: Message(USERSA_INFO_BYTES, xfrm_add_sa),
    ALLOCSPI: Message(USERSA_INFO_BYTES + USERSPI_RANGE.size, xfrm_alloc_userspi),
    DELSA: Message(USERSA_ID.size, xfrm_del_sa),
    GETSA: Message(USERSA_ID.size, xfrm_get_sa, xfrm_dump_sa),
    FLUSHSA: Message(1, xfrm_flush_sa),
    GETSADINFO: Message(FLAGS_BYTES, xfrm_get_sadinfo),
    NEWPOLICY: Message(POLICY_INFO_BYTES, xfrm_add_policy),
    UPDPOLICY: Message(POLICY_INFO_BYTES, xfrm_add_policy),
    DELPOLICY: Message(POLICY_ID_BYTES, xfrm_get_policy),
    GETPOLICY: Message(POLICY_ID_BYTES, xfrm_get_policy, xfrm_dump_policy),
    FLUSHPOLICY: Message(0, xfrm_flush_policy),
    GETSPDINFO: Message(FLAGS_BYTES, xfrm_get_spdinfo),
    SETDEFAULT: Message(3, xfrm_set_default),
    GETDEFAULT: Message(3, xfrm_get_default),
}


def xfrm_user_rcv_msg(nlh: nlmsg) -> None:
    """net/xfrm/xfrm_user.c: answer one request. Raises: OSError EINVAL, EPERM, EOPNOTSUPP."""
    if nlh.type > LAST:
        raise NlError(errno.EINVAL)
    if not netlink_capable(nlh.sk):
        raise NlError(errno.EPERM)
    message = MESSAGES.get(nlh.type)
    if message is None:
        raise NlError(errno.EOPNOTSUPP)
    if message.dump is not None and nlh.flags & NLM_F_DUMP:
        netlink_dump_start(nlh, netlink_callback(nlh, message.dump(nlh)))
        return
    if len(nlh.payload) < message.size:
        raise NlError(errno.EINVAL, "Invalid header length")
    tb = XFRMA.parse(nlh.whole, NLMSG_HDRLEN + (message.size + 3 & ~3))
    message.doit(nlh, nlh.payload[: message.size], tb)


def xfrm_user_net_init(net: Net) -> None:
    """net/xfrm/xfrm_user.c: NETLINK_XFRM in a namespace."""
    net.xfrm.compile_policy = partial(xfrm_compile_policy, net)
    net.nl_table.protocols[NETLINK_XFRM] = netlink_protocol(NETLINK_XFRM, GROUPS, xfrm_user_rcv_msg)
