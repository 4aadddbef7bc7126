"""The register interfaces of PIM, of both families, on our hosts as in the kernel.

A daemon makes one and routes by it. Messages that a router of PIM would send come in by a packet
socket: good ones, and such as the kernel drops (RFC 7761 4.9.3).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
from tests.programs.test_mroute import AGES, IPV4, QUIET
from tests.programs.test_mroute6 import IPV6, ROUTER

pytestmark = pytest.mark.netns

DEVICE = r"""
def device(name):
    for what in ("type", "mtu", "flags", "addr_len"):
        print(what, tried(open(f"/sys/class/net/{name}/{what}").read).strip())
    print(sh(f"ip link del {name} && echo deleted"))
    print(sh(f"ip netconf | grep -o ' {name} .*mc_[a-z]* o[nf]*'"))
    print(sh(f"ip link show {name}").partition(" ")[2])
def there(name):
    return os.path.exists(f"/sys/class/net/{name}")
def register(inner, head=b"\x21\0\0\0\0\0\0\0", whole=False, pseudo=b"", wrong=0):
    # A message; its checksum is of the first eight bytes, or of all
    total = csum(pseudo + head + inner) if whole else csum(pseudo + head)
    return put(head, 2, total ^ wrong) + inner
"""
PIM6 = (
    IPV6
    + DEVICE
    + r"""
sk = daemon()
sk.setsockopt(41, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(41, ADD_MIF, mif(n, name))
sh("ip link add pim6reg type bridge")
print(tried(sk.setsockopt, 41, ADD_MIF, mif(5, "a0", 1)))
sh("ip link del pim6reg")
print(tried(sk.setsockopt, 41, ADD_MIF, mif(5, "a0", 1)),
      tried(sk.setsockopt, 41, ADD_MIF, mif(6, "a0", 1)))
print(tried(sk.setsockopt, 41, ADD_MIF, mif(5, "a0")), conf("pim6reg")); device("pim6reg"); told()
sk.setsockopt(41, ADD_MFC, mfc(S, G, 0, 1, 5)); send("a1", ip6(S, G)); print(heard(sk)); told()
sk.setsockopt(41, ADD_MFC, mfc(S, G, 0, 5)); send("a1", ip6(S, G, 1)); send("a1", ip6(S, G, 2))
print(heard(sk)); told()
def pim(message):
    # To the router itself
    send("a1", b"\2\0\0\0\0\1" + ip6("fd01::9", "fd01::1", 9, 103, message)[6:])
    print(heard(sk), sh("cat /proc/net/ip6_mr_cache /proc/net/ip6_mr_vif"))
inner = ip6("fd09::9", H)[14:]
ends = addr("fd01::9") + addr("fd01::1") + struct.pack("!II", 8, 103)
pim(register(inner, pseudo=ends))
sk.setsockopt(41, ADD_MFC, mfc("fd09::9", H, 5, 0, 2)); print(heard(sk)); told()
pim(register(inner, pseudo=ends)); pim(register(inner, whole=True)); pim(register(inner))
pim(register(inner, pseudo=ends, wrong=1)); pim(register(inner, whole=True, wrong=2))
pim(register(inner, b"\x21\0\0\0\x40\0\0\0", pseudo=ends))
pim(register(inner, b"\x21\0\0\0\x80\0\0\0", pseudo=ends))
pim(register(inner, b"\x20\0\0\0\0\0\0\0", pseudo=ends))
pim(register(inner, b"\x11\0\0\0\0\0\0\0", pseudo=ends))
pim(register(inner[:-1], pseudo=ends)); pim(register(inner[:40], pseudo=ends))
pim(register(inner + b"more", pseudo=ends))
pim(register(put(inner, 4, 0), pseudo=ends)); pim(register(inner[:39], pseudo=ends))
pim(register(ip6("fd09::9", "fd01::5")[14:], pseudo=ends))
sh("ip -6 route add fd77::/64 dev pim6reg")
own = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
own.setsockopt(41, 70, 0)
own.bind(("fd01::1", 6000)); own.sendto(b"unicast", ("fd77::1", 5000)); print(heard(sk))
print(tried(sk.setsockopt, 41, DEL_MIF, struct.pack("=H", 5)), there("pim6reg")); told()
pim(register(inner, pseudo=ends))
print(tried(sk.setsockopt, 41, ADD_MIF, mif(7, "a0", 1)), there("pim6reg")); told()
sk.close(); gone(); print(there("pim6reg")); told()
"""
)
PIM4 = (
    IPV4.replace("taps_kept[each].append(data)", "pass")
    + DEVICE
    + r"""
sk = daemon()
sk.setsockopt(0, INIT, 1)
for n, name in enumerate(("a0", "b0", "c0")):
    sk.setsockopt(0, ADD_VIF, vif(n, name))
sh("ip link add pimreg type bridge")
print(tried(sk.setsockopt, 0, ADD_VIF, vif(5, "0.0.0.0", 4)))
sh("ip link del pimreg")
print(tried(sk.setsockopt, 0, ADD_VIF, vif(5, "0.0.0.0", 4)),
      tried(sk.setsockopt, 0, ADD_VIF, vif(6, "0.0.0.0", 4)),
      tried(sk.setsockopt, 0, ADD_VIF, vif(7, "a0", 12)))
device("pimreg"); told()
def out(frame):
    # What leaves by another wire; the counters tell
    taps["a1"].send(frame); settle()
    print(heard(sk), sh("cat /proc/net/ip_mr_cache /proc/net/ip_mr_vif"))
sk.setsockopt(0, ADD_MFC, mfc(S, G, 0, v1=1, v5=1)); out(ip4(S, G))
sk.setsockopt(0, ADD_MFC, mfc(S, G, 0, v5=3)); out(ip4(S, G, 3)); out(ip4(S, G, 4))
def pim(message, proto=103):
    out(b"\2\0\0\0\0\1" + ip4("10.1.0.9", "10.1.0.1", 9, proto, message)[6:])
inner = ip4("10.9.0.9", H)[14:]
pim(register(inner))
sk.setsockopt(0, ADD_MFC, mfc("10.9.0.9", H, 5, v0=1, v2=1)); told()
pim(register(inner)); pim(register(inner, whole=True))
pim(register(inner, wrong=1)); pim(register(inner, whole=True, wrong=2))
pim(register(inner, b"\x21\0\0\0\x40\0\0\0")); pim(register(inner, b"\x21\0\0\0\x80\0\0\0"))
pim(register(inner, b"\x20\0\0\0\0\0\0\0")); pim(register(inner, b"\x11\0\0\0\0\0\0\0"))
pim(register(inner[:-1])); pim(register(inner[:19])); pim(register(inner + b"more"))
pim(register(put(inner, 2, 0))); pim(register(ip4("10.9.0.9", "10.1.0.5")[14:]))
old = b"\x14\x01\0\0\x10\0\0\0"
pim(register(inner, old, whole=True), 2); sk.setsockopt(0, PIM, 1)
pim(register(inner, old, whole=True), 2); pim(register(inner, old), 2)
pim(register(inner, b"\x14\x02\0\0\x10\0\0\0", whole=True), 2)
pim(register(inner, b"\x14\x01\0\0\x20\0\0\0", whole=True), 2)
print(tried(sk.setsockopt, 0, DEL_VIF, vif(5, "0.0.0.0", 0)), there("pimreg")); told()
pim(register(inner))
print(tried(sk.setsockopt, 0, ADD_VIF, vif(7, "0.0.0.0", 4)), there("pimreg")); told()
sk.close(); gone(); print(there("pimreg")); told()
"""
)
ROWS = {
    "IPv6": (Row(PIM6, AGES, ("ip",), python=True), ROUTER),
    "IPv4": (Row(PIM4, AGES, ("ip",), python=True), QUIET),
}


@pytest.mark.parametrize("name", ROWS)
def test_pim_registers_as_in_the_kernel(peer: Peer, tmp_path: Path, name: str) -> None:
    row, sysctl = ROWS[name]
    both(peer, tmp_path, row, sysctl)
