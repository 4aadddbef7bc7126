"""Topologies as text: what is taken, and what each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.errors import ArgumentError
from e1000emu.topology import Link, Node, Topology, TopologyError
from e1000emu.topology.words import braces

GOOD = """\
name = "two"
seed = 7
[nodes.server]
addresses = {eth0 = ["10.0.0.1/24", "2001:db8::1/64"]}
sysctl = {"net.ipv4.tcp_sack" = 0}
[nodes.client]
count = 4
addresses = {eth0 = ["10.0.0.2/24", "2001:db8::2/64"]}
routes = ["default via 10.0.0.1"]
[nodes.s]
kind = "switch"
count = 2
[[links]]
endpoints = ["client*:eth0", "s*"]
delay = "2ms"
rate = "1Gbit"
loss = "0.1%"
queue = 100
[[links]]
endpoints = ["s1", "s2"]
[[links]]
endpoints = ["s2", "server"]
"""


def test_counted_nodes_and_links() -> None:
    flat = Topology.from_text(GOOD).flat()
    assert list(flat.nodes) == ["server", "client1", "client2", "client3", "client4", "s1", "s2"]
    assert [node.number for node in flat.nodes.values()] == list(range(7))
    assert flat.nodes["client3"].addresses == {"eth0": ("10.0.0.4/24", "2001:db8::4/64")}
    assert [str(link) for link in flat.links] == [
        "client1:eth0-s1:eth0",
        "client2:eth0-s1:eth1",
        "client3:eth0-s2:eth0",
        "client4:eth0-s2:eth1",
        "s1:eth2-s2:eth2",
        "s2:eth3-server:eth0",
    ]
    link = flat.links[0]
    assert (link.delay_ns, link.rate_bps, link.loss) == (2_000_000, 10**9, 0.001)
    assert link.queue_frames == 100
    assert flat.nodes["client3"].interfaces == {"eth0": 2}


def test_braces_are_spread() -> None:
    flat = Topology.from_text(
        """
        [nodes.r]
        kind = "router"
        count = 2
        addresses = {eth0 = "10.1.{1..2}.1/24", eth1 = "10.1.{1..2}.254/30"}
        [nodes.h]
        count = 4
        addresses = {eth0 = "10.1.{1..2}.{11..12}/24"}
        routes = ["default via 10.1.{1..2}.1", "10.9.0.0/16 via 10.1.{1,1,2,2}.1 metric 5"]
        [nodes.s]
        kind = "switch"
        count = 2
        [nodes.core]
        kind = "switch"
        [[links]]
        endpoints = ["h{1..4}", "s{1..2}"]
        [[links]]
        endpoints = ["r*:eth0", "s*:up"]
        [[links]]
        endpoints = ["r*:eth1", "core"]
        """
    ).flat()
    gateways = [flat.nodes[f"h{i}"].routes[0].via for i in range(1, 5)]
    assert gateways == ["10.1.1.1", "10.1.1.1", "10.1.2.1", "10.1.2.1"]
    assert flat.nodes["h3"].addresses["eth0"] == ("10.1.2.11/24",)
    assert flat.nodes["h3"].routes[1].metric == 5
    assert flat.links[4].ends == (("r1", "eth0"), ("s1", "up"))


def test_of_more_texts_each_node_has_several() -> None:
    flat = Topology.from_text(
        """
        [nodes.h]
        count = 2
        addresses = {eth0 = "10.0.0.{1..4}/24"}
        run = ["serve echo:{1..4}"]
        [[links]]
        endpoints = ["h1", "h2"]
        """
    ).flat()
    assert flat.nodes["h2"].addresses == {"eth0": ("10.0.0.3/24", "10.0.0.4/24")}
    assert flat.nodes["h1"].run == ("serve echo:1", "serve echo:2")


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("a{1..2}", ["a1", "a2"]),
        ("'{a,b}' {1,2}", ["'{a,b}' 1", "'{a,b}' 2"]),
        ('"%{x} \\" }" {1..2}', ['"%{x} \\" }" 1', '"%{x} \\" }" 2']),
        (r"\{a,b\} '\' {c,d}", [r"\{a,b\} '\' c", r"\{a,b\} '\' d"]),
        ("it's {1..2}", ["it's 1", "it's 2"]),
        ("{2..1}{a,b}", ["2a", "2b", "1a", "1b"]),
    ],
)
def test_braces_between_quotation_marks_stay(text: str, texts: list[str]) -> None:
    assert braces(text) == texts


@pytest.mark.parametrize("text", ["'{' {1..2", "{1,'2,3'}", '"a" }', "{1..512}{1..513}"])
def test_wrong_braces_beside_quotation_marks(text: str) -> None:
    with pytest.raises(ValueError, match=r"no partner|more than 262,144"):
        braces(text)


def test_the_same_in_python() -> None:
    built = Topology(
        name="two",
        seed=7,
        nodes={
            "server": Node(
                addresses={"eth0": ["10.0.0.1/24", "2001:db8::1/64"]},
                sysctl={"net.ipv4.tcp_sack": 0},
            ),
            "client": Node(
                count=4,
                addresses={"eth0": ["10.0.0.2/24", "2001:db8::2/64"]},
                routes=["default via 10.0.0.1"],
            ),
            "s": Node(kind="switch", count=2),
        },
        links=[
            Link(endpoints=["client*:eth0", "s*"], delay=0.002, rate=1e9, loss=0.001, queue=100),
            Link(endpoints=["s1", "s2"]),
            Link(endpoints=["s2", "server"]),
        ],
    )
    assert built.flat() == Topology.from_text(GOOD).flat()


def test_wrong_structs_say_so() -> None:
    with pytest.raises(TopologyError, match=r"Topology 'x': nodes.a.count = 0: give 1 to"):
        Topology(name="x", nodes={"a": Node(count=0)}).flat()
    with pytest.raises(TopologyError, match=r"nodes.a.routes = 3: give a list"):
        Topology(nodes={"a": Node(routes=3)}).flat()  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="object"):
        Topology(nodes={"a": object()}).flat()  # type: ignore[dict-item]


def replaced(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


MISTAKES = [
    ('name = "two"', "name = 2", 'lab.toml:1: name = 2: give text, such as "two-tiers"'),
    ('name = "two"', "nmae = 2", "lab.toml:1: nmae: there is no such key; .*did you mean name"),
    ("seed = 7", "seed = 1.5", "lab.toml:2: seed = 1.5: give a whole number or text"),
    ("seed = 7", "start = 'soon'", "lab.toml:2: start = 'soon': 'soon' is no duration; write"),
    ("seed = 7", "loops = 1", "lab.toml:2: loops = 1: give true or false"),
    ("count = 4", "count = 0", "lab.toml:7: nodes.client.count = 0: give 1 to"),
    ("count = 4", "count = -1", "lab.toml:7: nodes.client.count = -1: give 1 to"),
    ("count = 4", "count = 99999999999", "lab.toml:7: nodes.client.count = 99999999999: give"),
    ("count = 4", "count = 9223372036854775808", "lab.toml:7: nodes.client.count = .* too large"),
    ("count = 4", 'count = "4"', "lab.toml:7: nodes.client.count = '4': give a whole number"),
    ("count = 4", "count = 300", "lab.toml:8: .*eth0.0. = .*beyond 10.0.0.0/24; give a larger"),
    ("count = 4", "count = 3", r"lab.toml:14: links\[0\].endpoints = .*3 ends and 2 ends"),
    ('kind = "switch"', 'kind = "bridge"', "lab.toml:11: nodes.s.kind = 'bridge': there are: host"),
    ('kind = "switch"', 'kind = "swich"', "lab.toml:11: .*did you mean switch"),
    ('kind = "switch"', 'type = "switch"', "lab.toml:11: nodes.s.type: .*; write kind"),
    ('kind = "switch"', 'kind = "switch"\nrun = ["x"]', "lab.toml:12: nodes.s.run = .*leave it"),
    ('kind = "switch"', 'nic = "82540"', "lab.toml:11: nodes.s.nic = '82540': no such model"),
    ("tcp_sack", "tcp_sock", "lab.toml:5: nodes.server.sysctl.net.ipv4.tcp_sock = 0: "),
    ('tcp_sack" = 0', 'tcp_sack" = -1', "lab.toml:5: nodes.server.sysctl.net.ipv4.tcp_sack = -1: "),
    ("[nodes.server]", "[nodes.9]", "lab.toml:3: nodes.9: no name for a node; give letters"),
    ("[nodes.server]", "[nodes.client1]\n[nodes.server]", "nodes.client1 makes a node client1 too"),
    ("10.0.0.1/24", "10.0.0.1", "lab.toml:4: nodes.server.addresses.eth0.0.: 10.0.0.1 has no pref"),
    ("10.0.0.1/24", "10.0.0.256/24", "lab.toml:4: .*write for instance 10.0.0.1/24"),
    ("10.0.0.1/24", "10.0.0.255/24", "lab.toml:4: .*is the broadcast address of 10.0.0.0/24"),
    ("10.0.0.1/24", "10.0.0.3/24", "10.0.0.3 of client2 is server:eth0's already"),
    ("10.0.0.2/24", "10.0.0.{2..4}/24", "lab.toml:8: .*3 addresses for 4 nodes; give each one"),
    ("10.0.0.1/24", "10.0.0.{1-3}/24", "lab.toml:4: .*{1-3} is no list; write {1..10} or {a,b}"),
    ("10.0.0.1/24", "10.0.0.{1..999999999}/24", "lab.toml:4: .*more than 262,144"),
    ("10.0.0.1/24", "10.0.0.{1/24", "lab.toml:4: .*a brace has no partner"),
    ('{eth0 = ["10.0.0.1', '{lan0 = ["10.0.0.1', "lab.toml:4: .*lan0: no interface; they are"),
    ('{eth0 = ["10.0.0.1', '{eth1 = ["10.0.0.1', "lab.toml:4: .*eth1: server has no link at eth1"),
    ("default via 10.0.0.1", "default via 10.0.9.1", "lab.toml:9: .*10.0.9.1 is not inside 10.0"),
    ("default via 10.0.0.1", "default", "lab.toml:9: nodes.client.routes.0. = 'default': it has"),
    ("default via 10.0.0.1", "default va 10.0.0.1", "lab.toml:9: .*write for instance default via"),
    ("default via 10.0.0.1", "10.0.0.1/8 via 10.0.0.1", "lab.toml:9: .*has host bits set"),
    ("default via 10.0.0.1", "::/0 via 10.0.0.1", "lab.toml:9: .*two families"),
    ("default via 10.0.0.1", "default dev eth3", "lab.toml:9: .*no interface eth3"),
    ('delay = "2ms"', 'delay = "-2ms"', r"lab.toml:15: links\[0\].delay = '-2ms': '-2ms' is no"),
    ('delay = "2ms"', "delay = -2", r"lab.toml:15: links\[0\].delay = -2: '-2' is no duration"),
    ('delay = "2ms"', "delay = true", r"lab.toml:15: links\[0\].delay = True: give a number or te"),
    ('delay = "2ms"', "delay = nan", r"lab.toml:15: links\[0\].delay = nan: 'nan' is no duration"),
    ('delay = "2ms"', "latency = 2", "lab.toml:15: links.0..latency: there is no such key"),
    ('rate = "1Gbit"', "rate = 0", r"lab.toml:16: links\[0\].rate = 0: '0' is no rate; write"),
    ('rate = "1Gbit"', "bw = 10", r"lab.toml:16: links\[0\].bw: .*; write rate"),
    ('loss = "0.1%"', 'loss = "101%"', r"lab.toml:17: links\[0\].loss = '101%': .*more than 100%"),
    ("queue = 100", "queue = 0", r"lab.toml:18: links\[0\].queue = 0: give 1 to"),
    ("queue = 100", "mtu = 9", r"lab.toml:18: links\[0\].mtu = 9: give 68 to"),
    ('["s1", "s2"]', '["s1"]', r"lab.toml:20: links\[1\].endpoints = \['s1'\]: give two"),
    ('["s1", "s2"]', '["s1", "s3"]', "lab.toml:20: links.1..endpoints.1. = 's3': there is no node"),
    ('["s1", "s2"]', '["s1", "s"]', "lab.toml:20: .*there is no node 's'; write s. for all"),
    ('["s1", "s2"]', '["s1", "t*"]', "lab.toml:20: .*no nodes are called 't'"),
    ('["s1", "s2"]', '["s1", "s1"]', "lab.toml:20: .*it joins s1 with itself"),
    ('["s1", "s2"]', '["s1:a b", "s2"]', "lab.toml:20: .*no interface 'a b'"),
    (
        '["s1", "s2"]',
        '["s1", "s2"]\n[[links]]\nendpoints = ["s1", "s2"]',
        "lab.toml:21: links.2.: s1 and s2 are joined already: this closes a loop of switches",
    ),
    ('["s2", "server"]', '["s2", "client1:eth0"]', "lab.toml:22: .*client1:eth0 is in links.0."),
    ('["s2", "server"]', '["s2", "server:eth1"]', "lab.toml:.: .*server has no link at eth0"),
    ('endpoints = ["s2", "server"]', "", r"lab.toml:21: links\[2\]: it has no endpoints; give two"),
    ("[nodes.server]", "nodes.x = 3\n[nodes.server]", "lab.toml:3: nodes.x = 3: give a table"),
    ("[nodes.server]", "[nodes.server", "lab.toml: no TOML: .*line 3"),
]


@pytest.mark.parametrize(("old", "new", "told"), MISTAKES)
def test_a_mistake_is_told_with_line_key_value_and_remedy(old: str, new: str, told: str) -> None:
    with pytest.raises(TopologyError, match=told) as caught:
        Topology.from_text(replaced(old, new), file="lab.toml")
    assert isinstance(caught.value, ArgumentError)
    assert "\n" not in str(caught.value)


def test_a_loop_of_switches_may_be_wanted() -> None:
    text = replaced('["s1", "s2"]', '["s1", "s2"]\n[[links]]\nendpoints = ["s1", "s2"]')
    assert len(Topology.from_text(f"loops = true\n{text}").flat().links) == 7


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "lab.toml"
    file.write_text(GOOD)
    assert Topology.read(file) == Topology.from_text(GOOD)
    file.write_bytes(b'name = "a"\n# \xff')
    with pytest.raises(TopologyError, match=r"lab.toml:2: byte 0xff is no UTF-8"):
        Topology.read(file)
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(TopologyError, match="no TOML"):
        Topology.read(file)
    with pytest.raises(FileNotFoundError):
        Topology.read(tmp_path / "none.toml")


def told(text: str) -> str:
    """Return what a wrong text is told, or that there is nothing wrong."""
    try:
        Topology.from_text(text, file="f")
    except TopologyError as error:
        return str(error)
    return "f: good"


PIECES = st.sampled_from(GOOD.split("\n")) | st.text(max_size=20)


@given(st.lists(PIECES, max_size=30))
def test_hostile_text_ends_with_one_clear_error(lines: list[str]) -> None:
    assert told("\n".join(lines)).startswith("f:")


@given(st.sampled_from([i for i, c in enumerate(GOOD) if c not in "\n "]), st.characters())
def test_one_wrong_character_ends_with_one_clear_error(at: int, char: str) -> None:
    assert told(GOOD[:at] + char + GOOD[at + 1 :]).startswith("f:")
