"""Commands of nft at random: a few tables, chains and sets, many of which refer to each other."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

__all__ = ["script"]

FAMILIES = ("ip", "ip", "inet", "ip6")
CHAINS = ("a", "b", "base", "out")
BASE = {
    "base": " { type filter hook input priority 0; policy accept; }",
    "out": " { type filter hook output priority -150; }",
}
SETS = {
    "s": "{ type ipv4_addr; }",
    "i": "{ type ipv4_addr; flags interval; }",
    "m": "{ type ipv4_addr : mark; }",
    "c": "{ type ipv4_addr . inet_service; flags interval; }",
    "vm": "{ type inet_service : verdict; }",
    "dy": "{ type ipv4_addr; flags dynamic,timeout; timeout 1h; size 100; }",
}
PORTS = ("1", "2", "80", "1-5", "80-90", "{ 1, 2 }", "{ 1-5, 80 }", "!= 7", "> 5", "<= 9")
ADDRESSES = (
    *("1.1.1.1", "10.0.0.0/8", "1.0.0.1-1.0.0.9", "{ 1.1.1.1, 2.2.2.2 }", "!= 3.3.3.3"),
    *("@s", "@i"),
)
MATCHES = (
    *("tcp dport PORT", "udp sport PORT", "ip saddr ADDRESS", "ip daddr . tcp dport @c"),
    *("meta mark 1", "meta mark 0x10/0xf0", "meta mark { 1, 2 }", "meta mark and 0x3 == 1"),
    *('iifname "lo"', "oif lo", "meta l4proto tcp", "meta l4proto { tcp, udp }"),
    *("tcp flags syn", "tcp flags syn / syn,ack", "tcp flags & (fin|rst) != 0", "ip ttl PORT"),
    *("ip6 saddr fd00::/8", "icmp type echo-request", "meta length 5", "meta pkttype host"),
    *("ip dscp cs1", "ip protocol tcp", "@nh,8,16 5"),
)
STATEMENTS = (
    *("accept", "drop", "return", "counter", "counter accept", "jump CHAIN", "goto CHAIN"),
    *("continue", "jump { counter; tcp dport 1 accept; }", "meta mark set 1"),
    *("meta mark set ip daddr map @m", "meta mark set mark or 5", "ip ttl set 5"),
    *("tcp dport vmap @vm", "tcp dport vmap { 1 : accept, 2-3 : jump b }"),
    *("meta priority set 1:2", "add @dy { ip saddr }", "update @dy { ip saddr counter }"),
    *("delete @dy { ip saddr }", 'counter packets 5 bytes 9 comment "x y"', "tcp sport set 5"),
    *("ip saddr vmap { 1.1.1.1 : drop }", "meta pkttype set host"),
)
ELEMENTS = {
    "s": ("1.1.1.1", "2.2.2.2", "3.3.3.3, 4.4.4.4", '1.1.1.1 comment "e"', "1.1.1.1 timeout 1h"),
    "i": (
        *("1.1.1.1", "10.0.0.0/8", "10.0.0.5", "9.0.0.0-11.0.0.0", "2.2.2.2-2.2.2.9"),
        *("2.2.2.5-2.2.2.12", "0.0.0.0-1.0.0.0", "255.255.255.0/24"),
    ),
    "m": ("1.1.1.1 : 1", "1.1.1.1 : 2", "2.2.2.2 : 2", "3.3.3.3 : 3"),
    "c": ("1.1.1.1 . 1", "1.1.1.1 . 5-9", "10.0.0.0/8 . 80", "10.0.0.0-10.0.0.9 . 5-9"),
    "vm": ("1 : accept", "1 : drop", "2 : jump a", "2 : jump b", "3 : goto base"),
    "dy": ("1.1.1.1", "2.2.2.2", "3.3.3.3, 4.4.4.4", "1.1.1.1 timeout 1h"),
}
COMMANDS: tuple[tuple[int, str], ...] = (
    (2, "add table TABLE"),
    (1, "add table TABLE { flags dormant; }"),
    (3, "add chain TABLE HOOKED"),
    (1, "create chain TABLE HOOKED"),
    (1, "add chain TABLE base { policy drop; }"),
    (6, "add rule TABLE CHAIN RULE"),
    (3, "insert rule TABLE CHAIN RULE"),
    (1, "add rule TABLE CHAIN position SMALL RULE"),
    (1, "insert rule TABLE CHAIN index SMALL RULE"),
    (1, "replace rule TABLE CHAIN handle NUMBER RULE"),
    (1, "delete rule TABLE CHAIN handle NUMBER"),
    (3, "add SET"),
    (1, "create SET"),
    (3, "add element ELEMENT"),
    (1, "create element ELEMENT"),
    (1, "delete element ELEMENT"),
    (1, "get element ELEMENT"),
    (1, "delete NAMED"),
    (1, "flush NAMED"),
    (1, "delete chain TABLE CHAIN"),
    (1, "flush chain TABLE CHAIN"),
    (1, "rename chain TABLE CHAIN CHAIN"),
    (1, "list table TABLE"),
    (1, "list chains"),
)
BEGIN = """
for t in ip inet; do
    nft add table $t t; nft add chain $t t a; nft add chain $t t b
    nft add chain $t t base '{ type filter hook input priority 0; }'
done
"""
LIST = "nft -a list ruleset"


class Commands:
    """A source of commands; `random` makes all choices."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.words: dict[str, Callable[[], str]] = {
            "TABLE": lambda: f"{self.one(FAMILIES)} {self.one(('t', 't', 'u'))}",
            "CHAIN": lambda: self.one(CHAINS),
            "HOOKED": self.hooked,
            "RULE": self.rule,
            "SET": lambda: self.set(described=True),
            "NAMED": lambda: self.set(described=False),
            "ELEMENT": self.element,
            "PORT": lambda: self.one(PORTS),
            "ADDRESS": lambda: self.one(ADDRESSES),
            "SMALL": lambda: str(self.random.randint(0, 9)),
            "NUMBER": lambda: str(self.random.randint(2, 20)),
        }

    def one(self, what: tuple[str, ...]) -> str:
        """One of several words."""
        return self.random.choice(what)

    def filled(self, text: str) -> str:
        """The text with each word in capitals replaced."""
        words = text.split(" ")
        return " ".join(self.words[word]() if word in self.words else word for word in words)

    def hooked(self) -> str:
        """A chain, optionally with a hook."""
        name = self.one(CHAINS)
        return name + BASE.get(name, "")

    def rule(self) -> str:
        """Some conditions and a statement."""
        parts = [self.one(MATCHES) for _ in range(self.random.choice((0, 1, 1, 2)))]
        return self.filled(" ".join([*parts, self.one(STATEMENTS)]))

    def set(self, described: bool) -> str:
        """A set or map of a table."""
        name = self.one(tuple(SETS))
        kind = "map" if name in ("m", "vm") else "set"
        text = f"{kind} {self.words['TABLE']()} {name}"
        return f"{text} {SETS[name]}" if described else text

    def element(self) -> str:
        """An element of a set."""
        name = self.one(tuple(SETS))
        return f"{self.words['TABLE']()} {name} {{ {self.one(ELEMENTS[name])} }}"

    def command(self) -> str:
        """One command."""
        weights, texts = [weight for weight, _ in COMMANDS], [text for _, text in COMMANDS]
        return self.filled(self.random.choices(texts, weights)[0])


def script(seed: int, length: int) -> str:
    """A script with as many commands, some in batches, and listings after them."""
    source = Commands(seed)
    lines = [BEGIN]
    for name, description in SETS.items():
        kind = "map" if name in ("m", "vm") else "set"
        lines.append(f"nft add {kind} ip t {name} '{description}'")
    for number in range(length):
        if source.random.random() < 0.3:
            batch = [source.command() for _ in range(source.random.randint(2, 5))]
        else:
            batch = [source.command()]
        lines += [f"echo '# {number}'; nft -f - <<'X'", *batch, "X"]
        if number % 5 == 0:
            lines.append(LIST)
    return "\n".join([*lines, LIST, ""])
