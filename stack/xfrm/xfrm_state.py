"""net/xfrm/xfrm_state.c: states (security associations) and their lifetimes.

    xfrm_init_state                         the cipher, by the algorithms' rows
    xfrm_state_add, xfrm_state_update       from netlink, after xfrm_init_state
    xfrm_state_lookup                       of a received packet: by address, SPI and protocol
    xfrm_find_acq                           an SPI for a daemon that negotiates the rest
    xfrm_state_find                         for a sent packet: by a policy's template
        xfrm_state_acquire                  there is none: request one (XFRM_MSG_ACQUIRE)
    xfrm_state_check_expire                 each packet: check its limits
    xfrm_timer_handler                      the limits of time

State: `net.xfrm.state`. Addresses, SPIs and sequence numbers are ints in host order.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from stack.core.errors import os_error
from stack.core.rows import narrow, row, state, wide
from stack.core.time64 import NSEC_PER_SEC
from stack.core.timer import TIMER_DEFERRABLE, mod_timer, timer_list, timer_shutdown
from stack.core.uapi import AF_INET, AF_INET6, IPV6_MIN_MTU
from stack.inet.espinudp import ESP_HLEN, UDP_ENCAP_ESPINUDP
from stack.inet.flow import flowi
from stack.inet.udp_flow import UDP_HLEN
from stack.inet.xfrm_policy import (
    XFRM_MODE_TRANSPORT,
    XFRM_MODE_TUNNEL,
    real_seconds,
    xfrm_changed,
    xfrm_lifetime_cfg,
    xfrm_lifetime_cur,
    xfrm_policy,
    xfrm_selector,
    xfrm_selector_match,
    xfrm_tmpl,
)
from stack.net import Net
from stack.xfrm.xfrm_algo import (
    AEADS,
    AUTHS,
    CRYPTS,
    Esp,
    esp_authenc,
    esp_gcm,
    xfrm_algo_desc,
    xfrm_find_algo,
)
from stack.xfrm.xfrm_replay import xfrm_replay

IPPROTO_ESP = 50

# include/net/xfrm.h
XFRM_STATE_ACQ, XFRM_STATE_VALID, XFRM_STATE_EXPIRED, XFRM_STATE_DEAD = 0, 1, 3, 5
XFRM_ACQ_EXPIRES = 30
"""Seconds that an SPI is kept during negotiation (sysctl xfrm_acq_expires)."""
# include/uapi/linux/xfrm.h
XFRM_STATE_NOECN = 1
XFRM_STATE_DECAP_DSCP = 2
XFRM_STATE_NOPMTUDISC = 4
XFRM_STATE_AF_UNSPEC = 32
XFRM_STATE_ESN = 128
XFRM_SA_XFLAG_DONT_ENCAP_DSCP = 1
XFRM_SA_XFLAG_OSEQ_MAY_WRAP = 2
XFRM_SA_DIR_IN, XFRM_SA_DIR_OUT = 1, 2
NO_TIME = 1 << 32
M32 = 0xFFFFFFFF
LEGACY_WINDOW = 32
"""Bits of xfrm_replay_state's bitmap."""
SPI_TRIES = 1 << 16
NO_SPI = "No SPI available in the requested range"
UNABLE = "Kernel was unable to initialize cryptographic operations"


@state
class xfrm_algo:
    """struct xfrm_algo_auth and _aead: what was set. `icv_bits` -1: the algorithm's own."""

    name: str
    key: bytes = b""
    key_bits: int = 0
    icv_bits: int = -1


@state
class xfrm_encap_tmpl:
    """struct xfrm_encap_tmpl: the UDP header around ESP (RFC 3948)."""

    encap_type: int
    encap_sport: int
    encap_dport: int
    encap_oa: bytes = b""
    """The address before NAT, as given; nothing reads it."""


@state
class xfrm_state:
    """struct xfrm_state: protection of packets between two addresses, one way.

    `sel.family` 0: it accepts any flow. `esp` is None until xfrm_init_state.
    """

    net: Net
    family: int
    daddr: wide
    saddr: wide
    spi: int
    proto: int
    mode: int
    sel: xfrm_selector
    reqid: int = 0
    flags: int = 0
    extra_flags: int = 0
    dir: int = 0
    """XFRM_SA_DIR_*; 0: both."""
    mark: int = 0
    mark_mask: int = 0
    if_id: int = 0
    aead: xfrm_algo | None = row()
    aalg: xfrm_algo | None = row()
    ealg: xfrm_algo | None = row()
    esp: Esp | None = row()
    encap: xfrm_encap_tmpl | None = row()
    replay: xfrm_replay = row(make=xfrm_replay)
    replay_window: int = row(0)
    """As given; the window itself is `replay.window`."""
    lft: xfrm_lifetime_cfg = row(make=xfrm_lifetime_cfg)
    curlft: xfrm_lifetime_cur = row(make=xfrm_lifetime_cur)
    lastused: int = row(0)
    """s since 1970, 0: never."""
    stats_replay_window: int = row(0)
    stats_replay: int = row(0)
    stats_integrity_failed: int = row(0)
    seq: int = row(0)
    km_state: int = row(XFRM_STATE_VALID)
    dying: bool = row(False)
    """A soft limit was reached; others are preferred."""
    timer: timer_list | None = row()


Key = tuple[wide, int, int, int]


@state
class netns_xfrm_state:
    """struct netns_xfrm: the states of a namespace, from the oldest to the newest."""

    by_id: dict[Key, xfrm_state] = row(make=dict)
    """By destination, SPI, protocol and family."""
    bundles: dict[tuple[wide, ...], object] = row(make=dict)
    """Of stack/xfrm/xfrm_output.py."""
    bundles_genid: int = row(0)
    km: Callable[[xfrm_state, bool], None] | None = row()
    """km_state_expired: report that a state reached a soft or (True) hard limit."""
    km_new_mapping: Callable[[xfrm_state, wide, int], None] | None = row()
    """Tell that the peer of a state with `encap` has another address or port."""
    km_acquire: Callable[[xfrm_state, xfrm_tmpl, xfrm_policy], bool] | None = row()
    """km_query: request the state of a template. False: there is no listener."""
    acqseq: int = row(0)
    """Number of the last requested state."""


def states_of(net: Net) -> netns_xfrm_state:
    """The states of a namespace whose module was loaded."""
    found = net.xfrm.state
    assert found is not None
    return found


def key_of(x: xfrm_state) -> Key:
    """The key of xfrm_state_lookup; a requested state's SPI is in no packet yet."""
    return x.daddr, x.spi or -x.seq, x.proto, x.family


def xfrm_state_lookup(
    net: Net, daddr: wide, spi: int, proto: int, family: int
) -> xfrm_state | None:
    """net/xfrm/xfrm_state.c: the state of a received packet."""
    return states_of(net).by_id.get((daddr, spi, proto, family))


def xfrm_state_find(
    net: Net, daddr: wide, saddr: wide, fl: flowi, tmpl: xfrm_tmpl, pol: xfrm_policy
) -> xfrm_state | None:
    """net/xfrm/xfrm_state.c: the state for a sent flow: the newest that is not dying.

    Without one a key manager is asked, unless a request is pending.
    """
    best: xfrm_state | None = None
    acquiring = False
    for x in states_of(net).by_id.values():
        if x.daddr != daddr or x.family != tmpl.family or (x.saddr and x.saddr != saddr):
            continue
        if x.mode != tmpl.mode or x.proto != tmpl.proto or x.reqid != tmpl.reqid:
            continue
        if tmpl.spi and tmpl.spi != x.spi:
            continue
        acquiring |= x.km_state == XFRM_STATE_ACQ
        if x.km_state != XFRM_STATE_VALID:
            continue
        if x.dir == XFRM_SA_DIR_IN or (fl.flowi_mark & x.mark_mask) != x.mark:
            continue
        if x.sel.family and not xfrm_selector_match(x.sel, fl, fl.flowi_oif):
            continue
        if best is None or (best.dying, -best.curlft.add_time) >= (x.dying, -x.curlft.add_time):
            best = x
    if best is None and not acquiring:
        xfrm_state_acquire(net, daddr, saddr, fl, tmpl, pol)
    return best


def xfrm_state_acquire(
    net: Net, daddr: wide, saddr: wide, fl: flowi, tmpl: xfrm_tmpl, pol: xfrm_policy
) -> None:
    """net/xfrm/xfrm_state.c xfrm_state_find: request a state from a key manager, within 30 s."""
    table = states_of(net)
    if table.km_acquire is None:
        return
    bits = 32 if fl.family == AF_INET else 128
    ends = fl.saddr, bits, fl.daddr, bits
    ports = fl.flowi_proto, fl.fl_sport, fl.fl_dport
    sel = xfrm_selector(fl.family, *ends, *ports, fl.flowi_oif)
    to, come = tmpl.daddr or daddr, tmpl.saddr or saddr
    x = xfrm_state(net, tmpl.family, to, come, tmpl.spi, tmpl.proto, tmpl.mode, sel, tmpl.reqid)
    table.acqseq = table.acqseq % M32 + 1
    x.seq, x.km_state = table.acqseq, XFRM_STATE_ACQ
    if table.km_acquire(x, tmpl, pol):
        x.lft = xfrm_lifetime_cfg(hard_add_expires_seconds=XFRM_ACQ_EXPIRES)
        xfrm_state_add(x)


def xfrm_acquired(x: xfrm_state) -> None:
    """net/xfrm/xfrm_state.c xfrm_state_add: a requested state was added."""
    for old in list(states_of(x.net).by_id.values()):
        if (
            old.km_state != XFRM_STATE_ACQ
            or old.spi
            or (old.proto, old.daddr) != (x.proto, x.daddr)
        ):
            continue
        same = (old.family, old.saddr, old.mode, old.reqid) == (x.family, x.saddr, x.mode, x.reqid)
        if same or (x.seq and old.seq == x.seq):
            xfrm_state_delete(old)
            return


def xfrm_state_add(x: xfrm_state) -> None:
    """net/xfrm/xfrm_state.c: a new state. Raises: OSError EEXIST."""
    table = states_of(x.net)
    if key_of(x) in table.by_id:
        raise os_error(errno.EEXIST)
    if table.acqseq and x.km_state != XFRM_STATE_ACQ:
        xfrm_acquired(x)
    x.curlft.add_time = real_seconds(x.net)
    table.by_id[key_of(x)] = x
    start_timer(x)
    xfrm_changed(x.net)


def xfrm_find_acq(x: xfrm_state, low: int, high: int) -> None:
    """net/xfrm/xfrm_state.c (with xfrm_alloc_spi): reserve a free SPI for a later state.

    `x` has no keys. It ends after 30 s. Raises: OSError ENOENT: no number from low to high is free.
    """
    net = x.net
    for _ in range(min(high - low + 1, SPI_TRIES)):
        spi = low if low == high else net.random.randrange(low, high + 1)
        if spi and xfrm_state_lookup(net, x.daddr, spi, x.proto, x.family) is None:
            break
    else:
        raise os_error(errno.ENOENT, NO_SPI)
    x.spi = spi
    x.km_state = XFRM_STATE_ACQ
    x.lft = xfrm_lifetime_cfg(hard_add_expires_seconds=XFRM_ACQ_EXPIRES)
    xfrm_state_add(x)


def xfrm_state_update(x: xfrm_state) -> None:
    """net/xfrm/xfrm_state.c: change limits and selector. Raises: OSError ESRCH."""
    old = states_of(x.net).by_id.get(key_of(x))
    if old is None:
        raise os_error(errno.ESRCH)
    if old.km_state == XFRM_STATE_ACQ:
        xfrm_state_delete(old)
        xfrm_state_add(x)
        return
    old.lft = x.lft
    if x.sel.family:
        old.sel = x.sel
    old.dying = False
    start_timer(old)
    xfrm_state_check_expire(old)
    xfrm_changed(x.net)


def xfrm_state_delete(x: xfrm_state) -> None:
    """net/xfrm/xfrm_state.c: delete the state."""
    states_of(x.net).by_id.pop(key_of(x), None)
    x.km_state = XFRM_STATE_DEAD
    if x.timer is not None:
        timer_shutdown(x.timer)
    xfrm_changed(x.net)


def xfrm_init_state(x: xfrm_state) -> None:
    """net/xfrm/xfrm_state.c (with esp_init_state): create the cipher and the replay window.

    Raises: OSError EPROTONOSUPPORT, EINVAL, ENOSYS: `cryptography` is missing.
    """
    if x.proto != IPPROTO_ESP:
        raise os_error(errno.EPROTONOSUPPORT, "Requested type not found")
    if x.encap is not None and x.encap.encap_type != UDP_ENCAP_ESPINUDP:
        raise os_error(errno.EINVAL, "Unsupported encapsulation type for ESP")
    if x.mode not in (XFRM_MODE_TRANSPORT, XFRM_MODE_TUNNEL):
        raise os_error(errno.EPROTONOSUPPORT, "Requested mode not found")
    if x.aead is not None:
        aead = algo_of(AEADS, x.aead, "AEAD")
        if x.aead.icv_bits not in aead.icv:
            raise os_error(errno.EINVAL, UNABLE)
        x.esp = esp_gcm(x.aead.key, x.aead.icv_bits)
    elif x.ealg is None:
        raise os_error(errno.EINVAL, "A cipher must be provided")
    else:
        auth, auth_key = None, b""
        if x.aalg is not None:
            auth, auth_key = algo_of(AUTHS, x.aalg, "AUTH"), x.aalg.key
            if x.aalg.icv_bits < 0:
                x.aalg.icv_bits = auth.icv[0]
            if x.aalg.icv_bits > auth.icv[-1]:
                raise os_error(errno.EINVAL, "Invalid length requested for truncated ICV")
        crypt = algo_of(CRYPTS, x.ealg, "CRYPT")
        icv_bits = x.aalg.icv_bits if x.aalg is not None else 0
        x.esp = esp_authenc(crypt, x.ealg.key, auth, auth_key, icv_bits)
    if not x.replay.window:
        x.replay.window = min(x.replay_window, LEGACY_WINDOW)


def algo_of(rows: tuple[xfrm_algo_desc, ...], given: xfrm_algo, kind: str) -> xfrm_algo_desc:
    """The requested algorithm. Raises: OSError ENOSYS; EINVAL: its key's size."""
    found = xfrm_find_algo(rows, given.name)
    if found is None:
        raise os_error(errno.ENOSYS, f"Requested {kind} algorithm not found")
    if found.keys and given.key_bits not in found.keys:
        raise os_error(errno.EINVAL, UNABLE)
    return found


# --- lifetimes ------------------------------------------------------------------------------------


def start_timer(x: xfrm_state) -> None:
    """Arm the timer of a state that has limits of time."""
    lft = x.lft
    if (
        lft.soft_add_expires_seconds
        or lft.hard_add_expires_seconds
        or lft.soft_use_expires_seconds
        or lft.hard_use_expires_seconds
    ):
        arm_timer(x, NSEC_PER_SEC)


def arm_timer(x: xfrm_state, delay_ns: int) -> None:
    """Have the state's limits of time checked in `delay_ns`."""
    if x.timer is None:
        x.timer = timer_list(x.net.machine, xfrm_timer_handler, TIMER_DEFERRABLE, x)
    mod_timer(x.timer, x.net.clock.now_ns() + delay_ns)


def left(x: xfrm_state, add: wide, use: wide, now: int) -> wide:
    """Seconds to the earlier of two limits."""
    found: wide = NO_TIME
    if add:
        found = add + x.curlft.add_time - now
    if use:
        found = min(found, use + (x.curlft.use_time or now) - now)
    return found


def xfrm_timer_handler(timer: timer_list) -> None:
    """net/xfrm/xfrm_state.c: a limit of time may have been reached."""
    x: xfrm_state = timer.data
    now = real_seconds(x.net)
    lft = x.lft
    hard = left(x, lft.hard_add_expires_seconds, lft.hard_use_expires_seconds, now)
    if hard <= 0 or x.km_state == XFRM_STATE_EXPIRED:
        xfrm_state_delete(x)
        km_state_expired(x, True)
        return
    if not x.dying:
        soft = left(x, lft.soft_add_expires_seconds, lft.soft_use_expires_seconds, now)
        if soft <= 0:
            x.dying = True
            xfrm_changed(x.net)
            km_state_expired(x, False)
        else:
            hard = min(hard, soft)
    if hard != NO_TIME:
        mod_timer(timer, x.net.clock.now_ns() + narrow(min(hard, NO_TIME)) * NSEC_PER_SEC)


def km_state_expired(x: xfrm_state, hard: bool) -> None:
    """net/xfrm/xfrm_state.c: notify listeners."""
    km = states_of(x.net).km
    if km is not None:
        km(x, hard)


def xfrm_state_check_expire(x: xfrm_state) -> bool:
    """net/xfrm/xfrm_state.c: check the limits for another packet. False: hard limit reached."""
    cur, lft = x.curlft, x.lft
    if not cur.use_time:
        cur.use_time = real_seconds(x.net)
    if cur.bytes >= lft.hard_byte_limit or cur.packets >= lft.hard_packet_limit:
        x.km_state = XFRM_STATE_EXPIRED
        arm_timer(x, 0)
        return False
    if not x.dying and (cur.bytes >= lft.soft_byte_limit or cur.packets >= lft.soft_packet_limit):
        x.dying = True
        xfrm_changed(x.net)
        km_state_expired(x, False)
    return True


def xfrm_state_used(x: xfrm_state, size: int) -> None:
    """A packet used the state; `size` in bytes, without ESP's overhead."""
    x.curlft.bytes += size
    x.curlft.packets += 1
    x.lastused = real_seconds(x.net)


# --- sizes ----------------------------------------------------------------------------------------


def header_len(x: xfrm_state) -> int:
    """x->props.header_len: bytes before the payload that the state adds."""
    assert x.esp is not None
    size = ESP_HLEN + x.esp.iv_bytes
    if x.mode == XFRM_MODE_TUNNEL:
        size += 20 if x.family == AF_INET else 40
    if x.encap is not None:
        size += UDP_HLEN
    return size


def xfrm_state_mtu(x: xfrm_state, mtu: int) -> int:
    """net/xfrm/xfrm_state.c: the largest payload for a packet of `mtu` bytes."""
    assert x.esp is not None
    block = max(x.esp.block, 4)
    kept = 0 if x.mode == XFRM_MODE_TUNNEL else 20 if x.family == AF_INET else 40
    room = mtu - header_len(x) - x.esp.icv_bytes - kept
    mtu = (room & -block) + kept - 2
    return max(mtu, IPV6_MIN_MTU) if x.family == AF_INET6 else mtu
