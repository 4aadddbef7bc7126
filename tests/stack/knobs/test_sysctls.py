"""Every sysctl is read back through an effect: what it does to packets, errnos, counters or time.

A declared knob without a row fails here, and so does one whose values look alike.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from stack.core.bsd_socket import sys_connect
from stack.ipv4.sysctl_names import SYSCTLS
from tests.stack.ipv4.net import PEER, at
from tests.stack.knobs import core_and_ip, netfilter, tcp
from tests.stack.knobs.rig import Rig, udp

PROBES = core_and_ip.PROBES | netfilter.PROBES | tcp.PROBES
OBSOLETE = {row.name for row in SYSCTLS.values() if row.obsolete}
"""What Linux keeps and does not read either; test_sysctl.py has that writing it says so."""

READ_ONLY = {row.name for row in SYSCTLS.values() if not row.mode & 0o200}
"""What only shows something; test_sysctl.py has that it does, and is not written."""

WRITE_ONLY = {"flush"}
"""What is no setting: to write it does something."""

CASES = [
    (name, value, seen) for name, (_, values) in PROBES.items() for value, seen in values.items()
]


def test_every_declared_sysctl_has_a_row_that_tells_its_values_apart() -> None:
    assert set(SYSCTLS) - OBSOLETE - READ_ONLY - WRITE_ONLY - set(PROBES) == set()
    assert set(PROBES) - set(SYSCTLS) == set()
    for name, (_, values) in PROBES.items():
        assert len({repr(seen) for seen in values.values()}) > 1, name


@pytest.mark.parametrize("live", [False, True], ids=["made", "written"])
@pytest.mark.parametrize(("name", "value", "seen"), CASES, ids=[f"{n}={v}" for n, v, _ in CASES])
def test_effect(name: str, value: Any, seen: Any, live: bool) -> None:
    probe = PROBES[name][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe(Rig({name: value}, live)) == seen


def test_flush_forgets_a_learned_mtu() -> None:
    net = Rig({}, True).ip()
    sys_connect(net.host, udp(net), at(PEER, 9))
    core_and_ip.frag_needed(net, PEER, 900)
    assert core_and_ip.pmtu(net) == 900
    net.host.sysctl["net.ipv4.route.flush"] = "1"
    assert core_and_ip.pmtu(net) == 1500
