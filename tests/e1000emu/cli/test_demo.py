"""What `e1000emu demo` reports: shares by layer, and a capture worth opening."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from e1000emu.capture import read_capture
from e1000emu.cli import cli
from stack.tools.profile import Profile


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The report and the capture of a short run."""
    path = tmp_path_factory.mktemp("demo") / "demo.pcapng"
    words = ["demo", "--bytes", "32M", "--udp", "3000", "--no-trace", "--json", "--capture", path]
    done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout), list(read_capture(path))


@pytest.mark.skipif(not Profile.available(), reason="needs Linux and CPython 3.11 to 3.13")
def test_the_nic_has_its_share_and_shares_do_not_exceed_all(demo):
    rates = demo[0]["rates"]
    assert len(rates) == 3
    for rate in rates:
        assert rate["samples"] > 0
        assert sum(rate["layers"].values()) <= 1.000001
        assert set(rate["layers"]) == set(rate["layer_margins"])
        assert "device" not in rate["layers"]
    assert any(rate["layers"].get("nic", 0) > 0 for rate in rates)


def test_frames_have_their_own_times_of_a_day_in_our_century(demo):
    records = demo[1]
    times = [record.when_ns for record in records]
    assert times == sorted(times)
    assert min(times) > 1_600_000_000 * 10**9
    # a gigabit takes 12.3 us for a full frame: so many cannot come at one time. The second
    # interface is that of the mistreated wire, which has a queue of its own.
    sent = [r for r in records if r.length == 1514 and r.direction == 2 and r.interface == 0]
    full = [r.when_ns for r in sent]
    assert len(full) > 1000
    assert len(set(full)) == len(full)


def test_the_capture_says_who_dropped_what(demo):
    comments = {text for record in demo[1] for text in record.comments}
    assert "dropped by the wire: loss" in comments
    assert "dropped by the device: wrong CRC (CRCERRS)" in comments
    assert "dropped by b's stack: SKB_DROP_REASON_NO_SOCKET" in comments
