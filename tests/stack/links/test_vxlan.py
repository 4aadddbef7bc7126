"""vxlan's forwarding table: which entries age.

Its frames and requests are compared with the kernel's in tests/programs/test_link_kinds.py.
"""

from __future__ import annotations

from pathlib import Path

from stack.core.uapi import NTF_EXT_LEARNED, NTF_SELF, NUD_REACHABLE
from stack.tunnel.vxlan import ALL_ZEROS, vxlan_fdb_create, vxlan_rdst
from tests.stack.core.wire import assert_no_leak
from tests.stack.links.test_tunnel_offloads import join, number
from tests.stack.links.test_tunnels import OUTSIDE4, Pair

SECOND = 1_000_000_000
NEAR, FAR = b"\2\0\0\0\7\1", b"\2\0\0\0\7\2"


def test_what_a_program_has_learned_does_not_age(tmp_path: Path) -> None:
    wire = Pair(tmp_path / "wire.pcapng")
    join(wire.b, "vxlan", (OUTSIDE4[1], OUTSIDE4[0]))
    vxlan = wire.b.dev("t0").priv
    for addr, flags in ((NEAR, NTF_SELF), (FAR, NTF_SELF | NTF_EXT_LEARNED)):
        rdst = vxlan_rdst(number(OUTSIDE4[0]), 4789, 7)
        vxlan_fdb_create(vxlan, addr, NUD_REACHABLE, flags, rdst)
    wire.clock.run_for(290 * SECOND)
    assert set(vxlan.fdb) == {ALL_ZEROS, NEAR, FAR}
    wire.clock.run_for(30 * SECOND)
    assert set(vxlan.fdb) == {ALL_ZEROS, FAR}
    assert_no_leak(*wire.hosts)
