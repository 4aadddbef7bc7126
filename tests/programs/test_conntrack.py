"""Debian's conntrack on our hosts and in a namespace of the kernel: it prints the same.

The connections are made by conntrack itself. Their order is that of a hash table, and their numbers
are the kernel's choice, so lines are sorted and numbers taken out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.linux.peer import Peer
from tests.programs.test_iproute import Row, both
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


def each(*words: str) -> str:
    """A script that calls conntrack with each of these words, and sorts what it prints."""
    lines = (f"echo '== {one}'; conntrack {one} 2>&1 | sort; conntrack -C" for one in words)
    return "\n".join(lines)


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


@pytest.fixture
def peer() -> Iterator[Peer]:
    require.netns()
    with contextlib.closing(Peer()) as peer:
        yield peer


@pytest.mark.parametrize("accounts", [0, 1])
@pytest.mark.parametrize("name", ROWS)
def test_conntrack_prints_what_it_prints_on_linux(
    peer: Peer, tmp_path: Path, name: str, accounts: int
) -> None:
    require.tool("conntrack", "conntrack")
    row = ROWS[name]
    both(
        peer,
        tmp_path,
        Row(row.script, LEFT, ("conntrack",)),
        {"net.netfilter.nf_conntrack_acct": accounts},
    )
