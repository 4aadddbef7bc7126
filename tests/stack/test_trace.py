"""The call recorder and its formats."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from stack import trace
from stack.trace import Call, Tracer, layer_of
from stack.trace_format import FORMATS, render


@pytest.fixture
def calls():
    """Three calls: a root with a child and a grandchild, then a second root."""
    return [
        Call("sys_sendto", 0, "stack/core/socket.py", "socket", 1000, 900, 300),
        Call("sock_sendmsg", 1, "stack/core/socket.py", "socket", 1100, 600, 400),
        Call("udp_sendmsg", 2, "stack/ipv4/udp.py", "udp", 1200, 200, 200),
        Call("e1000_intr", 0, "stack/drivers/e1000/main.py", "driver", 2000, 50, 50),
    ]


def test_layers_are_named_by_the_longest_story_first():
    assert layer_of("stack/ipv4/udp.py") == "udp"
    assert layer_of("stack/ipv4/tcp_input.py") == "tcp"
    assert layer_of("stack/ipv4/ip_output.py") == "ip"
    assert layer_of("stack/drivers/e1000/main.py") == "driver"
    assert layer_of("e1000emu/nic.py") == "nic"
    assert layer_of("elsewhere.py") == "other"


def test_json_is_a_list_in_call_order_with_the_documented_keys(calls):
    rows = json.loads(render(calls, "json"))
    assert [row["name"] for row in rows] == [c.name for c in calls]
    assert all(set(row) == {"name", "depth", "file", "layer", "ns"} for row in rows)


def test_svg_is_well_formed_and_names_every_call(calls):
    text = render(calls, "svg", "a <title> & more")
    ElementTree.fromstring(text)
    assert all(c.name in text for c in calls)


def test_mermaid_joins_parents_and_children(calls):
    text = render(calls, "mermaid")
    assert "n0 -->|1| n1" in text
    assert "n1 -->|2| n2" in text
    assert "| n3" not in text


def test_perfetto_has_one_track_per_layer_and_one_for_the_chain(calls):
    events = json.loads(render(calls, "perfetto"))["traceEvents"]
    names = {e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert names == {"call chain", "socket", "udp", "driver"}
    assert all(e["ts"] >= 0 and e["dur"] >= 0 for e in events if e["ph"] == "X")


@pytest.mark.parametrize("form", list(FORMATS))
def test_every_format_takes_an_empty_trace(form):
    render([], form)


def test_tracer_records_depth_times_and_self_times(monkeypatch, tmp_path):
    package = tmp_path / "stack"
    package.mkdir()
    (package / "demo.py").write_text(
        "def inner():\n    return sum(range(1000))\n\n"
        "def outer():\n    inner()\n    return inner()\n"
    )
    monkeypatch.setattr(trace, "ROOT", tmp_path)
    scope: dict = {}
    exec(compile((package / "demo.py").read_text(), str(package / "demo.py"), "exec"), scope)
    before = sys.getprofile()
    with Tracer(("stack",)) as recorded:
        scope["outer"]()
    assert sys.getprofile() is before
    assert [(c.name, c.depth) for c in recorded.calls] == [("outer", 0), ("inner", 1), ("inner", 1)]
    outer, first, second = recorded.calls
    assert outer.ns >= first.ns + second.ns
    assert outer.self_ns == outer.ns - first.ns - second.ns


def test_tracer_survives_exceptions_and_root_filters(monkeypatch, tmp_path):
    package = tmp_path / "stack"
    package.mkdir()
    source = (
        "def bad():\n    raise KeyError\n\n"
        "def good():\n    try:\n        bad()\n    except KeyError:\n        pass\n"
    )
    (package / "demo.py").write_text(source)
    monkeypatch.setattr(trace, "ROOT", tmp_path)
    scope: dict = {}
    exec(compile(source, str(package / "demo.py"), "exec"), scope)
    with Tracer(("stack",)) as recorded:
        scope["good"]()
        scope["good"]()
    assert [(c.name, c.depth) for c in recorded.calls] == [("good", 0), ("bad", 1)] * 2
    with Tracer(("stack",), root=lambda name, frame: name != "good") as recorded:
        scope["good"]()
    assert recorded.calls == []
