"""The call recorder and its formats."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from stack.tools import trace
from stack.tools.layers import layer_of
from stack.tools.trace import Call, Cost, Tracer, alike, calibrate, net_times, typical
from stack.tools.trace_format import FORMATS, render, render_svg, render_text

pytestmark = pytest.mark.uncompiled


@pytest.fixture
def calls():
    """Three calls: a root with a child and a grandchild, then a second root."""
    return [
        Call("sys_sendto", 0, "stack/core/bsd_socket.py", "socket", 1000, 900, 300),
        Call("sock_sendmsg", 1, "stack/core/bsd_socket.py", "socket", 1100, 600, 400),
        Call("udp_sendmsg", 2, "stack/inet/udp.py", "udp", 1200, 200, 200),
        Call("e1000_intr", 0, "stack/drivers/e1000/main.py", "driver", 2000, 50, 50),
    ]


def test_layers_are_named_by_the_longest_story_first():
    assert layer_of("stack/inet/udp.py") == "udp"
    assert layer_of("stack/inet/tcp_input.py") == "tcp"
    assert layer_of("stack/ipv4/ip_output.py") == "ip"
    assert layer_of("stack/drivers/e1000/main.py") == "driver"
    assert layer_of("e1000emu/device/nic.py") == "nic"
    assert layer_of("elsewhere.py") == "other"


def test_json_is_a_list_in_call_order_with_the_documented_keys(calls):
    rows = json.loads(render(calls, "json"))
    assert [row["name"] for row in rows] == [c.name for c in calls]
    assert all(set(row) == {"name", "depth", "file", "layer", "ns", "self_ns"} for row in rows)


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


def test_every_format_takes_an_empty_trace():
    texts = {form: render([], form, "nothing ran") for form in FORMATS}
    assert texts["text"].splitlines() == ["nothing ran", "self us   total layer call"]
    assert json.loads(texts["json"]) == []
    assert texts["mermaid"].splitlines()[-1] == "flowchart TD"
    assert "nothing ran" in ElementTree.fromstring(texts["svg"]).itertext()
    names = [event["name"] for event in json.loads(texts["perfetto"])["traceEvents"]]
    assert not {"sys_sendto", "e1000_intr"} & set(names)


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
    with Tracer(("stack",)) as recorded:
        scope["outer"]()
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
    with Tracer(("stack",), root=lambda name, arguments: name != "good") as recorded:
        scope["good"]()
    assert recorded.calls == []


def chain(*rows: tuple[str, int, int, int]) -> list[Call]:
    """Calls from (name, depth, self_ns, skipped)."""
    return [Call(n, d, "f", "l", 0, own, own, skipped) for n, d, own, skipped in rows]


def test_the_recorders_cost_is_subtracted_where_it_fell():
    """A packet whose true times are known, recorded by a recorder whose cost is known."""
    cost = Cost(inner_ns=10, outer_ns=50, skipped_ns=20)
    truth = {"ip_rcv": 400, "udp_rcv": 300, "sock_wfree": 0, "e1000_intr": 700}
    raw = chain(
        ("ip_rcv", 0, 400 + 10 + 2 * 50 + 3 * 20, 3),
        ("udp_rcv", 1, 300 + 10, 0),
        ("sock_wfree", 1, 0 + 10, 0),
        ("e1000_intr", 0, 700 + 10 + 20, 1),
    )
    net = net_times(raw, cost)
    assert {call.name: call.self_ns for call in net} == truth
    assert [call.ns for call in net] == [700, 300, 0, 700]
    assert raw[0].self_ns == 570  # what was recorded stays
    raw[0].ns = 570 + 310 + 10
    assert cost.of(raw) == sum(c.self_ns for c in raw) - sum(truth.values())


def test_a_cost_is_fitted_to_what_the_chain_takes_alone():
    raw = chain(("ip_rcv", 0, 1000, 2), ("udp_rcv", 1, 500, 0))
    raw[0].ns = 1500
    usual = Cost(inner_ns=10, outer_ns=50, skipped_ns=20)  # 110 in all
    fitted = usual.fitted([raw], untraced_ns=1500 - 220)
    assert fitted == Cost(20, 100, 40)
    assert sum(call.self_ns for call in net_times(raw, fitted)) == 1280
    # noise: the untraced run was slower, so nothing is known to subtract
    assert usual.fitted([raw], untraced_ns=1600) == Cost(0, 0, 0)
    assert usual.fitted([[]], untraced_ns=0) is usual


def test_no_self_time_is_negative_and_totals_are_sums():
    net = net_times(chain(("a", 0, 5, 0), ("b", 1, 1000, 0)), Cost(10, 50, 20))
    assert [(call.self_ns, call.ns) for call in net] == [(0, 990), (990, 990)]


def test_the_typical_run_is_the_median_of_those_alike():
    runs = [chain(("a", 0, own, 0), ("b", 1, own // 10, 0)) for own in (100, 400, 110, 120, 90)]
    odd = chain(("a", 0, 5000, 0), ("timer", 1, 5000, 0), ("b", 1, 10, 0))
    made = typical([*runs[:2], odd, *runs[2:]])
    assert [(call.name, call.self_ns, call.ns) for call in made] == [("a", 110, 121), ("b", 11, 11)]
    assert (made[0].start_ns, made[1].start_ns) == (0, 55)
    assert alike([*runs, odd]) == runs
    assert typical([]) == []


def test_calibration_with_a_clock_that_counts_looks_at_it():
    """Ten ns pass from look to look. A loop alone then takes the same with and without a call in
    it. So a call that does nothing takes no time, and no cost is negative."""
    now = iter(range(0, 10**9, 10))
    cost = calibrate(calls=10, rounds=2, clock_ns=lambda: next(now))
    assert cost.inner_ns > 0
    assert cost.outer_ns >= 0
    assert cost.skipped_ns >= 0


def test_a_picture_without_times_has_none(calls):
    text = render_svg(calls, "udp", times=False)
    assert " us" not in text
    slower = [Call(c.name, c.depth, c.file, c.layer, 0, 7 * c.ns, 7 * c.self_ns) for c in calls]
    assert render_svg(slower, "udp", times=False) == text
    assert render_svg(slower, "udp") != render_svg(calls, "udp")


def test_the_table_fits_its_columns(calls):
    deep = calls + [Call("x" * 20, depth, "stack/x.py", "udp") for depth in range(25)]
    assert max(map(len, render_text(deep, columns=80).splitlines())) <= 80
    assert "stack/inet/udp.py" in render_text(calls, columns=132)
