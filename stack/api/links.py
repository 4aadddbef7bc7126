"""`ip link add` and similar commands: virtual devices, and the output of `ip` and `bridge`.

`Host` inherits from `Links`, so a program calls these methods on a host. Each takes the host's
lock, calls the kernel's function, and turns -errno into OSError:

    add_dummy, add_tap, add_veth            stack/drivers: dummy.py, tun.py, veth.py
    add_vlan                                stack/vlan: vlan_newlink
    add_macvlan, add_ipvlan                 stack/drivers: macvlan_common_newlink, ipvlan_link_new
    add_vrf                                 stack/drivers: vrf_newlink
    add_tunnel                              stack/tunnel: tunnel_newlink
    add_bridge, bridge_port                 stack/bridge: br_add_bridge, br_add_if ...
    add_bond                                stack/bonding: bond_create, bond_enslave
    fdb_add, fdb_del, fdb_flush             stack/bridge: the bridge's forwarding table
    set_master                              stack/netlink: do_set_master
    del_link                                rtnl_delete_link => rtnl_link_ops.dellink
    ip_link, bridge_link, bridge_fdb        functions that print, as `ip -d link` does

The file keeps no state; devices are in `net.dev_base_head`. A name such as "veth%d" gets a number.
Read add_veth first.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from math import inf
from types import NoneType

from fastpath.errors import ArgumentError, check_methods, check_type, real_number, whole_number
from stack.bonding.bond_main import bond_create, bond_enslave
from stack.bonding.bond_options import (
    CALLED,
    MODE_NAMES,
    OPTIONS,
    bond_opt_set_word,
    bond_option_primary_set,
)
from stack.bonding.bonding import BOND_LINK_UP, bond_slave_get, netif_is_bond_master
from stack.bridge.br_fdb import br_fdb_flush, fdb_add_entry, fdb_delete_entry, has_expired
from stack.bridge.br_if import br_add_bridge, br_add_if
from stack.bridge.br_private import (
    BR_BCAST_FLOOD,
    BR_BPDU_GUARD,
    BR_FLOOD,
    BR_GROUPFWD_RESTRICTED,
    BR_HAIRPIN_MODE,
    BR_ISOLATED,
    BR_LEARNING,
    BR_MCAST_FLOOD,
    BR_ROOT_BLOCK,
    BR_STATE_NAMES,
    br_port_get,
    net_bridge,
    net_bridge_port,
    netif_is_bridge_master,
)
from stack.bridge.br_stp_if import (
    br_set_ageing_time,
    br_set_forward_delay,
    br_set_hello_time,
    br_set_max_age,
    br_set_port_state,
    br_stp_set_bridge_priority,
    br_stp_set_enabled,
    br_stp_set_path_cost,
    br_stp_set_port_priority,
)
from stack.core import netdevice
from stack.core.dev import dev_close, dev_open, dev_set_mtu
from stack.core.errors import check, os_error
from stack.core.fib_rules import LAST_ID
from stack.core.netdevice import ETH_ALEN, flag_names, net_device
from stack.core.rtnetlink import rtnl_delete_link
from stack.core.time64 import NSEC_PER_SEC
from stack.core.uapi import AF_INET, NUD_NOARP, NUD_REACHABLE
from stack.drivers.dummy import dummy_newlink
from stack.drivers.ipvlan import IPVLAN_FLAG_NAMES, IPVLAN_MODE_NAMES, ipvlan_link_new
from stack.drivers.macvlan import macvlan_common_newlink
from stack.drivers.macvlan_dev import MACVLAN_MODE_NAMES
from stack.drivers.tun import Link, tun_set_iff
from stack.drivers.veth import veth_link_ops, veth_newlink
from stack.drivers.vrf import vrf_newlink
from stack.ipv4.fib import parse_addr
from stack.ipv6.addr import parse_addr6
from stack.net import Net, check_net
from stack.netlink.rt_link import do_set_master
from stack.tunnel.gre import GRE_CSUM, GRE_KEY, GRE_SEQ
from stack.tunnel.ip_tunnel import (
    IP6_TNL_F_IGN_ENCAP_LIMIT,
    IP6_TNL_F_USE_ORIG_TCLASS,
    KINDS,
    ip_tunnel_parm,
)
from stack.tunnel.tunnels import tunnel_newlink
from stack.vlan.vlan import vlan_newlink
from stack.vlan.vlan_dev import (
    VLAN_FLAG_LOOSE_BINDING,
    VLAN_FLAG_REORDER_HDR,
    is_vlan_dev,
    vlan_dev_priv,
    vlan_dev_set_egress_priority,
    vlan_dev_set_ingress_priority,
)

__all__ = ["Links", "bridge_fdb", "bridge_link", "ip_link"]

PROTOCOLS = {"802.1Q": netdevice.ETH_P_8021Q, "802.1ad": netdevice.ETH_P_8021AD}
PORT_FLAGS = {
    "hairpin": BR_HAIRPIN_MODE,
    "learning": BR_LEARNING,
    "flood": BR_FLOOD,
    "mcast_flood": BR_MCAST_FLOOD,
    "bcast_flood": BR_BCAST_FLOOD,
    "isolated": BR_ISOLATED,
    "guard": BR_BPDU_GUARD,
    "root_block": BR_ROOT_BLOCK,
}
"""The flags of a port, named as in `bridge link set`."""
MAX_CLOCK_S = 0xFFFFFFFF / 100
"""The most seconds of an attribute in clock ticks (u32, USER_HZ)."""
BR_TIMES = {
    "forward_delay": br_set_forward_delay,
    "hello_time": br_set_hello_time,
    "max_age": br_set_max_age,
}


class Links(Net):
    """The part of a Namespace that creates, connects and deletes virtual devices.

    A new device is down, as in Linux, unless `up` is given. Every method raises OSError with the
    kernel's errno, and ValueError for a name that is empty or has more than 15 characters.
    """

    __slots__ = ()

    def dev(self, name: str) -> net_device:
        """The interface called `name`. Raises: OSError: ENODEV."""
        check_type(self.name, "name", name, str, "an interface's name")
        dev = self.dev_by_name.get(name)
        if dev is None:
            known = ", ".join(self.dev_by_name)
            raise os_error(errno.ENODEV, f"{self.name}: no interface {name!r}; there are: {known}")
        return dev

    def add_dummy(self, name: str = "dummy%d", *, up: bool = False) -> net_device:
        """`ip link add NAME type dummy`: counts packets, and holds addresses."""
        _check_new("add_dummy", name)
        with self.lock:
            return _configured(dummy_newlink(self, name), up)

    def add_tap(
        self,
        name: str,
        link: Link,
        *,
        mac: bytes | None = None,
        mtu: int | None = None,
        up: bool = False,
    ) -> net_device:
        """`ip tuntap add NAME mode tap`, whose frames `link` (of e1000emu.links) carries.

        An interface without a NIC: no rings, no interrupts, no offloads. Raises: OSError: EEXIST.
        """
        _check_new("add_tap", name, mtu, mac=mac)
        takes = "a link, such as an end of e1000emu.links.pair()"
        check_methods("add_tap", "link", link, ("attach", "transmit"), takes)
        with self.lock:
            return _configured(tun_set_iff(self, name, link, mac), up, mtu)

    def add_veth(
        self,
        name: str = "veth%d",
        peer: str | tuple[Net, str] = "veth%d",
        *,
        mac: bytes | None = None,
        peer_mac: bytes | None = None,
        mtu: int | None = None,
        up: bool = False,
    ) -> net_device:
        """`ip link add NAME type veth peer name PEER [netns NET]`: a virtual wire.

        `peer`: the name of the other end, or its namespace (of this machine) and name. MTU and `up`
        are for both ends. Raises: OSError: EEXIST, EXDEV (another machine's namespace).
        """
        both = "its name, or a namespace and the name there"
        check_type("add_veth", "peer", peer, (str, tuple), both)
        other, other_name = peer if isinstance(peer, tuple) and len(peer) == 2 else (self, peer)
        check_net("add_veth", other)
        check_type("add_veth", "peer", other_name, str, both)
        _check_new("add_veth", name, mtu, mac=mac, peer_mac=peer_mac)
        with self.lock:
            dev = veth_newlink(self, name, other, other_name, mac, peer_mac)
            for end in (dev, dev.priv.peer):
                _configured(end, up, mtu)
            return dev

    def add_vlan(
        self,
        name: str,
        link: str | net_device,
        vlan_id: int,
        *,
        protocol: str = "802.1Q",
        mac: bytes | None = None,
        mtu: int | None = None,
        reorder_hdr: bool = True,
        loose_binding: bool = False,
        ingress_qos: dict[int, int] | None = None,
        egress_qos: dict[int, int] | None = None,
        up: bool = False,
    ) -> net_device:
        """`ip link add link LINK name NAME type vlan id ID [protocol 802.1ad]`.

        `ingress_qos` maps the tag's priority to skb.priority, `egress_qos` the other way. With
        `loose_binding` the VLAN does not follow its link up and down. Raises: OSError: ERANGE, no
        id of 0 to 4094; EEXIST; EPROTONOSUPPORT; EINVAL, an MTU above the link's; EOPNOTSUPP, the
        link is not Ethernet.
        """
        _check_new("add_vlan", name, mtu, mac=mac)
        vlan_id = whole_number("add_vlan", "vlan_id", vlan_id)
        check_type("add_vlan", "protocol", protocol, str, " or ".join(PROTOCOLS))
        ingress, egress = _qos_map("ingress_qos", ingress_qos), _qos_map("egress_qos", egress_qos)
        flags = (VLAN_FLAG_REORDER_HDR if reorder_hdr else 0) | (
            VLAN_FLAG_LOOSE_BINDING if loose_binding else 0
        )
        with self.lock:
            real = self._lower("add_vlan", link)
            proto = PROTOCOLS.get(protocol, 0)
            dev = vlan_newlink(self, name, real, vlan_id, proto, flags, mtu or 0, mac)
            for prio, skb_prio in ingress:
                vlan_dev_set_ingress_priority(dev, skb_prio, prio)
            for skb_prio, prio in egress:
                vlan_dev_set_egress_priority(dev, skb_prio, prio)
            return _configured(dev, up)

    def add_macvlan(
        self,
        name: str,
        link: str | net_device,
        mode: str = "vepa",
        *,
        sources: list[bytes] | None = None,
        mac: bytes | None = None,
        mtu: int | None = None,
        up: bool = False,
    ) -> net_device:
        """`ip link add link LINK name NAME type macvlan mode MODE`: another address on a device.

        `mode`: private, vepa, bridge, passthru, source; `sources` are the senders of mode source.
        `set_netns` moves it to another namespace. Raises: OSError: EEXIST; EBUSY, a bridge has the
        link; EINVAL, an MTU not of 68 to the link's, not Ethernet, passthru beside others.
        ArgumentError: unknown mode.
        """
        _check_new("add_macvlan", name, mtu, mac=mac)
        number = _number_of("add_macvlan", "mode", mode, MACVLAN_MODE_NAMES)
        with self.lock:
            lower = self._lower("add_macvlan", link)
            dev = macvlan_common_newlink(
                self, name, lower, number, mtu=mtu, mac=mac, sources=sources
            )
            return _configured(dev, up)

    def add_ipvlan(
        self,
        name: str,
        link: str | net_device,
        mode: str = "l3",
        flag: str = "bridge",
        *,
        mtu: int | None = None,
        up: bool = False,
    ) -> net_device:
        """`ip link add link LINK name NAME type ipvlan mode MODE FLAG`: addresses of one MAC.

        `mode`: l2, l3, l3s; `flag`: bridge, private, vepa; both for all slaves of the link from now
        on. `set_netns` moves it to another namespace. Raises: OSError: EEXIST; EBUSY, a bridge or
        macvlan has the link; EINVAL, not Ethernet, or an MTU not of 68 to 65535.
        ArgumentError: unknown mode or flag.
        """
        _check_new("add_ipvlan", name, mtu)
        number = _number_of("add_ipvlan", "mode", mode, IPVLAN_MODE_NAMES)
        flags = _number_of("add_ipvlan", "flag", flag, IPVLAN_FLAG_NAMES)
        with self.lock:
            lower = self._lower("add_ipvlan", link)
            return _configured(ipvlan_link_new(self, name, lower, number, flags, mtu), up)

    def add_vrf(
        self, name: str, table: int, *, mac: bytes | None = None, up: bool = True
    ) -> net_device:
        """`ip link add NAME type vrf table TABLE`: interfaces with their own routing table.

        `set_master` adds interfaces. Sockets join it by SO_BINDTODEVICE. Raises: OSError:
        EEXIST. ArgumentError: not a table number.
        """
        _check_new("add_vrf", name, mac=mac)
        table = whole_number("add_vrf", "table", table, 1, LAST_ID)
        with self.lock:
            return _configured(vrf_newlink(self, name, table, mac), up)

    def add_tunnel(
        self,
        name: str,
        kind: str,
        *,
        remote: str | None = None,
        local: str | None = None,
        link: str | net_device | None = None,
        ttl: int | None = None,
        tos: int | str = 0,
        key: int | None = None,
        csum: bool = False,
        seq: bool = False,
        pmtudisc: bool = True,
        ignore_df: bool = False,
        encap_limit: int | None = 4,
        mac: bytes | None = None,
        mtu: int | None = None,
        up: bool = False,
    ) -> net_device:
        """`ip link add NAME type KIND remote ADDR local ADDR ...`: encapsulate packets.

        `kind`: ipip, sit, gre, gretap (IPv4 outside), ip6tnl, ip6gre, ip6gretap (IPv6). `ttl` None:
        that of the inner packet, over IPv6 64. `tos`: a number or "inherit". `key`, `csum`, `seq`
        are for GRE. `ignore_df` needs `pmtudisc=False`. `encap_limit` None: no option (RFC 2473).
        Raises: OSError: EEXIST; EINVAL; ENODEV. ArgumentError: unknown kind, invalid address.
        """
        _check_new("add_tunnel", name, mtu, mac=mac)
        p = tunnel_parms(kind, remote, local, ttl, tos, key, csum, seq, encap_limit)
        p.pmtudisc, p.ignore_df = bool(pmtudisc), bool(ignore_df)
        if p.ignore_df and p.pmtudisc and KINDS[kind].family == AF_INET:
            raise os_error(errno.EINVAL, f"{name}: ignore_df without pmtudisc=False")
        with self.lock:
            if link is not None:
                p.link = self._lower("add_tunnel", link).ifindex
            return _configured(tunnel_newlink(self, name, kind, p, mac), up, mtu)

    def add_bridge(
        self,
        name: str = "br%d",
        ports: Iterable[str] = (),
        *,
        mac: bytes | None = None,
        ageing_time: float = 300,
        group_fwd_mask: int = 0,
        fdb_max_learned: int = 0,
        stp: bool = False,
        priority: int = 0x8000,
        forward_delay: float = 15,
        hello_time: float = 2,
        max_age: float = 20,
        up: bool = False,
    ) -> net_device:
        """`ip link add NAME type bridge`, with `ports` as its first ports; up also brings these up.

        `ageing_time`: seconds until a learned address expires; 0: none is learned.
        `group_fwd_mask`: bit n lets frames to 01:80:C2:00:00:0n through (3 to 15).
        `stp`: the spanning tree protocol prevents loops. The bridge with the lowest `priority`
        becomes the root, and its times are used. A port listens and learns for `forward_delay`
        seconds each (2 to 30). BPDUs are sent every `hello_time` (1 to 10). They expire after
        `max_age` (6 to 40).
        Raises: OSError: EEXIST; ERANGE, a mask with bits 0 to 2, or a time; the errors of
        `set_master`.
        """
        _check_new("add_bridge", name, mac=mac)
        check_type("add_bridge", "ports", ports, Iterable, "a list of interfaces' names")
        group_fwd_mask = whole_number("add_bridge", "group_fwd_mask", group_fwd_mask)
        if group_fwd_mask & BR_GROUPFWD_RESTRICTED or group_fwd_mask >> 16:
            raise os_error(errno.ERANGE, f"{name}: group_fwd_mask {group_fwd_mask:#x}")
        fdb_max_learned = whole_number(
            "add_bridge", "fdb_max_learned", fdb_max_learned, 0, 0xFFFFFFFF
        )
        priority = whole_number("add_bridge", "priority", priority, 0, 0xFFFF)
        ageing_ns = _bridge_time("ageing_time", ageing_time)
        given = {"forward_delay": forward_delay, "hello_time": hello_time, "max_age": max_age}
        times = {word: _bridge_time(word, value) for word, value in given.items()}
        with self.lock:
            devs = [self.dev(port) for port in ports]
            dev = br_add_bridge(self, name, mac)
            br: net_bridge = dev.priv
            br_set_ageing_time(br, ageing_ns)
            br.group_fwd_mask, br.fdb_max_learned = group_fwd_mask, fdb_max_learned
            with _deleted_on_error(dev):
                br_stp_set_enabled(br, stp)
                br_stp_set_bridge_priority(br, priority)
                for word, setter in BR_TIMES.items():
                    check(setter(br, times[word]), f"{dev.name}: {word} {given[word]}")
                for port in devs:
                    check(br_add_if(br, port), f"{port.name}: master {dev.name}")
                    if up:
                        check(dev_open(port), f"{port.name}: open")
            return _configured(dev, up)

    def add_bond(
        self,
        name: str = "bond%d",
        slaves: Iterable[str] = (),
        *,
        mode: str = "balance-rr",
        primary: str | None = None,
        mac: bytes | None = None,
        up: bool = False,
        **options: int | str,
    ) -> net_device:
        """`ip link add NAME type bond mode MODE`, with `slaves`, which are brought down first.

        `options` are those of Linux's bonding.rst: miimon=100, xmit_hash_policy="layer3+4".
        Raises: OSError: EEXIST; for an option EINVAL, EACCES (not in this mode), EOPNOTSUPP; the
        errors of `set_master`.
        """
        _check_new("add_bond", name, mac=mac)
        check_type("add_bond", "slaves", slaves, Iterable, "a list of interfaces' names")
        for option in options:
            if CALLED.get(option, option) not in OPTIONS:
                raise ArgumentError(f"add_bond: there is no option {option!r}")
        with self.lock:
            devs = [self.dev(one) for one in slaves]
            dev = bond_create(self, name, mac)
            with _deleted_on_error(dev):
                for option, value in {"mode": mode, **options}.items():
                    bond_opt_set_word(dev.priv, option, value)
                if primary is not None:
                    bond_option_primary_set(dev.priv, self.dev(primary))
                for one in devs:
                    dev_close(one)
                    bond_enslave(dev.priv, one)
            return _configured(dev, up)

    def set_master(self, name: str, master: str | None) -> None:
        """`ip link set NAME master BRIDGE`, of a bond or VRF too, or `nomaster` (None).

        The master that it has releases it first. Raises: OSError: ELOOP, it is a bridge; EINVAL, it
        is not Ethernet; EOPNOTSUPP, other `master`; EXFULL, too many ports. For a bond: EPERM, the
        new slave is up. For a VRF: EOPNOTSUPP for lo.
        """
        with self.lock:
            dev = self.dev(name)
            do_set_master(dev, 0 if master is None else self.dev(master).ifindex)

    def bridge_port(
        self,
        name: str,
        *,
        state: int | str | None = None,
        cost: int | None = None,
        priority: int | None = None,
        **flags: bool,
    ) -> None:
        """`bridge link set dev NAME [state STATE] [cost COST] [learning on|off] [flood ...] ...`.

        `state`: 0 to 4, or "disabled", "listening", "learning", "forwarding", "blocking"; without
        STP a blocking port forwards again at once. `cost`: path cost of the port, 1 to 65535;
        by default from the speed. `priority`: 0 to 63; with equal cost the lowest port leads to
        the root. `flags`: hairpin, learning, flood, mcast_flood, bcast_flood, isolated; guard, a
        BPDU disables the port; root_block, never a root port.
        Raises: OSError: EINVAL, not a bridge port; ENETDOWN; EBUSY, a state while STP runs;
        ERANGE, a cost or a priority.
        """
        with self.lock:
            p = self._port(name)
            for word, on in flags.items():
                bit = PORT_FLAGS.get(word)
                if bit is None:
                    known = ", ".join(PORT_FLAGS)
                    raise os_error(errno.EINVAL, f"{name}: no flag {word!r}; there are: {known}")
                p.flags = p.flags | bit if on else p.flags & ~bit
            for word, value, setter in (
                ("cost", cost, br_stp_set_path_cost),
                ("priority", priority, br_stp_set_port_priority),
            ):
                if value is not None:
                    value = whole_number("bridge_port", word, value, 0)
                    check(setter(p, value), f"{name}: {word} {value}")
            if state is not None:
                number = BR_STATE_NAMES.index(state) if state in BR_STATE_NAMES else state
                number = whole_number("bridge_port", "state", number)
                check(br_set_port_state(p, number), f"{name}: state {state}")

    def fdb_add(self, addr: str | bytes, name: str, *, static: bool = True) -> None:
        """`bridge fdb replace ADDR dev NAME master [static|dynamic]`. Raises: OSError: EINVAL."""
        with self.lock:
            p = self._port(name)
            state = NUD_NOARP if static else NUD_REACHABLE
            check(fdb_add_entry(p.br, p, _mac(addr), state), f"{name}: {addr!r}")

    def fdb_del(self, addr: str | bytes, name: str) -> None:
        """`bridge fdb del ADDR dev NAME master`. Raises: OSError: ENOENT."""
        with self.lock:
            p = self._port(name)
            check(fdb_delete_entry(p.br, p, _mac(addr)), f"{name}: {addr!r}")

    def fdb_flush(self, bridge: str) -> None:
        """`bridge fdb flush dev BRIDGE`: remove learned addresses."""
        with self.lock:
            br_fdb_flush(self._bridge(bridge))

    def del_link(self, name: str) -> None:
        """`ip link del NAME`; deletes also a veth's peer and a device's VLANs.

        Raises: OSError: ENODEV; EOPNOTSUPP, it is hardware, or `lo`.
        """
        with self.lock:
            check(rtnl_delete_link(self.dev(name)), f"{self.name}: delete {name}")

    def _lower(self, where: str, link: str | net_device) -> net_device:
        check_type(where, "link", link, (str, net_device), "an interface, or its name")
        return self.dev(link) if isinstance(link, str) else link

    def _bridge(self, name: str) -> net_bridge:
        dev = self.dev(name)
        if not netif_is_bridge_master(dev):
            raise os_error(errno.EOPNOTSUPP, f"{self.name}: {name} is no bridge")
        br: net_bridge = dev.priv
        return br

    def _port(self, name: str) -> net_bridge_port:
        p = br_port_get(self.dev(name))
        if p is None:
            raise os_error(errno.EINVAL, f"{self.name}: {name} is no port of a bridge")
        return p


def _check_new(where: str, name: str, mtu: int | None = None, **macs: bytes | None) -> None:
    """Raise ArgumentTypeError unless the name is text, the MTU an int and each address bytes."""
    check_type(where, "name", name, str, "text, such as eth%d")
    if mtu is not None:
        whole_number(where, "mtu", mtu, unit="bytes")
    for word, mac in macs.items():
        if mac is not None:
            check_type(where, word, mac, (bytes, bytearray), "six bytes")


def _number_of(where: str, word: str, name: str, numbers: Mapping[str, int]) -> int:
    """The number of a mode or flag. Raises: ArgumentError."""
    known = ", ".join(numbers)
    check_type(where, word, name, str, f"one of {known}")
    if name not in numbers:
        raise ArgumentError(f"{where}: no {word} {name!r}; there are: {known}")
    return numbers[name]


def _qos_map(word: str, given: dict[int, int] | None) -> list[tuple[int, int]]:
    """Check the pairs of priorities of add_vlan. Raises: ArgumentError."""
    check_type("add_vlan", word, given, (dict, NoneType), "a dict of priorities, such as {0: 5}")
    pairs = (given or {}).items()
    number = partial(whole_number, "add_vlan", word, low=0, high=0xFFFFFFFF)
    return [(number(key), number(value)) for key, value in pairs]


@contextmanager
def _deleted_on_error(dev: net_device) -> Iterator[None]:
    """An error in the block deletes the new device (net/core/rtnetlink.c rtnl_newlink_create)."""
    try:
        yield
    except Exception:
        rtnl_delete_link(dev)
        raise


def _configured(dev: net_device, up: bool, mtu: int | None = None) -> net_device:
    """Set a new device's MTU and bring it up; an error deletes it. Raises: OSError."""
    with _deleted_on_error(dev):
        if mtu is not None:
            check(dev_set_mtu(dev, mtu), f"{dev.name}: mtu {mtu}")
        if up:
            check(dev_open(dev), f"{dev.name}: open")
    return dev


def _bridge_time(word: str, seconds: float) -> int:
    """A bridge's time in nanoseconds. Raises: ArgumentError; OSError ERANGE."""
    seconds = real_number("add_bridge", word, seconds, -inf, inf, takes="a number of seconds")
    if not 0 <= seconds <= MAX_CLOCK_S:
        raise os_error(errno.ERANGE, f"add_bridge: {word} {seconds}")
    return int(seconds * NSEC_PER_SEC)


def tunnel_parms(
    kind: str,
    remote: str | None,
    local: str | None,
    ttl: int | None,
    tos: int | str,
    key: int | None,
    csum: bool,
    seq: bool,
    encap_limit: int | None,
) -> ip_tunnel_parm:
    """The arguments of add_tunnel as the kernel's structure. Raises: ArgumentError, OSError."""
    check_type("add_tunnel", "kind", kind, str, "ipip, gre ...")
    row = KINDS.get(kind)
    if row is None:
        raise ArgumentError(f"add_tunnel: no kind {kind!r}; there are: {', '.join(KINDS)}")
    p = ip_tunnel_parm()
    six = row.family != AF_INET
    for word, text in (("remote", remote), ("local", local)):
        if text is not None:
            check_type("add_tunnel", word, text, str, "an address, such as 10.0.0.1")
            setattr(p, word, parse_addr6(text) if six else parse_addr(text))
    if not row.gre:
        p.proto = 0 if six else row.protos[0]
    elif key is not None:
        p.i_key = p.o_key = whole_number("add_tunnel", "key", key, 0, 0xFFFFFFFF)
    flags = GRE_KEY if key is not None else 0
    flags |= (GRE_CSUM if csum else 0) | (GRE_SEQ if seq else 0)
    if flags and not row.gre:
        raise ArgumentError(f"add_tunnel: {kind} has no key, csum or seq")
    p.i_flags = p.o_flags = flags
    ttl = (64 if six else 0) if ttl is None else ttl
    p.ttl = whole_number("add_tunnel", "ttl", ttl, 0, 255)
    if tos == "inherit":
        p.tos, p.flags = (0, IP6_TNL_F_USE_ORIG_TCLASS) if six else (1, 0)
    else:
        p.tos = whole_number("add_tunnel", "tos", tos, 0, 255)
    if encap_limit is None:
        p.flags |= IP6_TNL_F_IGN_ENCAP_LIMIT
    else:
        p.encap_limit = whole_number("add_tunnel", "encap_limit", encap_limit, 0, 255)
    return p


def _mac(addr: str | bytes) -> bytes:
    try:
        mac = bytes.fromhex(addr.replace(":", "")) if isinstance(addr, str) else bytes(addr)
    except ValueError:
        mac = b""
    if len(mac) != ETH_ALEN:
        raise os_error(errno.EINVAL, f"no Ethernet address: {addr!r}")
    return mac


# --- what `ip` and `bridge` print ---------------------------------------------------------------


def ip_link(net: Net) -> str:
    """`ip -d link`, one or two lines for each interface: lower device, state, kind."""
    with net.lock:
        return "".join(_link(dev) for dev in net.dev_base_head)


def _link(dev: net_device) -> str:
    on = ""
    if _is_stacked(dev):
        on = "@" + _seen_from(dev, dev.lower[0])
    elif dev.rtnl_link_ops is veth_link_ops and dev.priv.peer is not None:
        on = "@" + _seen_from(dev, dev.priv.peer)
    flags = flag_names(dev)
    if dev.flags & netdevice.IFF_UP and dev.state & netdevice.LINK_STATE_NOCARRIER:
        flags = f"NO-CARRIER,{flags}"
    master = f" master {dev.master.name}" if dev.master is not None else ""
    kind = dev.qdisc.kind if dev.flags & netdevice.IFF_UP else "noop"
    text = f"{dev.ifindex}: {dev.name}{on}: <{flags}> mtu {dev.mtu} qdisc {kind}{master} state "
    addresses = f"{dev.dev_addr.hex(':')} brd {dev.broadcast.hex(':')}"
    return f"{text}{_operstate(dev)}\n    link/ether {addresses}\n{_details(dev)}"


def _seen_from(dev: net_device, other: net_device) -> str:
    return other.name if other.net is dev.net else f"if{other.ifindex}"


def _operstate(dev: net_device) -> str:
    if not dev.flags & netdevice.IFF_UP:
        return "DOWN"
    if not dev.state & netdevice.LINK_STATE_NOCARRIER:
        return "UP"
    return "LOWERLAYERDOWN" if _is_stacked(dev) else "DOWN"


def _is_stacked(dev: net_device) -> bool:
    """Whether it is a device on a lower device: a VLAN, a macvlan."""
    return bool(dev.lower) and not netif_is_bridge_master(dev)


def id_text(bridge_id: bytes) -> str:
    """A bridge's id in the format of `ip -d link`."""
    priority = int.from_bytes(bridge_id[:2], "big")
    return f"{priority:x}.{':'.join(f'{byte:x}' for byte in bridge_id[2:])}"


def _details(dev: net_device) -> str:
    if is_vlan_dev(dev):
        vlan: vlan_dev_priv = dev.priv
        protocol = "802.1Q" if vlan.vlan_proto == netdevice.ETH_P_8021Q else "802.1ad"
        reorder = "<REORDER_HDR>" if vlan.flags & VLAN_FLAG_REORDER_HDR else ""
        return f"    vlan protocol {protocol} id {vlan.vlan_id} {reorder}\n"
    if netif_is_bridge_master(dev):
        br: net_bridge = dev.priv
        return (
            f"    bridge forward_delay {br.forward_delay // 10**7} hello_time "
            f"{br.hello_time // 10**7} max_age {br.max_age // 10**7} ageing_time "
            f"{br.ageing_time // 10**7} stp_state {br.stp_enabled} priority "
            f"{int.from_bytes(br.bridge_id[:2], 'big')} bridge_id {id_text(br.bridge_id)} "
            f"designated_root {id_text(br.designated_root)} root_port {br.root_port} "
            f"root_path_cost {br.root_path_cost} topology_change {br.topology_change:d} "
            f"group_fwd_mask {br.group_fwd_mask:#x}\n"
        )
    if netif_is_bond_master(dev):
        params = dev.priv.params
        mode = next(name for name, number in MODE_NAMES.items() if number == params.mode)
        return f"    bond mode {mode} miimon {params.miimon}\n"
    text = ""
    if dev.rtnl_link_ops is not None:
        text = f"    {dev.rtnl_link_ops.kind}\n"
    one = bond_slave_get(dev)
    if one is not None:
        mii = "UP" if one.link == BOND_LINK_UP else "DOWN"
        text += f"    bond_slave state {'BACKUP' if one.backup else 'ACTIVE'} mii_status {mii}\n"
    p = br_port_get(dev)
    if p is not None:
        text += (
            f"    bridge_slave state {BR_STATE_NAMES[p.state]} priority {p.priority} "
            f"cost {p.path_cost} port_id {p.port_id:#x} port_no {p.port_no:#x}\n"
        )
    return text


def bridge_link(net: Net) -> str:
    """`bridge link`: the ports of all bridges and their states."""
    with net.lock:
        lines = []
        for dev in net.dev_base_head:
            p = br_port_get(dev)
            if p is not None:
                lines.append(
                    f"{dev.ifindex}: {dev.name}: <{flag_names(dev)}> mtu {dev.mtu} master "
                    f"{p.br.dev.name} state {BR_STATE_NAMES[p.state]} "
                    f"priority {p.priority} cost {p.path_cost}\n"
                )
        return "".join(lines)


def bridge_fdb(net: Net, bridge: str | None = None, *, statistics: bool = False) -> str:
    """`bridge [-s] fdb show [br BRIDGE]`: each address, its port, and state.

    `permanent`: of a port or of the bridge; `static`: set manually; `stale`: expired, removed
    soon. With `statistics` also the seconds since the last frame to and from it.
    """
    with net.lock:
        lines = []
        for dev in net.dev_base_head:
            if netif_is_bridge_master(dev) and bridge in (None, dev.name):
                lines += _fdb_lines(dev.priv, statistics)
        return "".join(lines)


def _fdb_lines(br: net_bridge, statistics: bool) -> list[str]:
    now = br.dev.machine.clock.now_ns()
    lines = []
    for fdb in br.fdb_hash.values():
        where = br.dev if fdb.dst is None else fdb.dst.dev
        line = f"{fdb.addr.hex(':')} dev {where.name} "
        if statistics:
            used, updated = ((now - at) // NSEC_PER_SEC for at in (fdb.used, fdb.updated))
            line += f"used {used}/{updated} "
        line += f"master {br.dev.name}"
        if fdb.is_local:
            line += " permanent"
        elif fdb.is_static:
            line += " static"
        elif has_expired(br, fdb):
            line += " stale"
        lines.append(line + "\n")
    return lines
