"""Addresses of interfaces, their routes, carriers and names: what `ip` tells is as on Linux.

The first test makes and takes away addresses at random. After each change the addresses and all
routes of the interface are compared with the kernel's.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both

pytestmark = pytest.mark.netns

PAIR = """
ip link set lo up
ip link add v0 address 02:00:00:00:00:05 type veth peer name v1 address 02:00:00:00:00:06
ip link set v1 up
ip link set v0 up
"""
NETS = ("10.1.0", "10.1.1", "0.1.0")
OPTIONS = (
    (0.3, (" brd +", " brd -", " brd 10.1.0.77", " brd 10.1.0.255")),
    (0.2, (" metric 5", " metric 7")),
    (0.15, (" noprefixroute",)),
    (0.1, (" scope link",)),
)


def change(pick: random.Random) -> tuple[str, str]:
    """The interface and a change of its addresses, or of what makes their routes."""
    dev = pick.choice(("v0", "v0", "v0", "v1"))
    local = f"{pick.choice(NETS)}.{pick.choice((0, 1, 2, 3, 255))}"
    address = f"{local}/{pick.choice((24, 24, 24, 23, 32, 31))}"
    what = pick.random()
    if what < 0.5:
        if pick.random() < 0.1:
            address = f"{local} peer 10.1.0.{pick.choice((1, 2, 9))}/{pick.choice((24, 32))}"
        more = "".join(pick.choice(of) for chance, of in OPTIONS if pick.random() < chance)
        verb = pick.choice(("add", "add", "add", "replace", "change"))
        return dev, f"ip addr {verb} {address} dev {dev}{more}"
    if what < 0.8:
        return dev, f"ip addr del {address} dev {dev}"
    if what < 0.9:
        return dev, f"ip link set {dev} {pick.choice(('up', 'down'))}"
    if what < 0.95:
        name = f"net.ipv4.conf.{dev}.promote_secondaries"
        return dev, f"sysctl -qw {name}={pick.choice((0, 1))}"
    if what < 0.98:
        return dev, f"ip addr flush dev {dev}"
    return dev, f"ip route add 10.9.{pick.randrange(4)}.0/24 dev {dev} src 10.1.0.1"


@pytest.mark.parametrize("seed", range(4))
def test_changes_at_random(peer: Peer, tmp_path: Path, seed: int) -> None:
    pick = random.Random(seed)
    script = [PAIR]
    for _ in range(120):
        dev, command = change(pick)
        script += [f"echo '# {command}'", f"{command} 2>&1", f"ip -4 -o addr show dev {dev}"]
        script.append(f"ip -4 route show table all dev {dev}")
    row = Row("\n".join(script), ((r"(?m)^\d+: ", ""),))
    sysctl = {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1}
    both(peer, tmp_path, row, sysctl)


ROWS = {
    "lifetimes": Row(
        f"""{PAIR}
        ip addr add 10.1.0.1/24 dev v0 valid_lft 3 preferred_lft 1
        ip addr add 10.1.0.2/24 dev v0 valid_lft 100 preferred_lft 100
        ip addr add 10.1.1.1/24 dev v0 preferred_lft 0
        ip addr add 10.1.2.1/24 dev v0 valid_lft 5 preferred_lft 9; echo $?
        ip addr add 10.1.2.1/24 dev v0 valid_lft 0 preferred_lft 0; echo $?
        ip -4 addr show dev v0; sleep 1.5; ip -4 addr show dev v0 | grep -v lft; sleep 2.5
        ip -4 addr show dev v0 | grep -v lft; ip route
        ip addr add 10.1.3.1/24 dev v0 valid_lft 100 preferred_lft 50
        ip addr change 10.1.3.1/24 dev v0 valid_lft forever preferred_lft 0
        ip -4 addr show dev v0; ip addr change 10.1.3.1/24 dev v0; ip -4 addr show dev v0
        """
    ),
    "changes of an IPv6 address": Row(
        f"""{PAIR}
        ip addr add fd00::1/64 dev v0 nodad; ip addr add fd01::2/64 dev v0 noprefixroute nodad
        ip addr add fd03::1 peer fd03::2/64 dev v0 nodad
        until ip -6 addr show dev v0 | grep -q fe80; do :; done
        stdbuf -oL ip -o monitor address > $DIR/told & P=$!
        until ip addr replace fd09::1/128 dev lo; grep -qs fd09 $DIR/told; do :; done
        shown() {{ ip -6 addr show dev v0; ip -6 route show dev v0; }}
        for f in '' home noprefixroute '' 'metric 50' 'metric 50 noprefixroute' 'metric 70' \\
            'preferred_lft 0' 'preferred_lft 2000 valid_lft 3000' 'valid_lft 3000 noprefixroute' \\
            '' mngtmpaddr nodad 'valid_lft 0' 'valid_lft 100 preferred_lft 200'; do
            ip addr change fd00::1/64 dev v0 $f; echo "$f $?"; shown
        done
        ip addr change fd01::2/64 dev v0; shown
        for f in 'fd04::2/64' 'fd04::2/64 metric 9' 'fd04::3/64 noprefixroute'; do
            ip addr change fd03::1 peer $f dev v0; echo $?; shown
        done
        ip addr add fd02::1/128 dev v0 nodad; until grep -q fd02 $DIR/told; do :; done
        ip addr change fd02::1/128 dev v0 mngtmpaddr; echo $?
        ip addr del fd03::1/64 dev v0; shown
        ip addr add fd0a::1/128 dev lo nodad; until grep -q fd0a $DIR/told; do :; done; kill $P
        grep v0 $DIR/told; ip link set v0 mtu 1279; ip addr add fd00::1/64 dev v0; echo $?
        """,
        (
            (r"(?m)^(RTNETLINK|Error).*\n", ""),
            (r"expires -?\d+sec", ""),
            (r"\d+(?=sec)", lambda left: str(round(int(left[0]), -2))),
            (r"(?m)^fe80::.*\n", ""),
        ),
        ("ip", "stdbuf"),
    ),
    "tokens": Row(
        f"""{PAIR}
        put() {{ ip token set $1 dev v0; echo $?; }}
        ip token list; ip token get dev v0; put ::7:1; ip token set ::7 dev lo; echo $?
        ip token list; put fd00::1:2; ip token get dev v0
        sysctl -qw net.ipv6.conf.v0.accept_ra=0; put ::9
        sysctl -qw net.ipv6.conf.v0.accept_ra=1 net.ipv6.conf.v0.router_solicitations=0; put ::9
        sysctl -qw net.ipv6.conf.v0.router_solicitations=3; ip token del dev v0; ip token list
        ip link set v0 arp off; put ::9; ip link set v0 arp on; ip link set v0 down; put ::9
        ip token list; ip link set v0 mtu 1000; put ::9
        """,
    ),
    "a group joined with an address": Row(
        f"""{PAIR}
        ip addr add 239.1.1.1/32 dev v0 autojoin; ip -4 addr show dev v0
        ip maddr show dev v0 | grep 239; ip addr del 239.1.1.1/32 dev v0
        ip maddr show dev v0 | grep -c 239; ip addr add 10.1.1.1/32 dev v0 autojoin; echo $?
        """
    ),
    "routes without a carrier": Row(
        f"""{PAIR}
        ip link add w0 type veth peer name w1; ip link set w0 up; ip link set w1 up
        ip addr add 10.1.0.1/24 dev v0; ip addr add 10.2.0.1/24 dev w0
        ip -6 addr add fd01::1/64 dev v0 nodad; ip -6 addr add fd02::1/64 dev w0 nodad; sleep 0.3
        ip route add default via 10.1.0.2 metric 5; ip route add default via 10.2.0.2 metric 9
        ip -6 route add default via fd01::2 metric 5; ip -6 route add default via fd02::2 metric 9
        ip route add 10.7.0.0/16 nexthop via 10.1.0.2 nexthop via 10.2.0.2
        tell() {{
            echo "== $1"; ip route; ip -6 route | grep fd; ip route show table local dev v0
            ip route get 9.9.9.9; ip -6 route get fd09::9
            ip route get 10.7.0.1; ip route get 10.7.0.9
        }}
        tell first; ip link set v1 down; sleep 0.3; tell down
        ip route add 10.8.0.0/16 via 10.1.0.3; ip -6 route add fd08::/64 via fd01::3; echo $?
        sysctl -qw net.ipv4.conf.v0.ignore_routes_with_linkdown=1
        sysctl -qw net.ipv6.conf.v0.ignore_routes_with_linkdown=1
        tell ignored; ip route add 10.11.0.0/16 via 10.1.0.3; echo $?
        ip -6 route add fd11::/64 via fd01::3; echo $?
        ip netconf show dev v0; ip link set v1 up; sleep 0.3; tell up
        sysctl -qw net.ipv6.conf.all.ignore_routes_with_linkdown=1; ip -6 netconf
        """,
        (
            (r"(?m)uid 0 |cache |\d+: |^ +$| proto kernel_l[ol]", ""),
            (r"(?m)^fe80::/64 .*\n", ""),
            (r"(?m)^10\.7\.0\.\d+ via 10\.\d.*$", "one of two"),
        ),
    ),
    "settings of interfaces": Row(
        f"""{PAIR}
        : > "$0.heard"; ip monitor netconf > "$0.heard" & m=$!
        heard() {{  # the monitor listens, or has told of all that was before
            until grep -q "lo $1 on" "$0.heard"; do
                sysctl -qw net.ipv4.conf.lo.$2=0 net.ipv4.conf.lo.$2=1
            done
        }}
        heard ignore_routes_with_linkdown ignore_routes_with_linkdown
        for f in ipv4 ipv6; do
            for s in forwarding proxy_arp proxy_ndp rp_filter ignore_routes_with_linkdown; do
                for l in all default v0; do
                    for v in 1 1 2 0; do sysctl -qw net.$f.conf.$l.$s=$v 2>/dev/null; done
                done
            done
        done
        sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.v0.forwarding=0
        sysctl net.ipv4.conf.all.accept_redirects net.ipv4.conf.v0.accept_redirects
        sysctl -qw net.ipv4.conf.all.forwarding=0 net.ipv4.conf.default.rp_filter=2
        ip addr add 10.1.0.1/24 dev v0; sysctl -qw net.ipv4.conf.v1.arp_ignore=0
        sysctl -qw net.ipv4.conf.default.arp_ignore=1 net.ipv4.conf.default.arp_notify=1
        ip link add v2 type veth peer name v3; sleep 0.3; ip link set v2 name w2; sleep 0.3
        for l in all default lo v0 v1 w2 v3; do
            echo $l $(sysctl -n net.ipv4.conf.$l.rp_filter net.ipv4.conf.$l.arp_ignore \
                net.ipv4.conf.$l.arp_notify net.ipv4.conf.$l.forwarding)
        done
        ip link del w2; for mtu in 1000 60 1500; do ip link set v0 mtu $mtu; done
        heard proxy_neigh proxy_arp; kill $m; grep -v 'eth\\| lo ' "$0.heard"
        ip -4 netconf show dev lo; ip -6 netconf show dev v0; ip -4 netconf show dev v1
        ip -4 netconf show dev nix; echo $?
        sysctl -w net.ipv4.route.flush=1 net.ipv6.route.flush=1; cat /proc/sys/net/ipv4/route/flush
        stat -c '%A %s' /proc/sys/net/ipv6/route/flush; cat /proc/sys/net/ipv6/conf/v0/stable_secret
        echo '7 8' > /proc/sys/net/ipv4/tcp_retries1; cat /proc/sys/net/ipv4/tcp_retries1
        """,
        ((r"\b[vw]2\b", "v2"),),  # ip asks for the name when it prints
    ),
    "names relative to a directory": Row(
        """cd /; find /proc/sys/net/ipv4/conf/lo -type f | sort
        grep -r . /proc/sys/net/ipv4/conf/lo | sort; ls -R /sys/class/net/lo/statistics
        python3 - <<'X'
import os
d = os.open("/proc/sys/net/ipv4", os.O_RDONLY)
f = os.open("ip_forward", os.O_RDONLY, dir_fd=d)
print(os.read(f, 9), oct(os.stat("ip_forward", dir_fd=d).st_mode))
w = os.open("ip_default_ttl", os.O_WRONLY, dir_fd=d)
print(os.write(w, b"77\n"), open("/proc/sys/net/ipv4/ip_default_ttl").read())
os.fchdir(d)
print(open("ip_default_ttl").read(), os.access("conf", os.X_OK), os.access("x", os.F_OK))
for name in ("nothing", "conf/nothing", ""):
    try:
        os.open(name, os.O_RDONLY, dir_fd=d)
    except OSError as exc:
        print(name, exc.strerror)
print(len(os.listdir("conf/lo")), open("conf/../ip_forward").read())
X
        """
    ),
    "local addresses of an interface that is down": Row(
        f"""{PAIR}
        ip addr add 10.1.0.1/24 dev v0; ip link set v0 down; ip route show table local dev v0
        ping -c1 -W1 -q 10.1.0.1 | grep received; ip route get 10.1.0.1
        ip addr add 10.1.0.2/24 dev v0
        ping -c1 -W1 -q 10.1.0.2 | grep received; ip route add 10.9.0.0/16 dev v0; echo $?
        """,
        ((r", time.*|uid 0 ", ""),),
    ),
    "groups and routes of an interface that is down": Row(
        """ip link set lo up; sysctl -qw net.ipv6.conf.default.addr_gen_mode=1
        ip link add v0 address 02:00:00:00:00:05 type veth peer name v1
        shown() { ip maddr show dev v0; ip -6 route show table all; }
        shown; ip addr add fd00::1/64 dev v0 nodad; ip addr add fd01::1 peer fd02::1 dev v0 nodad
        until ip maddr show dev v0 | grep -q 'ff00:1 users 2'; do :; done  # by a worker
        ip addr add 10.1.0.1/24 dev v0; shown; ip addr change fd00::1/64 dev v0 metric 5; shown
        ip link set v0 up; ip maddr show dev v0 | grep 'inet '; ip -6 route show dev v0
        ip link set v0 down; ip maddr show dev v0 | grep 'inet '; ip -6 route show table all
        """,
    ),
    "other names": Row(
        f"""{PAIR}
        ip link property add dev v0 altname bar altname averylongnameofaninterface
        ip link property add dev v0 altname bar; echo $?
        ip link property add dev v1 altname bar; echo $?
        ip link property del dev v0 altname v0; ip link property del dev v0 altname v1; echo $?
        ip link property del dev v0 altname nix; ip link add bar type bridge; echo $?
        ip link property add dev v0 altname $(printf %0128d 0); echo $?
        ip link set v1 name bar; ip link set dev bar name v5; ip link show v5; echo $?
        ip link set v5 name bar; ip addr add 10.1.1.1/24 dev bar; ip -4 addr show bar
        ip route add 10.2.0.0/16 dev averylongnameofaninterface; ip route; ip -br link
        ping -c1 -W1 -q -I bar 10.1.1.1 | grep received; grep -c v5 /proc/net/dev
        ip link property del dev v5 altname averylongnameofaninterface; ip link show v5
        ip link set v5 name v0; ip link del bar; ip -br link
        """,
        ((r"link/ether \S+|qlen \d+|, time.*", ""), (r" +", " "), (r"qdisc noqueue ", "")),
    ),
    "labels follow the name": Row(
        f"""{PAIR}
        ip addr add 10.1.0.1/24 dev v0 label v0:x; ip addr add 10.1.1.1/24 dev v0 label v0:longer
        ip addr add 10.1.2.1/24 dev v0; ip addr add 10.1.0.2/24 dev v0 label v0:x; ip -4 -o addr
        ip link set v0 name w0; ip -4 -o addr; ip link set w0 name averylongname01; ip -4 -o addr
        """,
        ((r"(?m)^\d+: ", ""),),
    ),
    "files of an interface": Row(
        f"""{PAIR}
        tell() {{
            for file in carrier_changes carrier_up_count carrier_down_count dev_id dev_port \\
                dormant ifalias link_mode netdev_group proto_down testing; do
                echo $file: $(cat /sys/class/net/$1/$file 2>/dev/null) $?
            done
        }}
        sleep 0.3; tell v0; echo 'up the hill' > /sys/class/net/v0/ifalias
        echo 7 > /sys/class/net/v0/netdev_group; exec 2>/dev/null
        echo x > /sys/class/net/v0/netdev_group || echo no
        echo 4294967296 > /sys/class/net/v0/netdev_group || echo no
        tell v0; ip link set v1 down; sleep 0.3; tell v0; ip link set v0 down; tell v0; tell lo
        ip link set v0 up; ip link set v1 up; sleep 0.3; tell v0
        ip -s -s link show v0 | grep -c transns
        """,
        tools=("sh",),
    ),
    "alias and group": Row(
        f"""{PAIR}
        ip link set v0 alias 'up the hill'; ip link show v0
        ip link set v0 alias ''; ip link show v0
        ip link set v0 group 5; ip link set v1 group 5; ip link set group 5 mtu 1400
        ip -o link show group 5; ip link set group 6 up; echo $?; ip link del group 6; echo $?
        ip link del group 0; echo $?; ip link add br0 group 7 type bridge; ip -o link show group 7
        ip link set lo group 7; ip link del group 7; echo $?; ip link set lo group 0
        ip addr add 10.1.0.1/24 dev v0; ip rule add pref 5 table main suppress_ifgroup 5
        ip rule add pref 6 blackhole; ip rule; ip route get 10.1.0.2; echo $?
        ip link set v0 group 6; ip route get 10.1.0.2 | head -1
        ip rule del pref 6; ip rule del pref 5
        ip link set v0 group 5
        ip link del group 7; ip -br link show br0; ip link del group 5; ip -o link
        """,
        ((r"link/ether \S+|qlen \d+", ""), (r"(?m)^\d+: ", ""), (r" +", " ")),
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_as_on_linux(peer: Peer, tmp_path: Path, name: str) -> None:
    both(peer, tmp_path, ROWS[name], {"net.ipv6.conf.default.accept_dad": 0})


TO_ITSELF = """
import contextlib, itertools, socket, struct, subprocess, time

subprocess.run('''{PAIR}
ip addr add 10.1.1.1/24 dev v0; ip addr add 10.1.2.1/24 dev v1
ip -6 addr add fd01::1/64 dev v0 nodad; ip -6 addr add fd02::1/64 dev v1 nodad''', shell=True)
time.sleep(0.3)
V4, V6 = socket.AF_INET, socket.AF_INET6
DEVICES = ("", "v0", "v1", "lo")
ADDRESSES = {{V4: ("10.1.1.1", "127.0.0.1"), V6: ("fd01::1", "fe80::ff:fe00:5", "::1")}}

def opened(family, kind, dev):
    sock = socket.socket(family, kind)
    sock.settimeout(0.1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, dev.encode())
    return sock

def datagram(family, addr, to, by):
    receiver, s = opened(family, socket.SOCK_DGRAM, to), opened(family, socket.SOCK_DGRAM, by)
    with receiver, s:
        receiver.setsockopt(*((0, 8) if family == V4 else (41, 49)), 1)
        receiver.bind(("", 0))
        s.sendto(b"x", (addr, receiver.getsockname()[1]))
        data, ((_, _, info), *_), _, source = receiver.recvmsg(9, 99)
        index = struct.unpack_from("i", info, 0 if family == V4 else 16)[0]
        scope = source[3] and socket.if_indextoname(source[3]) if family == V6 else ""
        return socket.if_indextoname(index), source[0].startswith("fe80") or source[0], scope

def stream(family, addr, to, by):
    listener, s = opened(family, socket.SOCK_STREAM, to), opened(family, socket.SOCK_STREAM, by)
    with listener, s:
        listener.bind(("", 0))
        listener.listen()
        s.connect((addr, listener.getsockname()[1]))
        with listener.accept()[0] as child:
            return child.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)

for family, to, by in itertools.product((V4, V6), DEVICES, DEVICES):
    for addr, kind in itertools.product(ADDRESSES[family], (datagram, stream)):
        try:
            result = kind(family, addr, to, by)
        except TimeoutError:
            result = "no answer"
        except OSError as error:  # a neighbour's failure comes after 3 s, which may be now
            result = "no answer" if error.errno == 113 else error
        print(kind.__name__, addr, to or "any", by or "any", result)
"""


def test_sockets_of_a_device_reached_from_the_host_itself(peer: Peer, tmp_path: Path) -> None:
    """A socket bound to a device gets what the host sends to the device's addresses, over lo."""
    row = Row(TO_ITSELF.format(PAIR=PAIR), python=True)
    both(peer, tmp_path, row, {"net.ipv6.conf.default.accept_dad": 0})
