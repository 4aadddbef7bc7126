"""Programs on the hosts of a topology: what each does, and how each fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.errors import ArgumentError
from e1000emu.topology import Running, Topology, TopologyError, build
from tests.e1000emu.topology.star import flat, lab_text, results

SECOND_NS = 1_000_000_000


def test_ping_counts_answers_of_both_families() -> None:
    for dest in ("server", "2001:db8::1"):
        for result in results(f"ping -c 3 -i 10ms {dest}"):
            assert (result.state, result.figures["received"]) == ("done", 3)
            assert 4 <= result.figures["min_ms"] < 5  # two milliseconds each way


def test_ping_without_an_answer_fails() -> None:
    (one, _) = results("ping -c 2 -i 10ms -W 1s 10.0.0.99")
    assert (one.node, one.state) == ("client1", "failed")
    assert "no answer from 10.0.0.99" in one.error


def test_ping_without_a_count_goes_on_to_the_end() -> None:
    (one, _) = results("ping -i 100ms server", for_ns=SECOND_NS)
    assert one.state == "stopped"
    assert 10 <= one.figures["received"] <= 11


def test_get_fetches_files_and_reports_a_status(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(300_000))
    serve = f"serve http:80:{tmp_path}"
    _, one, missing, other, _ = results(
        "get http://server/a", "get http://server/b", server=(serve,)
    )
    assert (one.state, one.figures["status"], one.figures["bytes"]) == ("done", 200, 300_000)
    assert other.figures["bytes"] == 300_000
    assert (missing.state, missing.figures["status"]) == ("failed", 404)
    assert "404 Not Found" in missing.error


def test_send_moves_bytes_and_keeps_a_rate() -> None:
    server, one, rated, timed, *_ = results(
        "send -n 1M server 9",
        "send -n 125kB -b 1M server 9",
        "send -t 500ms 2001:db8::1 7",
        server=("serve discard:9,echo:7",),
    )
    assert (one.state, one.figures["bytes"]) == ("done", 1 << 20)
    assert rated.figures["bytes"] == 125_000
    assert 0.95 < rated.figures["seconds"] < 1.1
    assert timed.figures["bytes"] > 100_000
    assert server.state == "stopped"
    assert server.figures["discard:9"]["connections"] == 4
    assert server.figures["discard:9"]["bytes_in"] == 2 * ((1 << 20) + 125_000)
    assert server.figures["echo:7"]["bytes_out"] == server.figures["echo:7"]["bytes_in"]


def test_a_refused_connection_fails() -> None:
    (one, _) = results("send -n 1 server 9")
    assert (one.state, one.error) == ("failed", "Connection refused")


def test_a_port_that_is_taken_fails() -> None:
    taken = ("serve echo:7", "serve echo:7")
    _, second, *_ = results("send -n 1 server 7", server=taken)
    assert second.state == "failed"
    assert "Address already in use" in second.error


def test_iperf3_listens() -> None:
    server, one, _ = results("send -n 100 server 5300", server=("iperf3 -s -p 5300",))
    assert "iperf3:5300" in server.figures
    assert one.state == "done"


def test_programs_begin_at_the_start_and_a_run_can_go_in_steps() -> None:
    made = flat((), ("ping -c 1 server",))
    with build(made, wait=False) as lab, Running(lab) as running:
        running.run_until(made.start_ns - 1)
        assert {result.state for result in running.results} == {"waiting"}
        running.run_until(made.start_ns + SECOND_NS)
        assert lab.clock.now_ns() == made.start_ns + SECOND_NS
        assert {result.state for result in running.results} == {"done"}


def test_nothing_that_ends_needs_a_time() -> None:
    made = flat(("serve echo:7",), ())
    with build(made) as lab, Running(lab) as running:
        with pytest.raises(ArgumentError, match="no program ends by itself; give for_ns"):
            running.run()
        running.run(SECOND_NS)
        assert lab.clock.now_ns() == made.start_ns + SECOND_NS


def test_only_in_virtual_time(clock: RealClock) -> None:
    with build(Topology().flat(), clock) as lab, pytest.raises(ArgumentError, match="VirtualClock"):
        Running(lab)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "no program ''; there are: ping, get, send, serve, iperf3, exec"),
        ("pnig server", "no program 'pnig'; .*did you mean ping"),
        ("ping", "Missing argument 'DEST'; write ping"),
        ("ping sever", "'sever' is neither an address nor a node; did you mean server"),
        ("ping -c 0 server", "0 is not in the range x>=1; write ping"),
        ("ping -x server", "No such option.*-x.*; write ping"),
        ("ping s", "the node s has no address"),
        ('ping "server', "No closing quotation; quote it"),
        ("get https://server/", "only http://HOST.*can be fetched"),
        ("send -n 0 server 9", "0 is not 1 or more; write send"),
        ("send server 70000", "70000 is not in the range"),
        ("serve eco:7", "no such service; did you mean echo"),
        ("exec", "Missing argument 'PROGRAM .*'; write exec"),
        ("exec -x ls", "No such option.*-x.*; write exec"),
        ("iperf3", "only the server, -s, is there; write iperf3"),
    ],
)
def test_a_wrong_line_is_told_when_the_file_is_read(line: str, told: str) -> None:
    text = lab_text((), (line,))
    with pytest.raises(TopologyError, match=rf"f:8: nodes.client.run\[0\] = .*: .*{told}"):
        Topology.from_text(text, file="f")
