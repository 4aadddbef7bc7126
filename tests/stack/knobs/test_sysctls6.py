"""Every sysctl of net.ipv6 is read back through an effect, as test_sysctls.py does for IPv4."""

from __future__ import annotations

from typing import Any

import pytest

from stack.ipv6.sysctl_net_ipv6 import NET_IPV6
from tests.stack.knobs.ipv6 import LATE, PROBES6, Rig6

CASES = [
    pytest.param(name, value, seen, live, id=f"{name}={value}-{'written' if live else 'made'}")
    for name, (_, values) in PROBES6.items()
    for value, seen in values.items()
    for live in (False, True)
    if not live or name not in LATE
]
ELSEWHERE = {
    "net.ipv6.bindv6only": "tests of the sockets",
    "net.ipv6.ip_nonlocal_bind": "tests of the sockets",
    "net.ipv6.idgen_delay": "tests of stable addresses",
    "net.ipv6.idgen_retries": "tests of stable addresses",
    "net.ipv6.route.flush": "tests of redirects",
    "net.ipv6.mld_max_msf": "tests of MLD",
    "net.ipv6.mld_qrv": "tests of MLD",
    "net.ipv6.neigh.default.gc_thresh1": "tests of neighbour discovery",
    "net.ipv6.neigh.default.gc_thresh2": "tests of neighbour discovery",
    "net.ipv6.neigh.default.gc_thresh3": "tests of neighbour discovery",
}


def test_every_sysctl_of_the_network_layer_has_a_probe_that_tells_its_values_apart() -> None:
    declared = {row.full_name for row in NET_IPV6}
    assert declared - set(PROBES6) - set(ELSEWHERE) == set()
    for name, (_, values) in PROBES6.items():
        assert len({repr(seen) for seen in values.values()}) > 1, name


@pytest.mark.parametrize(("name", "value", "seen", "live"), CASES)
def test_effect(name: str, value: Any, seen: Any, live: bool) -> None:
    assert PROBES6[name][0](Rig6(name, value, live)) == seen
