"""State rows: slots, initialisation and clones come from one declaration."""

from __future__ import annotations

import ast
import copy
import pickle
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

import stack.inet.ping
import stack.inet.raw
import stack.inet.tcp_minisocks  # noqa: F401
from e1000emu.clock import VirtualClock
from stack import COMPILED
from stack.core.rows import FRESH, KEEP, REQUIRED, clone_state, replace, row, rows_of, state, wide
from stack.core.sock import sock
from stack.host import Host
from stack.inet.flow import flowi
from stack.inet.inet_connection_sock import inet_connection_sock, request_sock
from stack.inet.inet_sock import inet_sock
from stack.inet.tcp_sock import tcp_options_received, tcp_sock
from stack.inet.udp_hash import udp_sock


@state
class Animal:
    net: Any
    name: str = row("none")
    legs: int = row(4, ss="legs")
    food: list[str] = row(make=list, clone=FRESH)
    friends: list[str] = row(make=list, clone=list)
    home: Any = row(of=lambda self: self.net)


@state
class Bird(Animal):
    legs: int = row(2, ss="feet")
    wings: int = row(2, clone=lambda wings: wings - 1)


def test_a_row_gives_slot_start_value_and_clone() -> None:
    bird = Bird("tree")
    assert (bird.name, bird.legs, bird.wings, bird.food, bird.home) == ("none", 2, 2, [], "tree")
    assert not hasattr(bird, "__dict__")
    bird.name, bird.legs = "robin", 1
    bird.food.append("worm")
    bird.friends.append("wren")
    child = clone_state(bird)
    assert type(child) is Bird
    assert (child.name, child.legs, child.wings, child.food) == ("robin", 1, 1, [])
    assert child.friends == ["wren"]
    assert child.friends is not bird.friends


NOTHING: list[str] = []


@state
class Nest:
    eggs: list[str] = row(NOTHING, shared=True, clone=FRESH)


def test_a_shared_default_is_that_object_until_it_is_replaced() -> None:
    one, other = Nest(), Nest()
    assert one.eggs is other.eggs is NOTHING
    one.eggs = ["blue"]
    assert clone_state(one).eggs is NOTHING
    with pytest.raises(TypeError, match="shared"):
        row([])


def test_a_subclass_overrides_a_row_and_adds_slots_only_for_its_own() -> None:
    assert Bird.__slots__ == ("wings",)  # type: ignore[attr-defined]
    assert rows_of(Bird)["legs"].ss == "feet"
    assert rows_of(Animal)["legs"].ss == "legs"
    assert list(rows_of(Bird))[:3] == ["net", "name", "legs"]


def test_a_mutable_default_is_refused() -> None:
    with pytest.raises(TypeError, match="shared; use make="):
        row([])
    with pytest.raises(TypeError, match="shared"):
        row(([],))
    with pytest.raises(TypeError, match="shared"):
        state(type("Bad", (), {"__annotations__": {"legs": "list[int]"}, "legs": []}))
    assert row((1, 2)).default == (1, 2)
    assert row(0).clone is KEEP


@state
class Point:
    family: int
    daddr: wide = 0
    port: int = 7
    ident: int = row(-1)
    seen: list[int] = row(make=list)


@state(weakref=True)
class Named(Point):
    name: str = "origin"
    port: int = 8

    def sum(self) -> int:
        return self.family + self.port


@state
class Counted(Named):
    def __init__(self, family: int) -> None:
        super().__init__(family, name="one")

    def sum(self) -> int:
        return super().sum() + 1


def test_the_constructor_takes_the_fields_without_row_in_their_order() -> None:
    point = Point(2, 1 << 100)
    assert (point.family, point.daddr, point.port, point.ident) == (2, 1 << 100, 7, -1)
    assert Point(family=2, port=9).port == 9
    assert point.seen == []
    assert point.seen is not Point(2).seen
    named = Named(10, 3, 4, "there")
    assert (named.family, named.daddr, named.port, named.name) == (10, 3, 4, "there")
    assert Named(10).port == 8
    assert rows_of(Point)["family"].default is REQUIRED
    assert rows_of(Point)["ident"].init is False


@pytest.mark.parametrize("args", [(), (1, 2, 3, 4)])
def test_a_constructor_without_a_required_field_or_with_too_many_is_an_error(
    args: tuple[int, ...],
) -> None:
    with pytest.raises(TypeError, match="__init__"):
        Point(*args)


@pytest.mark.parametrize(
    ("args", "named", "match"),
    [
        ((), {}, "missing .*'family'"),
        ((2,) * 13, {}, "takes .* arguments but 1[34] were given"),
        ((2,), {"height": 3}, "an unexpected keyword argument 'height'"),
        ((2,), {"ident": 3}, "an unexpected keyword argument 'ident'"),  # a row
        ((2,), {"family": 3}, "multiple values for argument 'family'"),
    ],
)
def test_the_constructor_of_a_compiled_class_says_what_is_wrong(
    args: tuple[int, ...], named: dict[str, int], match: str
) -> None:
    with pytest.raises(TypeError, match=match):
        flowi(*args, **named)


class Wider(flowi):
    """Not under @state: it has a dict, and the constructor of its base."""


def test_a_compiled_class_is_made_by_position_by_name_and_by_a_subclass() -> None:
    for cls in (flowi, Wider):
        made = cls(2, 1 << 100, flowi_oif=3)
        assert type(made) is cls
        assert (made.family, made.daddr, made.saddr, made.flowi_oif) == (2, 1 << 100, 0, 3)
        assert (made.ident, made.flowi_flags) == (-1, 0)
        other = copy.copy(made)
        assert (type(other), other.daddr, other.ident) == (cls, 1 << 100, -1)
        made.__init__(10)  # type: ignore[misc]
        assert (made.family, made.daddr, made.flowi_oif) == (10, 0, 0)
    wider = Wider(2)
    wider.note = "more"  # type: ignore[attr-defined]
    assert flowi.__init__(wider, 3) is None  # type: ignore[func-returns-value]


@pytest.mark.skipif(not COMPILED, reason="the sources' attributes take anything")
def test_a_field_in_c_takes_its_type_alone_and_an_error_keeps_nothing() -> None:
    wrong = Odd()
    before = sys.getrefcount(wrong)
    for _ in range(50):
        with pytest.raises(TypeError):
            flowi(2, flowi_oif=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="unexpected"):
            flowi(2, daddr=wrong, height=wrong)  # type: ignore[arg-type, call-arg]
        with pytest.raises(OverflowError):
            flowi(2, flowi_oif=1 << 63)
        with pytest.raises(TypeError, match=r"a .*tcp_options_received is wanted here, not a Odd"):
            tcp_sock.rx_opt.__set__(tcp_sock.__new__(tcp_sock), wrong)  # type: ignore[attr-defined]
    assert sys.getrefcount(wrong) == before
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del flowi(2).family
    with pytest.raises(TypeError, match=r"a clone of a .*flowi is wanted, not a Odd"):
        flowi(2).clone_state(wrong)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(flowi(2))


class Odd:
    pass


def test_replace_makes_another_object() -> None:
    point = replace(Point(2, 5), port=3)
    assert (point.family, point.daddr, point.port, point.ident) == (2, 5, 3, -1)
    with pytest.raises(TypeError, match="unexpected"):
        replace(point, height=3)


def test_init_state_leaves_a_field_without_default_alone() -> None:
    point = Point(2, 3)
    point.ident = 5
    point.init_state()  # type: ignore[attr-defined]
    assert (point.family, point.daddr, point.ident) == (2, 0, -1)


def test_methods_may_use_super_and_a_constructor_may_be_written_by_hand() -> None:
    counted = Counted(3)
    assert (counted.name, counted.port, counted.sum()) == ("one", 8, 12)


def test_weak_references_are_possible_where_asked_for() -> None:
    assert weakref.ref(named := Named(1))() is named
    with pytest.raises(TypeError, match="weak reference"):
        weakref.ref(Point(1))


@pytest.mark.parametrize("cls", [sock, inet_sock, inet_connection_sock, tcp_sock, udp_sock])
def test_every_field_of_a_new_sock_is_set(cls: type) -> None:
    sk = cls(Host("host", clock=VirtualClock()))
    for name in rows_of(cls):
        getattr(sk, name)  # AttributeError when nothing set it
    assert not hasattr(sk, "__dict__")
    clone = clone_state(sk)
    for name in rows_of(cls):
        getattr(clone, name)


def test_no_container_of_a_listener_is_shared_with_its_child() -> None:
    sk = tcp_sock(Host("host", clock=VirtualClock()))
    child = clone_state(sk)
    shared = [
        name
        for name, entry in rows_of(tcp_sock).items()
        if entry.make is not None
        and getattr(sk, name) is getattr(child, name)
        and not callable(getattr(sk, name))
    ]
    assert shared == []


@pytest.mark.uncompiled
def test_a_class_has_no_field_outside_its_rows() -> None:
    for cls in (sock, inet_sock, tcp_sock, udp_sock, request_sock, tcp_options_received):
        slots = [name for base in cls.__mro__ for name in base.__dict__.get("__slots__", ())]
        assert sorted({*slots} - {"__weakref__"}) == sorted(rows_of(cls))
        assert len(slots) == len(set(slots))


ADDRESSES = {
    *("addr", "saddr", "daddr", "raddr", "laddr", "src_addr", "mc_addr", "multiaddr", "group"),
    *("inet_saddr", "inet_rcv_saddr", "inet_daddr", "gateway", "gwaddr", "gw", "prefsrc"),
}


def test_addresses_of_both_families_are_wide() -> None:
    """The compiled stack keeps an `int` in 64 bits; an IPv6 address would not fit."""
    narrow = []
    stack = Path(__file__).parents[3] / "stack"
    paths = [path for name in ("core", "inet", "ipv6") for path in (stack / name).glob("*.py")]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.arg(arg=name, annotation=ast.AST() as kind):
                    pass
                case ast.AnnAssign(target=ast.Name(id=name) | ast.Attribute(attr=name)):
                    kind = node.annotation
                case _:
                    continue
            if name == "group" and path.name == "netdevice.py":
                continue  # of interfaces
            if name in ADDRESSES and ast.unparse(kind) in ("int", "int | None"):
                narrow.append(f"{path.name}:{node.lineno}: {name}")
    assert len(paths) > 100
    assert narrow == []


@pytest.mark.slow
def test_a_class_under_state_says_everything_in_its_body() -> None:
    """What the compiled stack makes C structures of it asks for; it sees the text alone."""
    root = Path(__file__).parents[3] / "stack"
    found: dict[str, ast.ClassDef] = {}
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(decorator) in ("state", "state(weakref=True)")
                for decorator in node.decorator_list
            ):
                assert node.name not in found, "one name, one structure"
                found[node.name] = node
    assert len(found) > 100
    for name, node in found.items():
        assert len(node.decorator_list) == 1, name
        bases = [ast.unparse(base) for base in node.bases]
        assert not bases or (len(bases) == 1 and bases[0] in found), (name, bases)
        for line in node.body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Call):
                assert ast.unparse(line.value.func) == "row", (name, ast.unparse(line))
            assert not (isinstance(line, ast.Assign) and "__slots__" in ast.unparse(line)), name


@pytest.mark.slow
def test_the_type_checker_knows_the_fields(tmp_path: Path) -> None:
    """A misspelt field, and one of a wrong type, are found in a user's script."""
    script = tmp_path / "script.py"
    script.write_text(
        "from stack.inet.tcp_sock import tcp_sock\n"
        "def f(sk: tcp_sock) -> int:\n"
        "    sk.snd_cwnd = 4\n"
        "    sk.snd_cwndd = 4\n"
        "    sk.snd_cwnd = 'four'\n"
        "    return sk.snd_una\n"
        "tcp_sock()\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), script],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert 'script.py:4: error: "tcp_sock" has no attribute "snd_cwndd"' in done.stdout
    assert "script.py:5: error: Incompatible types in assignment" in done.stdout
    assert 'script.py:7: error: Missing positional argument "net" in call' in done.stdout
