"""Profiles: attribution to layers, margins, and the forms other tools read."""

from __future__ import annotations

import json
import sys
import threading
import xml.etree.ElementTree as ElementTree

import pytest

from e1000emu.lab import pump
from fastpath.base import sampler
from stack.host import Host
from stack.socket import create_connection, create_server
from stack.tools.layers import SHARED, layer_of
from stack.tools.profile import Function, Profile, Stack, layer_of_stack
from stack.tools.profile_format import render
from stack.tools.symbols import cython_name

MAIN = Function("main", "mine.py", "application", 1)
SEND = Function("tcp_sendmsg", "stack/inet/tcp.py", "tcp", 70)
DOORBELL = Function("macpath.TxPort.rounds", "fastpath/nic/macpath.pyx", "nic")
COPY = Function("csum.csum_copy", "fastpath/base/csum.pyx", SHARED)


@pytest.fixture
def profile():
    """Four paths; the copy is made once for TCP and once for the NIC."""
    found = Profile()
    found.stacks = [
        Stack((MAIN, SEND), 4_000_000, 40),
        Stack((MAIN, SEND, COPY), 3_000_000, 30),
        Stack((MAIN, SEND, DOORBELL, COPY), 2_000_000, 20),
        Stack((), 1_000_000, 10),
    ]
    found.sampled_ns, found.samples, found.cpu_ns = 10_000_000, 100, 10_500_000
    return found


def test_a_shared_kernel_counts_for_the_layer_that_calls_it(profile):
    rows = {row.name: row for row in profile.layers()}
    assert {name: row.ns for name, row in rows.items()} == {
        "tcp": 7_000_000,
        "nic": 2_000_000,
        "application": 0,
    }
    assert rows["tcp"].total_ns == rows["application"].total_ns == 9_000_000
    assert rows["tcp"].share == 0.7
    # 70 of 100 samples: 1.96 · sqrt(0.7 · 0.3 / 100)
    assert rows["tcp"].margin == pytest.approx(0.0898, abs=1e-4)


def test_functions_have_self_time_and_time_with_callees(profile):
    rows = {row.name: row for row in profile.functions()}
    assert (rows["csum.csum_copy"].ns, rows["csum.csum_copy"].total_ns) == (5_000_000, 5_000_000)
    assert (rows["tcp_sendmsg"].ns, rows["tcp_sendmsg"].total_ns) == (4_000_000, 9_000_000)


def test_what_no_layer_is_known_for_is_unattributed(profile):
    # the empty path, and the half millisecond of threads that were not sampled
    assert profile.unattributed_ns == 1_500_000


def test_what_an_import_sets_off_is_import():
    machinery = Function("_find_and_load", "<frozen importlib._bootstrap>", "import")
    body = Function("<module>", "stack/inet/tcp.py", "tcp")
    assert layer_of_stack((MAIN, machinery, body)) == "import"


def test_a_recursive_function_counts_once_with_callees():
    found = Profile(stacks=[Stack((MAIN, SEND, SEND), 10, 1)], sampled_ns=10)
    assert {row.name: row.total_ns for row in found.functions()} == {"main": 10, "tcp_sendmsg": 10}


def test_leave_out_forgets_what_ran_the_sampler():
    found = Profile(
        stacks=[Stack((MAIN, SEND), 10, 2), Stack((COPY, SEND), 5, 1)],
        samples=3,
        sampled_ns=15,
        cpu_ns=20,
    )
    found.leave_out(lambda function: function is MAIN)
    assert found.stacks == [Stack((COPY, SEND), 5, 1)]
    assert (found.samples, found.sampled_ns, found.cpu_ns) == (1, 5, 10)


def test_start_at_cuts_off_what_started_the_script():
    found = Profile(stacks=[Stack((COPY, MAIN, SEND), 10, 1), Stack((COPY,), 5, 1)])
    found.start_at(lambda function: function.name == "main")
    assert [stack.path for stack in found.stacks] == [(MAIN, SEND), (COPY,)]


def test_collapsed_is_a_line_for_each_path_in_microseconds(profile):
    assert render(profile, "collapsed").splitlines() == [
        "[unattributed] 1000",
        "main;tcp_sendmsg 4000",
        "main;tcp_sendmsg;csum.csum_copy 3000",
        "main;tcp_sendmsg;macpath.TxPort.rounds;csum.csum_copy 2000",
    ]


def test_speedscope_names_each_function_once_and_adds_up(profile):
    document = json.loads(render(profile, "speedscope", "udp"))
    frames = document["shared"]["frames"]
    (sampled,) = document["profiles"]
    assert [f["name"] for f in frames] == [f.name for f in (MAIN, SEND, COPY, DOORBELL)]
    assert frames[1] == {"name": "tcp_sendmsg", "file": "stack/inet/tcp.py", "line": 70}
    assert sampled["samples"] == [[0, 1], [0, 1, 2], [0, 1, 3, 2], []]
    assert sampled["unit"] == "nanoseconds"
    assert sum(sampled["weights"]) == sampled["endValue"] == 10_000_000


def test_the_flame_graph_is_wide_as_its_time(profile):
    text = render(profile, "svg", "a <title> & more")
    root = ElementTree.fromstring(text)
    ns = {"s": "http://www.w3.org/2000/svg"}
    boxes = {}
    for group in root.findall("s:g", ns):
        title, box = group.find("s:title", ns), group.find("s:rect", ns)
        boxes[title.text.partition(" (")[0], box.get("y")] = float(box.get("width"))
    widths = {(name, round(width / 1180, 2)) for (name, _), width in boxes.items()}
    assert widths == {
        ("all", 1.0),
        ("main", 0.9),
        ("tcp_sendmsg", 0.9),
        ("[unattributed]", 0.1),
        ("csum.csum_copy", 0.3),
        ("macpath.TxPort.rounds", 0.2),
        ("csum.csum_copy", 0.2),
    }
    assert "stack/inet/tcp.py:70" in text


def test_every_form_takes_an_empty_profile():
    assert render(Profile(), "collapsed") == ""
    assert json.loads(render(Profile(), "json"))["functions"] == []
    (drawn,) = json.loads(render(Profile(), "speedscope"))["profiles"]
    assert (drawn["samples"], drawn["weights"], drawn["endValue"]) == ([], [], 0)
    assert (
        "nothing ran" in ElementTree.fromstring(render(Profile(), "svg", "nothing ran")).itertext()
    )


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("__pyx_f_8fastpath_3nic_6rxring_8RxEngine__image", "RxEngine._image"),
        ("__pyx_pw_8fastpath_3nic_7macpath_8IrqCause_11_drive.isra.0", "IrqCause._drive"),
        ("__pyx_pw_8fastpath_3net_3hdr_47tcp_push_ts", "tcp_push_ts"),
        ("__pyx_pw_8fastpath_4base_6skbuff_7skb_put_data", "skb_put_data"),
        ("__pyx_getprop_8fastpath_4base_6skbuff_7sk_buff_len", "sk_buff.len"),
        ("__pyx_f_8fastpath_4base_4csum_csum_partial.part.0.cold", "csum_partial"),
        ("csum_copy_vnni", "csum_copy_vnni"),
        ("__Pyx_PyObject_GetAttrStr", ""),
    ],
)
def test_names_of_compiled_functions_are_those_of_the_source(symbol, name):
    assert cython_name(symbol, modules=3) == name


def test_layers_of_compiled_files():
    assert layer_of("fastpath/nic/rxring.pyx") == "nic"
    assert layer_of("fastpath/net/rings_driver.pyx") == "driver"
    assert layer_of("fastpath/base/csum.pyx") == SHARED
    assert layer_of("stack/core/dev.py") == "netdev"


sampled_here = pytest.mark.skipif(
    not Profile.available(), reason="needs Linux and CPython 3.11 to 3.13"
)


@pytest.mark.uncompiled
@sampled_here
def test_the_nics_compiled_time_is_the_nics(a: Host, b: Host):
    """A bulk transfer spends a quarter of its time in the emulated NICs, nearly all compiled."""
    with a, b:
        listener = create_server(b, ("10.0.0.2", 9))
        client = create_connection(a, ("10.0.0.2", 9))
        server, _ = listener.accept()
        pieces = iter([memoryview(bytes(1 << 20))] * 48)
        with Profile(0.0001) as profile:
            pump(client, server, lambda: next(pieces, None), lambda piece: None)
    layers = {row.name: row for row in profile.layers()}
    assert layers["nic"].ns > 0
    assert layers["tcp"].ns > 0
    kernels = {row.name for row in profile.functions() if row.file == "fastpath/nic/macpath.pyx"}
    assert any(name.startswith("macpath.TxPort.") for name in kernels)
    assert sum(row.ns for row in profile.layers()) <= profile.sampled_ns <= profile.cpu_ns
    assert all("device" not in row.name for row in profile.layers())


@sampled_here
def test_threads_started_meanwhile_are_sampled_and_pauses_are_not():
    def work() -> None:
        sampler.tick()

    before = threading.getprofile()
    with Profile(10) as profile:
        sampler.tick()
        with profile.paused():
            sampler.tick()
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert threading.getprofile() is before
    assert sys.getprofile() is None
    assert profile.samples == 2
    ends = sorted(next(f.name for f in reversed(s.path) if f.line) for s in profile.stacks)
    assert ends[0] == test_threads_started_meanwhile_are_sampled_and_pauses_are_not.__name__
    assert ends[1].endswith("work")
