"""stack/sysctl.py: what can be written, and what is refused as /proc/sys refuses it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import E1000Error
from e1000emu.links import pair
from stack.core.dev import dev_change_name, unregister_netdevice
from stack.core.devconf import devconf
from stack.core.rows import rows_of
from stack.core.sysctl_net_core import (
    NET_CORE,
    NET_UNIX,
    NET_VRF,
    NUMBER,
    PORTS,
    Sysctl,
    SysctlError,
)
from stack.core.sysctl_netfilter import NET_NETFILTER
from stack.host import Host
from stack.ipv4.devconf import CONF4_DIR, CONF4_ROWS, ipv4_devconf
from stack.ipv4.netns import in_dev_conf
from stack.ipv4.sysctl_names import SYSCTLS
from stack.ipv4.sysctl_net_ipv4 import NET_IPV4
from stack.ipv6.devconf import CONF6_ROWS, ipv6_devconf
from stack.ipv6.sysctl_net_ipv6 import ROWS_BY_ATTRIBUTE, netns_sysctl_ipv6
from stack.sched.sch_generic import qdisc_create_dflt
from stack.sysctl_fields import sysctl_fields

IN_CONF = ("ip_forward", *CONF4_ROWS)
"""Short names of what net.ipv4.conf keeps."""


def refused(write: Any) -> SysctlError:
    with pytest.raises(E1000Error) as info:
        write()
    assert isinstance(info.value, SysctlError)
    return info.value


def test_every_name_is_unique_by_its_last_part() -> None:
    assert len(SYSCTLS) == sum(map(len, (NET_CORE, NET_IPV4, NET_NETFILTER, NET_UNIX, NET_VRF)))


def test_an_unknown_name_is_refused_with_those_that_are_close(host: Host) -> None:
    for write in (
        lambda: Host(clock=VirtualClock(), sysctl={"tcp_sac": 0}),
        lambda: setattr(host.sysctl, "tcp_sac", 0),
        lambda: host.sysctl.__setitem__("net.ipv4.tcp_sac", 0),
        lambda: host.sysctl["tcp_sac"],
    ):
        error = refused(write)
        assert error.errno == errno.ENOENT
        assert "tcp_sack" in str(error)
    assert not hasattr(host.sysctl, "tcp_sac")
    with pytest.raises(SysctlError, match=r"docs/knobs\.md"):
        host.sysctl.colour = 1


def test_a_discipline_that_is_not_there_is_no_default(host: Host) -> None:
    error = refused(lambda: setattr(host.sysctl, "default_qdisc", "cake"))
    assert error.errno == errno.ENOENT
    assert "fq_codel" in str(error)


@pytest.mark.parametrize("kind", ["ingress", "netem"])
def test_a_discipline_that_cannot_be_the_default_is_left_out(host: Host, kind: str) -> None:
    """As on Linux it may be named, and an interface has none then."""
    host.sysctl.default_qdisc = kind
    dev = host.add_tap("tap0", pair(host.clock)[0])
    assert qdisc_create_dflt(dev).kind == "noqueue"


def test_a_name_in_the_wrong_directory_is_refused(host: Host) -> None:
    assert "net.ipv4.tcp_sack" in str(refused(lambda: host.sysctl["net.core.tcp_sack"]))


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("tcp_sack", "0", 0),
        ("tcp_sack", "255", 255),
        ("net.ipv4.tcp_sack", False, 0),
        ("net/ipv4/tcp_sack", 1, 1),
        ("net.ipv4.conf.all.rp_filter", 2, 2),
        ("net.ipv4.conf.default.rp_filter", 1, 1),
        ("icmp_ratemask", "0x18", 0x18),
        ("tcp_rmem", "4096\t65536 131072", (4096, 65536, 131072)),
        ("tcp_rmem", [4096, 65536, 131072], (4096, 65536, 131072)),
        ("ip_local_reserved_ports", "80,9000-9002\n", frozenset((80, 9000, 9001, 9002))),
        ("ip_local_reserved_ports", "", frozenset()),
        ("ip_local_reserved_ports", range(5, 7), frozenset((5, 6))),
        ("tcp_allowed_congestion_control", " cubic\treno\n", "cubic reno"),
    ],
)
def test_values_are_taken_as_sysctl_takes_them(
    host: Host, name: str, value: Any, stored: Any
) -> None:
    host.sysctl[name] = value
    assert host.sysctl[name] == stored
    other = Host(name="o", clock=VirtualClock(), drivers=False, sysctl={name: value})
    assert other.sysctl[name] == stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tcp_sack", 256),
        ("icmp_echo_ignore_all", 2),
        ("tcp_sack", -1),
        ("tcp_sack", 1.0),
        ("tcp_sack", "yes"),
        ("tcp_sack", None),
        ("ip_default_ttl", 0),
        ("ip_default_ttl", 256),
        ("ip_forward", 1 << 31),
        ("tcp_rmem", (4096, 65536)),
        ("tcp_rmem", 4096),
        ("tcp_rmem", (0, 1, 1)),
        ("rmem_max", 100),
        ("tcp_congestion_control", 3),
        ("tcp_congestion_control", "cubi"),
        ("tcp_allowed_congestion_control", "cubic cubi"),
        ("tcp_allowed_congestion_control", ["cubic"]),
        ("ip_local_port_range", (5000, 4000)),
        ("ip_local_port_range", (1000, 4000)),
        ("ip_unprivileged_port_start", 40000),
        ("ip_local_reserved_ports", "80,x"),
        ("ip_local_reserved_ports", [70000]),
        ("ipfrag_high_thresh", 1),
        ("ipfrag_low_thresh", 1 << 40),
    ],
)
def test_values_out_of_range_are_einval_and_change_nothing(
    host: Host, name: str, value: Any
) -> None:
    before = host.sysctl[name]
    error = refused(lambda: host.sysctl.__setitem__(name, value))
    assert error.errno in (errno.EINVAL, errno.ENOENT)
    assert name in str(error)
    assert repr(value) in str(error)
    assert host.sysctl[name] == before


def test_one_that_linux_keeps_without_effect_says_so(host: Host) -> None:
    with pytest.warns(UserWarning, match=r"tcp_adv_win_scale.*Linux 6\.6"):
        host.sysctl.tcp_adv_win_scale = 2
    assert refused(lambda: setattr(host.sysctl, "tcp_adv_win_scale", 40)).errno == errno.EINVAL


def test_an_interface_has_settings_of_its_own(host: Host) -> None:
    sysctl = host.sysctl
    sysctl["net.ipv4.conf.lo.rp_filter"] = "1"
    sysctl["net/ipv4/conf/lo/forwarding"] = 1
    cnf = host.dev("lo").ip_ptr.cnf
    assert (cnf.rp_filter, cnf.forwarding, sysctl.rp_filter, sysctl.ip_forward) == (1, 1, 0, 0)
    for name, value, said in (
        ("lo.rp_filte", 1, "rp_filter"),
        ("lo.tcp_sack", 1, "tcp_sack"),
        ("eth7.rp_filter", 1, "lo"),
        ("lo.rp_filter", "on", "any int"),
        ("lo.mc_forwarding", 1, "only read"),
    ):
        assert said in str(refused(lambda n=name, v=value: sysctl.__setitem__(CONF4_DIR + n, v)))
    assert "rp_filter" in str(refused(lambda: setattr(cnf, "rp_filte", 1)))


def test_a_short_name_is_written_everywhere_and_read_of_all(host: Host) -> None:
    host.sysctl.accept_redirects = 0
    assert {label: cnf.accept_redirects for label, cnf in host.sysctl.conf.items()} == {
        "all": 0,
        "default": 0,
        "lo": 0,
    }
    host.sysctl["net.ipv4.conf.lo.accept_redirects"] = 1
    assert host.sysctl.accept_redirects == 0


def test_forwarding_of_all_goes_everywhere(host: Host) -> None:
    """net/ipv4/devinet.c inet_forward_change: and a router obeys no redirects."""
    host.sysctl["net.ipv4.conf.all.forwarding"] = 1
    found = {
        label: (cnf.forwarding, cnf.accept_redirects) for label, cnf in host.sysctl.conf.items()
    }
    assert found == {"all": (1, 0), "default": (1, 1), "lo": (1, 1)}
    assert host.sysctl["net.ipv4.ip_forward"] == 1
    first = Host(clock=VirtualClock(), sysctl={"ip_forward": 1, "accept_redirects": 1})
    assert first.sysctl.accept_redirects == first.dev("lo").ip_ptr.cnf.forwarding == 1


def test_a_later_default_changes_what_nobody_has_set(host: Host) -> None:
    """net/ipv4/devinet.c devinet_copy_dflt_conf, ipv4_devconf_setall."""
    sysctl = host.sysctl
    host.add_tap("tap0", pair(host.clock)[0])
    host.add_tap("tap1", pair(host.clock)[0])
    sysctl["net.ipv4.conf.tap0.arp_ignore"] = 0
    host.ifconfig("tap1", "10.0.0.1/24")
    for name in ("arp_ignore", "arp_notify", "forwarding"):
        sysctl[f"net.ipv4.conf.default.{name}"] = 1
    told = {label: (c.arp_ignore, c.arp_notify, c.forwarding) for label, c in sysctl.conf.items()}
    assert told["tap0"] == (0, 1, 0)
    assert told["tap1"] == (0, 0, 0)
    assert told["default"] == (1, 1, 1)
    host.add_tap("tap2", pair(host.clock)[0])
    assert sysctl["net.ipv4.conf.tap2.arp_ignore"] == 1


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("rp_filter", {(0, 2): 2, (2, 1): 2, (0, 0): 0}),
        ("proxy_arp", {(1, 0): 1, (0, 1): 1, (0, 0): 0}),
        ("bc_forwarding", {(1, 0): 0, (0, 1): 0, (1, 1): 1}),
        ("proxy_arp_pvlan", {(1, 0): 1, (0, 1): 1}),
    ],
)
def test_what_holds_for_an_interface(
    host: Host, name: str, holds: dict[tuple[int, int], int]
) -> None:
    """include/linux/inetdevice.h: IN_DEV_MAXCONF, ORCONF, ANDCONF and CONF_GET."""
    for (every, own), wanted in holds.items():
        host.sysctl[f"net.ipv4.conf.all.{name}"] = every
        host.sysctl[f"net.ipv4.conf.lo.{name}"] = own
        assert in_dev_conf(host.dev("lo").ip_ptr, name) == wanted


def test_an_interface_takes_its_settings_along(host: Host) -> None:
    dev = host.add_tap("tap0", pair(host.clock)[0])
    host.sysctl["net.ipv4.conf.tap0.arp_ignore"] = 3
    dev_change_name(dev, "other")
    assert host.sysctl["net.ipv4.conf.other.arp_ignore"] == 3
    assert "tap0" not in host.sysctl.conf
    unregister_netdevice(dev)
    assert list(host.sysctl.conf) == ["all", "default", "lo"]


def test_an_interface_may_be_called_all(host: Host) -> None:
    """net/core/sysctl_net_core.c sysctl_dev_name_is_allowed: it has no settings to write then."""
    six = host.sysctl.ipv6.conf
    every, every6 = host.sysctl.conf["all"], six["all"]
    dev = host.add_tap("tap0", pair(host.clock)[0])
    assert dev_change_name(dev, "all") == 0
    other = host.add_tap("default", pair(host.clock)[0])
    assert (host.sysctl.conf["all"], six["all"]) == (every, every6)
    for each in (dev, other):
        unregister_netdevice(each)
    assert list(host.sysctl.conf) == list(six) == ["all", "default", "lo"]


def test_no_attribute_can_be_removed(host: Host) -> None:
    with pytest.raises(SysctlError, match="removed"):
        del host.sysctl.tcp_sack


def test_the_list_of_congestion_controls_is_only_read(host: Host) -> None:
    assert host.sysctl["net.ipv4.tcp_available_congestion_control"] == "reno cubic"
    for write in (
        lambda: setattr(host.sysctl, "tcp_available_congestion_control", "reno"),
        lambda: Host(clock=VirtualClock(), sysctl={"tcp_available_congestion_control": "reno"}),
    ):
        assert refused(write).errno == errno.EACCES
    assert host.sysctl.tcp_available_congestion_control == "reno cubic"


def field_type(knob: Sysctl) -> str:
    """The type under which the compiled stack keeps a knob's value."""
    if knob.kind != NUMBER:
        return "frozenset[int]" if knob.kind == PORTS else "str"
    return "int" if knob.count == 1 else f"tuple[{', '.join(['int'] * knob.count)}]"


def test_every_knob_has_a_field_of_its_type() -> None:
    for cls, knobs in (
        (sysctl_fields, {n: knob for n, knob in SYSCTLS.items() if n not in IN_CONF}),
        (netns_sysctl_ipv6, ROWS_BY_ATTRIBUTE),
        (ipv4_devconf, CONF4_ROWS),
        (ipv6_devconf, CONF6_ROWS),
    ):
        fields = {name: field.type for name, field in rows_of(cls).items()}
        for own in ("conf", "_written", "written", *rows_of(devconf)):
            fields.pop(own, None)
        assert fields == {name: field_type(knob) for name, knob in knobs.items()}
