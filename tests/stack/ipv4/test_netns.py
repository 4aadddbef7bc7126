"""stack/ipv4/netns.py"""

from __future__ import annotations

from random import Random

from stack.ipv4.netns import IP_IDENTS, ip_idents_init


def test_the_first_idents_are_those_of_as_many_draws() -> None:
    one, other = Random(5), Random(5)
    assert list(ip_idents_init(one)) == [other.getrandbits(16) for _ in range(IP_IDENTS)]
    assert one.random() == other.random()
