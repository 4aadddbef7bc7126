"""`e1000emu lab`: runs a topology file, reports, captures and draws."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e1000emu.cli.test_cli import run

LAB = """\
name = "small"
[nodes.server]
addresses = {eth0 = "10.0.0.1/24"}
run = ["serve discard:9"]
[nodes.client]
count = 3
addresses = {eth0 = "10.0.0.2/24"}
run = ["send -n 100kB server 9", "ping -c 2 -i 10ms server"]
[nodes.s]
kind = "switch"
[[links]]
endpoints = ["client*", "s"]
delay = "1ms"
loss = "2%"
[[links]]
endpoints = ["s", "server"]
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A file with a small lab."""
    path = tmp_path / "small.toml"
    path.write_text(LAB)
    return path


def test_it_reports_programs_drops_and_rates(lab: Path) -> None:
    done = run("lab", str(lab))
    assert done.returncode == 0, done.stderr
    assert "small: 4 hosts, 1 switch, 4 links; built in" in done.stdout
    assert "bytes 100,000" in done.stdout
    assert "link: loss" in done.stdout
    assert "events" in done.stdout
    assert "a host" in done.stdout


def test_json_and_the_same_run_twice(lab: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    done = run("lab", str(lab), "--json", "-o", str(out))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    report = json.loads(out.read_text())
    assert (report["nodes"], report["links"], len(report["run"])) == (5, 4, 7)
    assert report["drops"]["link: loss"] > 0
    assert report["events_per_second"] == pytest.approx(report["events"] / report["wall_seconds"])
    assert report["memory_bytes"] > 0
    states = {row["program"].split()[0]: row["state"] for row in report["run"]}
    assert states == {"serve": "stopped", "send": "done", "ping": "done"}
    again = json.loads(run("lab", str(lab), "--json").stdout)
    for key in ("digest", "virtual_seconds", "events", "run", "drops"):
        assert again[key] == report[key]
    other = json.loads(run("lab", str(lab), "--json", "--seed", "9").stdout)
    assert other["digest"] != report["digest"]


def test_for_ends_it(lab: Path) -> None:
    report = json.loads(run("lab", str(lab), "--for", "5ms", "--json").stdout)
    assert report["virtual_seconds"] == pytest.approx(3.005)
    assert {row["state"] for row in report["run"]} <= {"stopped", "done"}


def test_a_failed_program_is_the_exit_status(lab: Path) -> None:
    lab.write_text(LAB.replace("server 9", "server 10"))
    done = run("lab", str(lab))
    assert done.returncode == 1
    assert "e1000emu: 3 of 7 programs failed; client1: send -n 100kB server 10:" in done.stderr
    assert "Connection refused" in done.stderr


def test_check_names_the_line(lab: Path) -> None:
    assert run("lab", str(lab), "--check").stdout.strip().endswith("the file is right")
    assert json.loads(run("lab", str(lab), "--check", "--json").stdout)["nodes"] == 5
    lab.write_text(LAB.replace("count = 3", "cuont = 3"))
    done = run("lab", str(lab), "--check")
    assert done.returncode == 1
    assert done.stderr.startswith(f"e1000emu: {lab}:6: nodes.client.cuont: there is no such key")
    assert "did you mean count" in done.stderr
    missing = run("lab", str(lab.with_name("none.toml")))
    assert missing.returncode == 1
    assert "No such file or directory; give a path that exists" in missing.stderr


@pytest.mark.parametrize("link", ["client2", "client2:eth0", "s-client2", "client2-s", "1"])
def test_capture_writes_what_crosses_a_link(lab: Path, tmp_path: Path, link: str) -> None:
    from scapy.all import ARP, IP, TCP, rdpcap

    file = tmp_path / "c.pcapng"
    assert run("lab", str(lab), "--capture", f"{link}={file}").returncode == 0
    packets = rdpcap(str(file))
    ends = {packet[IP].src for packet in packets if IP in packet}
    assert ends == {"10.0.0.3", "10.0.0.1"}
    assert any(TCP in packet for packet in packets)
    assert any(ARP in packet for packet in packets)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("file", "names no link; write client1:eth0=file"),
        ("clint1=f", "--capture clint1: no such link; did you mean client1"),
        ("s=f", "--capture s: which link of s? there are: s:eth0, s:eth1"),
        ("client1:eth1=f", "--capture client1:eth1: which link of client1? there are: client1"),
        ("9=f", "--capture 9: links are 0 to 3"),
        ("client1=/none/f", "/none is not a directory"),
    ],
)
def test_wrong_captures(lab: Path, given: str, told: str) -> None:
    done = run("lab", str(lab), "--capture", given)
    assert done.returncode == 2
    assert told in done.stderr


def test_drawings(lab: Path, tmp_path: Path) -> None:
    for suffix in ("dot", "svg", "png"):
        assert run("lab", str(lab), "--check", "--draw", f"{tmp_path}/p.{suffix}").returncode == 0
    dot = (tmp_path / "p.dot").read_text()
    assert '"client1" -- "s" [label="1ms loss 2%"];' in dot
    assert "3 of client" in dot
    svg = (tmp_path / "p.svg").read_text()
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for text in ("3 of client", "server", "1ms loss 2%", "small"):
        assert text in svg
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    wrong = run("lab", str(lab), "--check", "--draw", f"{tmp_path}/p.xyz")
    assert wrong.returncode == 1
    assert "xyz" in wrong.stderr
