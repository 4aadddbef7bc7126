"""Run by test_stackc.py where the rules are compiled: `stack.rules` against its own source."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import sys
import types
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import stack
from fastpath.base.skbuff import sk_buff
from stack import callee, consts, rules
from stack.core.dst import dst_entry
from stack.core.netdevice import net_device
from stack.core.rows import clone_state


def sources(name: str) -> types.ModuleType:
    """A module of the tree from its source."""
    path = Path(stack.__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"plain_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    return module


plain = sources("rules")
plain.callee = sources("callee")
for name in ("half", "holds", "minus_one", "replaced", "twice", "with_default"):
    setattr(plain, name, getattr(plain.callee, name))

ARITHMETIC = [
    name
    for name, function in vars(plain).items()
    if inspect.isfunction(function)
    and function.__module__ == "plain_rules"
    and list(inspect.signature(function).parameters)[:2] == ["a", "b"]
]
# The value passes 64 bits on the way and comes back: Python's integers go on, ours refuse.
MAY_REFUSE = {"augmented", "multiply_small", "constants", "sequence_number", "calls"}
MAY_REFUSE |= {"augmented_untyped", "mask_of_bits", "negate_sum", "attribute", "shift_masked"}
EDGE = [0, 1, 2, 13, 31, 62, 63, 64, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62]
EDGES = sorted({s * e + d for e in [*EDGE, (1 << 63) - 2] for s in (1, -1) for d in (-1, 0, 1)})
ints = st.one_of(
    st.sampled_from(EDGES),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(-100, 100),
)


def outcome(function: object, *args: int) -> object:
    """What a function returns, or the exception's type."""
    try:
        value = function(*args)
    except MemoryError:
        return MemoryError
    except Exception as error:
        return type(error)
    fits = not isinstance(value, int) or -(1 << 63) <= value < 1 << 63
    return value if fits else OverflowError


def test_the_compiled_form_is_what_is_tested() -> None:
    assert stack.COMPILED
    assert rules.__file__.endswith(".so")
    assert callee.__file__.endswith(".so")
    assert len(ARITHMETIC) > 35


@pytest.mark.parametrize("name", ARITHMETIC)
@settings(max_examples=300, deadline=None)
@given(a=ints, b=ints)
@example(a=-(1 << 63), b=-1)
@example(a=(1 << 63) - 1, b=1)
@example(a=-(1 << 63), b=0)
@example(a=7, b=63)
def test_arithmetic(name: str, a: int, b: int) -> None:
    if "shift_left" in name and b > 200:
        b %= 200  # a number of as many bits is made
    ours, wanted = outcome(getattr(rules, name), a, b), outcome(getattr(plain, name), a, b)
    if ours is OverflowError and name in MAY_REFUSE:
        return
    assert ours == wanted
    assert type(ours) is type(wanted)


@pytest.mark.parametrize("name", sorted(MAY_REFUSE))
def test_what_may_be_refused_is_right_where_it_is_not(name: str) -> None:
    for a in (0, 5, -5, 1 << 30, -(1 << 30)):
        for b in (0, 1, 4, 20):
            wanted = outcome(getattr(plain, name), a, b)
            assert outcome(getattr(rules, name), a, b) == wanted, (a, b)


def test_an_argument_that_does_not_fit() -> None:
    for value in (1 << 63, -(1 << 63) - 1, 1 << 200):
        with pytest.raises(OverflowError, match=r"too (large|big)"):
            rules.add(value, 0)
    with pytest.raises(TypeError):
        rules.add("1", 0)
    with pytest.raises(OverflowError):
        rules.pair(1 << 63)
    with pytest.raises(OverflowError):
        rules.pair(1).first = 1 << 63


def test_exceptions_pass_direct_calls() -> None:
    assert rules.errors(False) == -1
    with pytest.raises(KeyError, match="failed"):
        rules.errors(True)
    with pytest.raises(ArithmeticError):
        rules.truth(13, 1)
    assert rules.truth(1, -1) is False
    assert rules.truth(1, 1) is True
    assert rules.caught(-3) == "odd: -3"
    assert rules.caught(-4) == "-2"


@pytest.mark.parametrize("name", ["defaults", "redefined", "copies", "own_caller"])
def test_same_without_arguments(name: str) -> None:
    assert getattr(rules, name)() == getattr(plain, name)()


def test_a_traceback_leads_into_the_source() -> None:
    with pytest.raises(ValueError, match="odd") as caught:
        rules.calls(-3, 0)
    lines = Path(plain.__file__ or stack.__file__).with_name("callee.py").read_text().splitlines()
    frame = caught.traceback[-1]
    assert frame.frame.code.name.endswith("half")
    assert "raise ValueError" in lines[frame.lineno]


def test_keyword_only() -> None:
    assert rules.keyword_only(1, 2, third=5) == plain.keyword_only(1, 2, third=5)


def test_global_names_are_those_of_run_time() -> None:
    assert [rules.count(), rules.count()] == [1, 2]
    assert rules.counter == 2
    consts.hook(41)
    assert rules.hooked() == 41


def test_a_field_that_is_a_truth_value() -> None:
    p = rules.pair(1)
    p.flag = 17
    assert p.flag is True
    assert rules.pair(3).flag is True
    assert rules.triple(3).flag is False


M32 = 0xFFFFFFFF
NARROW = {"one": (0, 0xFF), "two": (0, 0xFFFF), "four": (0, M32), "sign": (-(1 << 31), M32 >> 1)}


@pytest.mark.parametrize(("name", "bounds"), NARROW.items())
def test_a_field_of_few_bits_takes_what_fits(name: str, bounds: tuple[int, int]) -> None:
    p = rules.small(0)
    least, most = bounds
    for value in (least, most):
        rules.store(p, name, value)
        assert getattr(p, name) == value
        setattr(p, name, most - value + least)
        assert getattr(p, name) == most - value + least
    was = {field: getattr(p, field) for field in rules.small.__rows__}
    for value in (least - 1, most + 1, 1 << 40, -(1 << 63)):
        with pytest.raises(OverflowError, match="does not fit"):
            rules.store(p, name, value)
        with pytest.raises(OverflowError, match=f"does not fit into {name}"):
            setattr(p, name, value)
    assert {field: getattr(p, field) for field in rules.small.__rows__} == was


def test_a_sum_that_does_not_fit_is_refused_when_it_is_stored() -> None:
    p = rules.small(0)
    assert rules.count_up(p, 254) == 255
    with pytest.raises(OverflowError, match="256 does not fit"):
        rules.count_up(p, 1)
    assert p.one == 255


def test_a_clone_gets_of_narrow_fields_side_by_side_what_their_rows_say() -> None:
    kept = {"full": 9, "one": 10, "four": 11, "name": "x", "flag": False, "last": 12}
    fresh = {"two": 2, "sign": -4, "other": 5, "fresh": False}
    for module in (rules, plain):
        p = module.small(9)
        for field in fresh:
            setattr(p, field, 99)
        for field, value in kept.items():
            setattr(p, field, value)
        q = clone_state(p)
        assert {field: getattr(q, field) for field in kept} == kept
        assert {field: getattr(q, field) for field in fresh} == fresh
        r = module.small(1)
        assert (r.one, r.two, r.four, r.sign, r.other) == (1, 2, 4, -4, 5)
        assert (r.name, r.flag, r.fresh, r.last) == ("small", True, False, 7)


def test_narrow_fields_take_no_more_than_their_bytes() -> None:
    # head, one object, 8 bytes, two of 4, one of 2, five of 1
    assert rules.small.__basicsize__ == 16 + 8 + 8 + 2 * 4 + 2 + 5 + 1


def test_fields() -> None:
    p = rules.pair(1, 2)
    assert (p.first, p.second, p.large, p.ratio, p.names, p.of) == (1, 2, 1 << 70, 0.5, [], 2)
    q = copy.copy(p)
    assert q is not p
    assert q.names is p.names
    assert q.large == 1 << 70
    with pytest.raises(AttributeError):
        p.other = 1
    with pytest.raises(AttributeError):
        del p.first
    with pytest.raises(TypeError):
        rules.pair()
    with pytest.raises(TypeError, match="pickle"):
        copy.deepcopy(p)


def test_what_a_packet_refers_to() -> None:
    skb = sk_buff()
    assert rules.device(skb) is None
    assert rules.route(skb) == -1
    skb.dev, skb.dst = net_device("eth0"), dst_entry()
    skb.dst.mtu = 1400
    assert rules.device(skb) == rules.local_device(skb) == "eth0"
    assert rules.route(skb) == 1400
    skb.dev = "no device"
    with pytest.raises(TypeError):
        rules.device(skb)
    assert rules.other_skb(skb) == ["a", "b"]


def test_none_is_no_crash() -> None:
    with pytest.raises(AttributeError, match="name"):
        rules.no_device(None)
    with pytest.raises(TypeError):
        rules.no_device("x")
    with pytest.raises(AttributeError):
        rules.local_device(None)


def test_what_became_a_c_function() -> None:
    declared = (Path("build/stackc/stack/rules.pxd")).read_text()
    for name in ("add", "matched", "own"):
        assert f" {name}(" in declared
    for name in ("closure", "keyword_only", "generated", "other_skb"):
        assert f" {name}(" not in declared, "makes a closure or has keyword-only parameters"
    declared = (Path("build/stackc/stack/callee.pxd")).read_text()
    assert "half(" in declared
    assert "twice(" not in declared
    assert "replaced(" not in declared
    text = (Path("build/stackc/stack/rules.pyx")).read_text()
    assert "_d_half(a)" in text
    assert "SMALL = b & 0xFF" in text
    assert "return SMALL + half" in text
    assert "(1 << 63)" not in text
    assert "x=longlong" in text
    for variable in ("alone=longlong", "kept=longlong", "route=_c_stack", "y=object"):
        assert variable in text
    for shared in ("low=", "base="):
        assert shared not in text, "Cython would declare it in the closure too"
