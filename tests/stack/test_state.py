"""No dead state in the stack: fields, counters, drop reasons and functions that something uses.

Uses are found by name in the sources of `stack`, `fastpath` and `e1000emu`, so a field hides behind
one of the same name in another class. What is there without a use stands in a list below, each with
its reason; an entry that has got a use fails too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
XFRM = "no step of IPsec here can fail so; a column of /proc/net/xfrm_stat"
TCP_AO = "TCP-AO is not here; a column of /proc/net/netstat"
OLD_SLOT = "a slot that older Linux had, which drawings of its stack show"

UNREAD: dict[str, str] = {
    "e1000_adapter.hw_errors": "failures that the driver survived; tests look at it",
    "e1000_adapter.tx_hang_count": "what e1000_tx_timeout was called for; tests look at it",
    "irq_desc.unhandled": "/proc/irq/N/spurious of Linux; tests look at it",
    "Net.arp_conflicts": "addresses that another host claimed; tests look at it",
    "nd_state.ra_refused": "what router advertisements gave beyond the limits; tests look at it",
    "neigh_parms.anycast_delay": "told and set by name; nothing waits for it on Linux, either",
    "proto.clear_sk": OLD_SLOT,
    "proto.compat_getsockopt": OLD_SLOT,
    "proto.compat_setsockopt": OLD_SLOT,
    "proto.destroy_cgroup": OLD_SLOT,
    "proto.init_cgroup": OLD_SLOT,
    "proto.proto_cgroup": OLD_SLOT,
    "proto_ops.compat_getsockopt": OLD_SLOT,
    "proto_ops.compat_ioctl": OLD_SLOT,
    "proto_ops.compat_setsockopt": OLD_SLOT,
}
"""Fields that nothing reads, by class and name."""

BY_NAME = {
    "e1000_hw_stats": "e1000_update_stats adds to its members by name",
    "sysctl_fields": "sysctls are read by name; tests/stack/knobs shows what each does",
    "netns_sysctl_ipv6": "the same",
    "ipv4_devconf": "the same",
    "bond_params": "options are set and told by name; tests/programs/test_bond.py does both",
}
"""Classes whose fields are reached by name."""

UNMOVED: dict[str, str] = {
    "linux_mib.TCPBacklogCoalesce": "segments of the backlog are not merged",
    "linux_mib.TCPSackMerged": "the scoreboard keeps ranges, so no packets are merged",
    "linux_mib.TCPSackShiftFallback": "the scoreboard keeps ranges, so nothing is shifted",
    "linux_mib.PFMemallocDrop": "no memory is reserved for swapping over the network",
    "linux_mib.TCPSpuriousRtxHostQueues": "queues of the host are not searched for the original",
    "linux_mib.BusyPollRxPackets": "there is no busy polling",
    "linux_mib.TCPHystartTrainDetect": "HyStart++ (RFC 9406) looks at the delay only",
    "linux_mib.TCPHystartTrainCwnd": "HyStart++ (RFC 9406) looks at the delay only",
    "linux_mib.TcpTimeoutRehash": "flows have no hash of their own that could change their path",
    "linux_mib.TcpDuplicateDataRehash": "flows have no hash of their own",
    "linux_mib.TCPPLBRehash": "flows have no hash of their own",
    "linux_mib.TCPMigrateReqSuccess": "requests do not move between listeners of a port",
    "linux_mib.TCPMigrateReqFailure": "requests do not move between listeners of a port",
    "udp_mib.MemErrors": "UDP sockets share no memory limit that refuses (udp_mem)",
    "tcp_mib.RtoAlgorithm": "a constant",
    "tcp_mib.RtoMin": "a constant",
    "tcp_mib.RtoMax": "a constant",
    "tcp_mib.MaxConn": "a constant",
    **dict.fromkeys(
        (f"linux_mib.TCPAO{n}" for n in ("Required", "Bad", "KeyNotFound", "Good", "DroppedIcmps")),
        TCP_AO,
    ),
    **dict.fromkeys(
        (
            f"xfrm_mib.Xfrm{n}"
            for n in (
                *("InPolError", "OutBundleGenError", "OutBundleCheckError"),
                *("OutStateProtoError", "OutPolDead", "OutPolError"),
                *("OutStateDirError", "InIptfsError", "OutNoQueueSpace"),
            )
        ),
        XFRM,
    ),
}
"""Counters that nothing moves, by class and name. They are columns of files that Linux prints."""

ICMP_BY_TYPE = re.compile(r"(In|Out)(?!Msgs|Errors|CsumErrors|RateLimit)\w+")
"""Counters of icmp_mib that are moved by the name of the type."""

UNNAMED: dict[str, str] = {
    **dict.fromkeys(
        ("netdev_priv", "napi_complete", "sock_sendmsg_nosec", "sock_recvmsg_nosec"),
        "a name of Linux's drawings, beside the function that runs",
    ),
    **dict.fromkeys(
        (
            *("sys_epoll_create", "sys_epoll_pwait", "sys_epoll_pwait2", "sys_dup2"),
            *("sys_ppoll", "sys_select", "sys_pselect6"),
        ),
        "a system call, for programs that are ported",
    ),
    **dict.fromkeys(
        (
            *("unregister_security", "inet_del_protocol", "inet6_del_protocol"),
            *("inet_unregister_protosw", "tcp_unregister_congestion_control"),
            *("e1000_exit_module", "xfrm_policy_flush"),
        ),
        "for modules and applications outside the stack",
    ),
    **dict.fromkeys(
        (
            *("disable_irq", "enable_irq"),
            *("local_irq_disable", "local_irq_enable", "add_timer"),
            *("in_softirq", "pci_enable_device_mem"),
            *("pci_pm_suspend", "pci_pm_resume"),
        ),
        "for drivers and tests, which use the layer without the stack above",
    ),
    **dict.fromkeys(("duid_en", "duid_llt", "duid_uuid"), "for applications: Dhcp6Runner(duid=)"),
    "tcp_info_dict": "for applications (docs/congestion.md)",
    "transitions_dot": "for readers: TCP's table of states as a drawing",
}
"""Functions that only tests name, or nobody."""

PUBLIC = {
    *(ROOT / f"stack/{name}.py" for name in ("host", "core/ethtool")),
    *(ROOT / f"stack/api/{name}.py" for name in ("aio", "socket", "links", "netns")),
    *(ROOT / f"stack/api/{name}.py" for name in ("select", "tls", "unistd")),
}
"""Modules whose methods applications call."""

EXPLAINED = {
    *("sock", "inet_sock", "tcp_sock", "udp_sock", "net_device", "request_sock"),
    *("dst_entry", "neighbour", "proto"),
}


@cache
def trees() -> dict[Path, ast.Module]:
    return {
        path: ast.parse(path.read_text())
        for package in ("stack", "fastpath", "e1000emu")
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def is_state(node: ast.ClassDef) -> bool:
    for decorator in node.decorator_list:
        name = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(name, ast.Name) and name.id == "state":
            return True
    return False


def state_classes() -> Iterator[ast.ClassDef]:
    for path, tree in trees().items():
        if path.is_relative_to(ROOT / "stack"):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and is_state(node):
                    yield node


def fields_of(node: ast.ClassDef) -> Iterator[tuple[str, ast.AnnAssign]]:
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            yield line.target.id, line


@cache
def uses() -> tuple[set[str], set[str], set[str]]:
    """The attributes that are read, those that are written, and all names and words in strings."""
    read: set[str] = set()
    written: set[str] = set()
    named: set[str] = set()
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                (read if isinstance(node.ctx, ast.Load) else written).add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                named.add(node.id)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if re.fullmatch(r"[\w.]+", node.value):
                    named.update(node.value.split("."))
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in OPTION_ROWS:
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                read.update(words[1:2])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "fields":
                read.update(a.value for a in node.args if isinstance(a, ast.Constant))
            elif isinstance(node, ast.MatchClass):
                read.update(node.kwd_attrs)
    for path in (ROOT / "fastpath").glob("*/*.pyx"):
        read.update(re.findall(r"\.(\w+)", path.read_text()))
    return read, written, named


def shown_by_ss(line: ast.AnnAssign) -> bool:
    return isinstance(line.value, ast.Call) and any(k.arg == "ss" for k in line.value.keywords)


def is_counters(name: str) -> bool:
    return name.endswith("_mib") or name in ("rtnl_link_stats64", "neigh_statistics")


def test_every_field_is_read() -> None:
    read, _, _ = uses()
    unread = {
        f"{node.name}.{name}"
        for node in state_classes()
        if not is_counters(node.name) and node.name not in BY_NAME
        for name, line in fields_of(node)
        if name not in read and not shown_by_ss(line) and name not in SHOWN_BY_NAME
    }
    assert unread == set(UNREAD)


OPTION_ROWS = {"switch", "number"}
"""Rows of socket options (stack/core/sockopt_table.py): the second word is the field they keep."""

SHOWN_BY_NAME = {"restart_queue", "tx_timeout_count"}
"""What `ethtool -S` reads by name."""


def test_every_counter_is_moved() -> None:
    _, written, named = uses()
    unmoved = {
        f"{node.name}.{name}"
        for node in state_classes()
        if is_counters(node.name) and node.name not in ("netns_mib", "icmpmsg_mib")
        for name, _ in fields_of(node)
        if name not in written
        and not (
            name in named
            and (name.startswith("TCP") or node.name in ("rtnl_link_stats64", "xfrm_mib"))
        )
        and not (node.name == "icmp_mib" and ICMP_BY_TYPE.fullmatch(name))
    }
    assert unmoved == set(UNMOVED)


def test_every_drop_reason_is_given() -> None:
    source = trees()[ROOT / "stack/core/drop_reason.py"]
    reasons = {
        target.id
        for node in source.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    used = {
        node.id if isinstance(node, ast.Name) else node.attr
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    first = {"SKB_NOT_DROPPED_YET", "SKB_CONSUMED"}
    assert {name for name in reasons if name.startswith("SKB_")} - used - first == set()


def test_every_function_is_used() -> None:
    read, _, named = uses()
    unnamed = {
        node.name
        for path, tree in trees().items()
        if path.is_relative_to(ROOT / "stack")
        if path not in PUBLIC
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not node.name.startswith("__")
        if node.name not in read and node.name not in named
    }
    assert unnamed == set(UNNAMED)


@pytest.mark.parametrize("name", sorted(EXPLAINED))
def test_every_field_says_what_it_is(name: str) -> None:
    (node,) = (node for node in state_classes() if node.name == name)
    silent = [
        field.target.id
        for field, after in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant))
    ]
    assert not silent
