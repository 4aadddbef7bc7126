"""Debian's conntrack on our hosts and in a namespace of the kernel: it prints the same.

The connections are made by conntrack itself. Their order is that of a hash table, and their numbers
are the kernel's choice, so lines are sorted and numbers taken out.
"""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pytest

from stack.core.netfilter import NFPROTO_IPV4, NFPROTO_IPV6
from stack.host import Host
from stack.netfilter.nf_conntrack_core import nf_ct_netns_get
from stack.netlink.netlink_sock import NETLINK_NETFILTER
from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both, ran, told
from tests.support import require

pytestmark = pytest.mark.netns

TCP = "-s 10.1.1.1 -d 10.1.1.2 -p tcp --sport 5 --dport 6"
UDP = "-s 10.1.1.1 -d 10.1.1.2 -p udp --sport 5 --dport 6"
MAKE = f"""
conntrack -I {TCP} --state ESTABLISHED -u SEEN_REPLY,ASSURED -t 100 -m 7
conntrack -I {UDP} -t 99
conntrack -I -s 10.1.1.1 -d 10.1.1.2 -p icmp --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 30
conntrack -I -s fd00::1 -d fd00::2 -p udp --sport 5 --dport 6 -t 99 -m 3
conntrack -I -s 10.1.1.1 -d 10.1.1.2 -p gre -t 50
"""
LEFT = (
    (r"\bid=\d+|<id>\d+</id>", ""),
    (r"(?<=(?:tcp  |udp  |icmp ) {4}\d )\d+ |\b\d+ (?=src)", "N "),
)


NO_SECONDS = r"sed -E 's/^((ipv. +[0-9]+ +)?[a-z]+ +[0-9]+) [0-9]+/\1 N/'"
"""Before they are sorted: what is left of a connection's time would decide."""


def each(*words: str) -> str:
    """A script that calls conntrack with each of these words, and sorts what it prints."""
    return "\n".join(
        f"echo '== {one}'; conntrack {one} 2>&1 | {NO_SECONDS} | sort; conntrack -C"
        for one in words
    )


ROWS = {
    "listing": Row(
        MAKE
        + each(
            *("-L", "-L -p udp", "-L -f ipv6", "-L -s 10.1.1.1 -p tcp", "-L -m 7", "-L -m 1/3"),
            *("-L -o id", "-L -u ASSURED", "-L --orig-port-src 5", "-L -d 10.1.1.9", "-L -p icmp"),
            *(
                "-L dying",
                "-L unconfirmed",
                "-L expect",
                "-L -o extended",
                "-L --reply-src fd00::2",
            ),
            *(f"-G {UDP}", f"-G {TCP}", "-G -s 1.1.1.1 -d 10.1.1.2 -p udp --sport 5 --dport 6"),
        )
    ),
    "changing": Row(
        MAKE
        + each(
            *(f"-I {UDP} -t 9", "-U -p tcp -m 9", "-L -p tcp", "-U -p udp -t 500", "-L -m 9"),
            *("-L -z", "-D -p icmp", "-D -s 10.1.1.77", "-D -f ipv6", "-L", "-F", "-L"),
            *(f"-I {TCP} --state NONE -t 9", "-L"),
        )
        + '\nconntrack -S | awk \'{ for (i = 2; i <= NF; i++) { split($i, one, "="); '
        "sum[one[1]] += one[2] } } END { for (name in sum) print name, sum[name] }' | sort\n"
    ),
}


@pytest.mark.parametrize("accounts", [0, 1])
@pytest.mark.parametrize("name", ROWS)
def test_conntrack_prints_what_it_prints_on_linux(
    peer: Peer, tmp_path: Path, name: str, accounts: int
) -> None:
    row = ROWS[name]
    both(
        peer,
        tmp_path,
        Row(row.script, LEFT, ("conntrack",)),
        {"net.netfilter.nf_conntrack_acct": accounts},
    )


# --- events ---------------------------------------------------------------------------------------

MARKER = "-s fd99::1 -d fd99::2 -p tcp --state NONE --sport 1 --dport"
EVENTS = f"""
: > $DIR/events; conntrack -E WORDS -o id,extended > $DIR/events 2>/dev/null & listens=$!
until grep -q dport=8 $DIR/events; do
    kill -0 $listens || exit 9
    conntrack -I {MARKER} 8 -t 9 2>/dev/null; conntrack -D {MARKER} 8 >/dev/null 2>&1; sleep 0.05
done
DOES
conntrack -I {MARKER} 9 -t 9; until grep -q dport=9 $DIR/events; do sleep 0.05; done
kill $listens; wait $listens
grep -v fd99: $DIR/events
"""
"""Nothing is done before the program hears, and it ends when all was heard."""


def rounded(found: re.Match[str]) -> str:
    """Seconds that are left; one may have begun since, as the kernel's clock ticks."""
    return f"{round(int(found[0]) + 1, -1)} "


LEFT_OF_EVENTS = (
    (r"\bid=\d+|portid=\d+|progname=\w+", ""),
    (r"(?<= )\d+ (?=src|[A-Z]\w* src)", rounded),
)
TRAFFIC = """
ping -qn -c 1 127.0.0.1 >/dev/null; ping -qn -c 1 ::1 >/dev/null
python3 - <<'END'
import socket
for family, lo in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    listener = socket.create_server((lo, 7001), family=family)
    client = socket.socket(family); client.bind((lo, 7002)); client.connect((lo, 7001))
    server, _ = listener.accept()
    client.sendall(b"asked"); assert server.recv(9) == b"asked"
    server.sendall(b"told"); assert client.recv(9) == b"told"
    client.shutdown(1); assert server.recv(9) == b""
    server.close(); assert client.recv(9) == b""; client.close()
    refused = socket.socket(family); refused.bind((lo, 7003))
    assert refused.connect_ex((lo, 7004)) == 111
    one, two = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
    one.bind((lo, 7005)); two.bind((lo, 7006))
    one.sendto(b"a", (lo, 7006)); two.recv(9); two.sendto(b"b", (lo, 7005)); one.recv(9)
    one.sendto(b"nobody", (lo, 7007))
END
for f in ipv4 ipv6; do conntrack -D -f $f -p tcp
    conntrack -D -f $f -p udp --sport 7005 --dport 7006; conntrack -D -f $f -p udp; done >/dev/null
conntrack -D -p icmp >/dev/null; conntrack -D -f ipv6 >/dev/null
"""


def events(does: str, words: str = "") -> Row:
    """What `conntrack -E` with these words prints while a script runs."""
    script = EVENTS.replace("WORDS", words).replace("DOES", does)
    return Row(script, LEFT_OF_EVENTS, ("conntrack",))


CHANGES = f"""{MAKE}
conntrack -U -p tcp -m 9; conntrack -U -p tcp -m 9; conntrack -U -p udp -t 500
conntrack -D -p icmp; conntrack -I {TCP} --state NONE -t 9; conntrack -D -m 3 -f ipv6
conntrack -D -p tcp; conntrack -D -p gre; conntrack -F
"""


@pytest.mark.parametrize("accounts", [0, 1])
@pytest.mark.parametrize("words", ["", "-e NEW", "-e UPDATES,DESTROY,NEW", "-p tcp", "-f ipv6"])
def test_events_of_programs_are_linuxs(
    peer: Peer, tmp_path: Path, words: str, accounts: int
) -> None:
    both(peer, tmp_path, events(CHANGES, words), {"net.netfilter.nf_conntrack_acct": accounts})


def attr(kind: int, value: bytes, nested: bool = False) -> bytes:
    """An attribute of netlink."""
    size = 4 + len(value)
    return struct.pack("=HH", size, kind | nested << 15) + value + bytes(-size & 3)


def kernel_tracks(peer: Peer) -> None:
    """Have the kernel track connections in the namespace: a rule of nf_tables asks for states.

    The rule needs no program: one batch of messages (include/uapi/linux/netfilter/nf_tables.h).
    """
    name, nfproto_inet, subsys = attr(1, b"t\0"), 1, 10

    def message(kind: int, flags: int, body: bytes, family: int = 0, res: int = 0) -> bytes:
        whole = struct.pack(">BBH", family, 0, res) + body
        return struct.pack("=IHHII", 16 + len(whole), kind, 1 | flags, 7, 0) + whole

    hook = attr(1, struct.pack(">I", 1)) + attr(2, struct.pack(">i", 0))
    chain = name + attr(3, b"c\0") + attr(4, hook, True) + attr(7, b"filter\0")
    state = attr(1, struct.pack(">I", 8)) + attr(2, struct.pack(">I", 0))
    expression = attr(1, attr(1, b"ct\0") + attr(2, state, True), True)
    rule = name + attr(2, b"c\0") + attr(4, expression, True)
    made = ((0, name), (3, chain), (6, rule))
    create, ack = 0x400, 4
    batch = message(16, 0, b"", res=subsys)
    for kind, body in made:
        batch += message(subsys << 8 | kind, create | ack, body, nfproto_inet)
    batch += message(17, 0, b"", res=subsys)
    with peer.socket(socket.SOCK_RAW, NETLINK_NETFILTER, family=socket.AF_NETLINK) as sock:
        sock.sendto(batch, (0, 0))
        answers = [sock.recv(8192) for _ in made]
    wrong = [errno for answer in answers if (errno := struct.unpack_from("=i", answer, 16)[0])]
    if wrong:
        pytest.skip(f"this kernel has no nf_tables with ct (errno {-wrong[0]})")


def we_track(host: Host) -> None:
    for family in (NFPROTO_IPV4, NFPROTO_IPV6):
        nf_ct_netns_get(host, family)


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("accounts", [0, 1])
def test_events_of_traffic_are_linuxs(peer: Peer, tmp_path: Path, mode: int, accounts: int) -> None:
    """Pings, TCP from SYN to TIME_WAIT, refused connections, UDP; `mode`: nf_conntrack_events."""
    require.tool("ping", "iputils-ping")
    kernel_tracks(peer)
    sysctl = {
        "net.netfilter.nf_conntrack_acct": accounts,
        "net.netfilter.nf_conntrack_events": mode,
    }
    row = events(TRAFFIC)
    row = Row(row.script, (*row.rules, (r"bytes=\d+|packets=\d+", "")), row.tools)
    kernel, ours = (told(text, row) for text in ran(peer, tmp_path, row, sysctl, we_track))
    assert ours.splitlines() == kernel.splitlines()
    assert "TIME_WAIT" in kernel
