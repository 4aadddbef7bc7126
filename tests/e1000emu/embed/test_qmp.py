"""The client that wakes a guest over QMP: its answers to all that QEMU may say, in any pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e1000emu.embed.qmp import MAX_LINE_BYTES, QmpError, QmpWake

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 1, "major": 11}}, "capabilities": []}}
DONE: dict[str, Any] = {"return": {}}
NOT_ASLEEP = {"error": {"class": "GenericError", "desc": "guest is not in suspended state"}}
RUNS = {"return": {"running": True, "status": "running"}}
SLEEPS = {"return": {"running": False, "status": "suspended"}}
SUSPEND = {"event": "SUSPEND", "timestamp": {"seconds": 1, "microseconds": 2}}
OTHER = {"event": "RTC_CHANGE", "data": {"offset": 0}}


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\r\n"


def asked(data: bytes) -> list[str]:
    return [json.loads(each)["execute"] for each in data.splitlines()]


@given(st.lists(st.integers(1, 40), min_size=1), st.lists(st.sampled_from([SUSPEND, OTHER])))
def test_a_sleeping_guest_is_woken_however_the_words_come(
    cuts: list[int], events: list[Any]
) -> None:
    words = [GREETING, *events, DONE, OTHER, DONE]
    data, client, out, at, n = b"".join(map(line, words)), QmpWake(), b"", 0, 0
    while at < len(data):
        step = cuts[n % len(cuts)]
        out += client.received(data[at : at + step])
        at, n = at + step, n + 1
    assert asked(out) == ["qmp_capabilities", "system_wakeup"]
    assert client.woken


@pytest.mark.parametrize("early", [False, True])
def test_a_guest_on_its_way_to_sleep_is_woken_once_it_sleeps(early: bool) -> None:
    client = QmpWake()
    client.received(line(GREETING))
    client.received(line(DONE))
    assert asked(client.received(line(NOT_ASLEEP))) == ["query-status"]
    last = [SUSPEND, SLEEPS] if early else [RUNS, OTHER, SUSPEND]
    said = [client.received(line(word)) for word in last]
    assert [asked(each) for each in said] == [[]] * (len(last) - 1) + [["system_wakeup"]]
    assert not client.woken
    client.received(line(DONE))
    assert client.woken
    assert client.received(b"whatever\n") == b""


def test_a_guest_that_sleeps_and_cannot_be_woken_is_an_error() -> None:
    client = QmpWake()
    for word in (GREETING, DONE, NOT_ASLEEP):
        client.received(line(word))
    with pytest.raises(QmpError, match="guest is not in suspended state"):
        client.received(line(SLEEPS))


def test_an_answer_may_have_an_error_that_is_null() -> None:
    client = QmpWake()
    for word in (GREETING, DONE, NOT_ASLEEP):
        client.received(line(word))
    assert client.received(line({"error": None})) == b""
    assert asked(client.received(line(SUSPEND))) == ["system_wakeup"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([b"SSH-2.0-OpenSSH\r\n"], "no QMP"),
        ([b"[]\n"], "no QMP"),
        ([b'{"hello": 1}\n'], "no QMP greeting"),
        ([line(GREETING), line({"error": "odd"})], "qmp_capabilities: odd"),
        ([line(GREETING), line(DONE), line(NOT_ASLEEP), line({"error": {"desc": "no"}})], "no"),
        ([b"x" * (MAX_LINE_BYTES + 1)], "a line of more than"),
        ([b"[" * 100_000 + b"\n"], "no QMP"),
    ],
)
def test_what_is_no_monitor_is_an_error(words: list[bytes], why: str) -> None:
    client = QmpWake()
    for word in words[:-1]:
        client.received(word)
    with pytest.raises(QmpError, match=why):
        client.received(words[-1])
