"""The command line, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from e1000emu.__main__ import main
from e1000emu.cli.params import CIDR, parse_impair
from e1000emu.cli.servespec import parse_serve
from e1000emu.errors import E1000Error
from tests.support import require, run_to_end


def run(*args: str, timeout: float = 100, **kwargs) -> subprocess.CompletedProcess[str]:
    """Run `python -m e1000emu ARGS` and return what it did."""
    return subprocess.run(
        [sys.executable, "-m", "e1000emu", *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **kwargs,
    )


def test_help_names_every_command():
    done = run("--help")
    assert done.returncode == 0
    for name in ("demo", "up", "ping", "get", "trace", "bench", "regs", "doctor"):
        assert f"\n  {name} " in done.stdout
    assert run("up", "--help").returncode == 0  # of each: test_help_fits_80_columns


def test_regs_shows_one_register_by_name_and_by_offset():
    by_name = run("regs", "RCTL", "--json")
    by_offset = run("regs", "0x100", "--json")
    assert by_name.stdout == by_offset.stdout
    row = json.loads(by_name.stdout)
    assert row["offset"] == 0x100
    assert {"EN", "UPE", "BSIZE", "SECRC"} <= {f["name"] for f in row["fields"]}
    assert sum((1 << (f["hi"] - f["lo"] + 1)) - 1 << f["lo"] for f in row["fields"]) == 0xFFFFFFFF


def test_regs_without_a_name_lists_them_all():
    rows = json.loads(run("regs", "--json").stdout)
    assert len(rows) > 120
    assert "RCTL" in run("regs").stdout


@pytest.mark.parametrize("key", ["", "RCTL", "phy", "phy.16", "eeprom", "eeprom.10", "txdesc"])
def test_regs_fits_80_columns(key):
    done = run("regs", *filter(None, [key]), env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0
    assert max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80


def test_regs_decodes_a_phy_register_and_a_descriptor():
    shown = run("regs", "phy.17", "--value", "0xac48").stdout
    assert [line.split()[:5] for line in shown.splitlines() if "SPEED" in line] == [
        ["15:14", "SPEED", "RO", "0x2", "0x2"]
    ]
    row = json.loads(run("regs", "rxdesc", "--value", hex(3 << 96 | 60 << 64), "--json").stdout)
    got = {f["name"]: row["value"] >> f["lo"] & (2 << f["hi"] - f["lo"]) - 1 for f in row["fields"]}
    assert (got["LENGTH"], got["STATUS.DD"], got["STATUS.EOP"]) == (60, 1, 1)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["regs", "RCTX"], "RCTL"),
        (["regs", "RCTL", "--value", "0x100000000"], "32 bits"),
        (["regs", "--value", "1"], "name the register"),
        (["regs", "phy", "--value", "1"], "name the register"),
        (["regs", "phy.BMCX"], "PHY.BMCR"),
        (["regs", "phy.0", "--value", "0x10000"], "16 bits"),
        (["ping", "10.9.0.1", "--link", "carrier-pigeon", "--addr", "10.9.0.2/24"], "tap:NAME"),
        (["ping", "10.9.0.1", "--link", "pcap:none", "--addr", "10.9.0.2/24"], "no such file"),
        (["get", "http://10.9.0.1/", "--link", "tap:x", "--addr", "10.9.0.2/24", "--json"], "-o"),
        (["get", "--link", "pigeon", "--addr", "10.9.0.2/24", "ftp://10.9.0.1/"], "http://HOST"),
        (
            ["up", "--link", "tap:x", "--addr", "10.9.0.2/24", "--serve", "finger:79"],
            "echo, http, discard, chargen, iperf3",
        ),
        (
            ["up", "--link", "tap:x", "--addr", "10.9.0.2/24", "--gw", "10.8.0.1"],
            "not inside 10.9.0",
        ),
        (["up", "--link", "tap:name-is-too-long", "--addr", "10.9.0.2/24"], "name-is-too-long"),
        (["demo", "--capture", "/nowhere/at/all.pcapng"], "give a path"),
        (["bench", "--json", "-o", "/nowhere/at/all.json"], "not a directory"),
        (["trace", "socket", "-o", "/nowhere/x"], "not a directory"),
        (["regs", "-o", "/"], "is a directory"),
        (["vfio-user", "--link", "null", "--socket", "/nowhere/s"], "not a directory"),
        (["ping", "10.9.0.1", "--link", "null", "--addr", "10.9.0.2/24", "-i", "nan"], "20ms"),
        (["guest", "--run", "true", "--gw", "10.8.0.1"], "not inside 10.9.0"),
        (["guest", "--run", "true", "--mac", "x"], "52:54:00:12:34:56"),
        (["guest", "--run", "true", "--model", "82574L"], "82540EM"),
        (["ping", "10.9.0.1", "--link", "tap:x", "--addr", "10.9.0.2"], "10.9.0.2/24"),
        (["ping", "10.9.0", "--link", "tap:x", "--addr", "10.9.0.2/24"], "10.9.0.1"),
        (["ping", "10.9.0.1", "--link", "tap:x", "--addr", "10.9.0.2/24", "-s", "65508"], "65507"),
        (["trace", "smoke-signal"], "e1000emu trace --help"),
        (["trace", "udp_send"], "'udp_send' is no kind; did you mean udp-send"),
        (["demo", "--loss", "2"], "50%"),
        (["nonsense"], "nonsense"),
        (["demo", "--nonsense"], "e1000emu demo --help"),
        (["ping"], "DEST"),
        (["up", "--link", "tap:x", "--link", "tap:y", "--addr", "10.9.0.2/24"], "2 times"),
        (["up", "--link", "tap:x", "--addr", "10.9.0.255/24"], "broadcast address of 10.9.0.0/24"),
        (["up", "--link", "tap:x", "--addr", "10.9.0.0/24"], "network address"),
        (["up", "--link", "tap:x", "--addr", "224.0.0.1/24"], "multicast"),
        (["up", "--link", "tap:x", "--addr", "127.0.0.1/8"], "loopback"),
        (["up", "--link", "tap:x", "--addr", "0.0.0.0/0"], "names no host"),
    ],
)
def test_a_wrong_flag_is_explained_in_one_line_with_status_2(args, words, monkeypatch, capsys):
    """Here and not in a process of its own: those of test_alike.py say that its status is this."""
    monkeypatch.setattr(sys, "argv", ["e1000emu", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err
    assert said.err.startswith("e1000emu: ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("prefix", ["31", "32"])
def test_an_address_without_a_broadcast_address_is_taken(prefix):
    wanted = f"10.9.0.2/{prefix}"
    assert str(CIDR.convert(wanted, None, None)) == wanted


def test_a_full_disk_is_named_with_the_remedy(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    done = run("demo", "--bytes", "100000", "--capture", "/dev/full", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("e1000emu: capture '/dev/full': No space left on device; give")
    assert done.stderr.count("\n") == 1


def test_a_closed_standard_output_is_no_traceback():
    done = run_to_end(["sh", "-c", f"{sys.executable} -m e1000emu regs RCTL >&-"])
    assert "Traceback" not in done.stderr


def test_parse_impair_reads_each_key_and_refuses_the_rest():
    assert parse_impair("loss=5%, delay=2ms,seed=9,rate=10Mbit,jitter_ns=7,crc_error=1e-3") == {
        "loss": 0.05,
        "delay_ns": 2_000_000,
        "seed": 9,
        "rate_bps": 10_000_000,
        "jitter_ns": 7,
        "crc_error": 0.001,
    }
    for bad in ("loss", "loss=2", "gain=1", "seed=x", ""):
        with pytest.raises(E1000Error, match="keys: loss"):
            parse_impair(bad)


def test_parse_serve_reads_names_ports_and_a_directory(tmp_path):
    services = parse_serve(f"echo:7,http:80:{tmp_path},discard:9")
    assert [(s.name, s.port, s.root) for s in services] == [
        ("echo", 7, None),
        ("http", 80, tmp_path),
        ("discard", 9, None),
    ]
    for bad in ("echo", "echo:0", "echo:70000", "echo:7,discard:7", "echo:7:/tmp", "http:80:/none"):
        with pytest.raises(E1000Error):
            parse_serve(bad)


def test_parse_serve_reads_the_range_of_dhcp():
    (service,) = parse_serve("dhcp:10.9.0.50-10.9.0.99:10min")
    assert (service.port, service.addresses, service.lease_s) == (67, "10.9.0.50-10.9.0.99", 600)
    (service,) = parse_serve("dhcp:10.9.0.50-10.9.0.99")
    assert service.lease_s == 3600
    for bad in ("dhcp", "dhcp:10.9.0.50", "dhcp:a-b", "dhcp:10.9.0.5-10.9.0.9:", "dhcp:x-y:1"):
        with pytest.raises(E1000Error, match=r"write dhcp:|lease"):
            parse_serve(bad)
    twice = "dhcp:10.9.0.5-10.9.0.9,dhcp:10.9.0.15-10.9.0.19"
    with pytest.raises(E1000Error, match="named twice"):
        parse_serve(twice)


def test_doctor_reports_and_judges():
    done = run("doctor", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.returncode == 0
    assert rows["compiled modules"]["state"] == "ok"
    assert all(row["remedy"] for row in rows.values() if row["state"] != "ok")
    assert run("doctor").returncode == 0


# One process of the uncompiled stack, as the command starts one, records once for all forms.
FORMS = """
import functools, sys
from e1000emu.cli import cli, trace

trace.measure = functools.cache(trace.measure)
for form in sys.argv[2:]:
    words = ["trace", "udp-send", "--format", form, "-o", f"{sys.argv[1]}/{form}"]
    cli.main(words, standalone_mode=False)
"""


def test_trace_writes_every_format(tmp_path):
    forms = ["text", "mermaid", "svg", "perfetto", "json"]
    subprocess.run(
        [sys.executable, "-c", FORMS, tmp_path, *forms],
        env=dict(os.environ, E1000EMU_UNCOMPILED="1"), timeout=100, check=True,
    )  # fmt: skip
    for form in forms:
        text = (tmp_path / form).read_text()
        assert "e1000_xmit_frame" in text
        if form in ("json", "perfetto"):
            json.loads(text)
        if form == "svg":
            ElementTree.fromstring(text)


def test_demo_reports_rates_chains_and_a_capture_that_tshark_reads(tmp_path):
    done = run("demo", "--bytes", "1000000", "--udp", "300", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [rate["payload_bytes"] for rate in report["rates"][1:]] == [1_000_000, 1_000_000]
    assert all(rate["pps"] > 0 for rate in report["rates"])
    assert "e1000_xmit_frame" in [row["name"] for row in report["sent"]]
    assert "netif_receive_skb" in [row["name"] for row in report["received"]]
    tshark = require.tool("tshark")
    checks = [f"-o{protocol}.check_checksum:TRUE" for protocol in ("ip", "tcp", "udp")]
    wrong = "ip.checksum.status == 0 or tcp.checksum.status == 0 or udp.checksum.status == 0"
    shown = f"(_ws.malformed or {wrong}) and not frame.comment"
    judged = run_to_end(
        [tshark, "-r", tmp_path / report["capture"], *checks, "-Y", shown], check=True
    )
    assert judged.stdout == ""  # what the wire damaged has a comment that says who dropped it
    counted = run_to_end(
        [tshark, "-r", tmp_path / report["capture"], "-T", "fields", "-e", "frame.protocols"],
        check=True,
    )
    seen = set(counted.stdout.split())
    for protocols in ("eth:ethertype:arp", "eth:ethertype:ip:icmp:data", "eth:ethertype:ip:tcp"):
        assert any(s.startswith(protocols) for s in seen), (protocols, seen)


def test_demo_in_the_terminal_names_the_layers(tmp_path):
    env = dict(os.environ, COLUMNS="140")
    done = run("demo", "--bytes", "300000", "--udp", "50", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    for words in ("TCP, clean wire", "TCP, 1% loss", "SHA-256", "One packet sent", "Capture:"):
        assert words in done.stdout
