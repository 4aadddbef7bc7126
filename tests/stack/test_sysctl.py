"""stack/sysctl.py: what can be written, and what is refused as /proc/sys refuses it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from e1000emu.clock import VirtualClock
from e1000emu.errors import E1000Error
from e1000emu.links import pair
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
from stack.ipv4.sysctl_names import SYSCTLS
from stack.ipv4.sysctl_net_ipv4 import NET_IPV4
from stack.ipv6.devconf import CONF_ROWS, ipv6_devconf
from stack.ipv6.sysctl_net_ipv6 import ROWS_BY_ATTRIBUTE, netns_sysctl_ipv6
from stack.sched.sch_generic import qdisc_create_dflt
from stack.sysctl_fields import sysctl_fields


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
        ("tcp_sack", 2),
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
    cnf = host.dev("lo").ip_ptr.cnf
    cnf["rp_filter"] = 1
    cnf["forwarding"] = 1
    assert cnf == {"rp_filter": 1, "forwarding": 1}
    assert "rp_filter" in str(refused(lambda: cnf.__setitem__("rp_filte", 1)))
    assert refused(lambda: cnf.__setitem__("tcp_sack", 1)).errno == errno.ENOENT
    assert refused(lambda: cnf.__setitem__("rp_filter", "on")).errno == errno.EINVAL


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
        (sysctl_fields, SYSCTLS),
        (netns_sysctl_ipv6, ROWS_BY_ATTRIBUTE),
        (ipv6_devconf, {knob.name: knob for knob in CONF_ROWS}),
    ):
        fields = {name: field.type for name, field in rows_of(cls).items()}
        for own in ("conf", "label", "_written"):
            fields.pop(own, None)
        assert fields == {name: field_type(knob) for name, knob in knobs.items()}
