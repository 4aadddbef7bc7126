"""The examples do what they say: judged by what they print, not by their exit status alone."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from e1000emu.clock import RealClock
from e1000emu.topology import Topology
from tests.e1000emu.embed.fakeclient import RAM_BASE, FakeClient
from tests.support import eventually, require

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"


def output(name: str, *args: str, cwd: Path | None = None) -> str:
    """Run an example as a user does and return what it printed; it must end with status 0."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def labelled(text: str) -> dict[str, object]:
    """Return the Python literals of lines like ``label: literal``."""
    pairs = (line.split(": ", 1) for line in text.splitlines())
    return {label: ast.literal_eval(value) for label, value in pairs}


def test_own_driver_sends_and_receives_the_frame():
    printed = labelled(output("own_driver.py"))
    start = b"\xff" * 6 + bytes.fromhex("525400123456") + b"\x08\x00hello, wire"
    assert printed["on the wire"] == [start]
    assert printed["received"] == [start]
    counters = printed["counters"]
    assert counters["gptc"] == counters["gprc"] == counters["bptc"] == counters["bprc"] == 1
    assert counters["gotc"] == counters["gorc"] == 64  # with the FCS
    assert not [name for name in counters if name.startswith("misuse")]


def test_a_management_controller_answers_without_a_driver():
    printed = labelled(output("management.py"))
    assert printed["answer to ARP"] == [bytes((10, 0, 0, 2))]
    assert printed["heard"] == [bytes.fromhex("0600ff06000011be80000000")]
    assert printed["counters"] == {"mgtprc": 2, "mgtpdc": 0, "mgtptc": 1}


def test_a_campaign_passes_and_says_so(tmp_path: Path):
    text = output("campaign.py", cwd=tmp_path)
    assert text.startswith("frames-leave: 48 cases: 48 passed; ")
    assert "ran twice and did the same" in text
    assert text.count("8/8") == 6
    assert (tmp_path / "frames-leave.jsonl").read_text().count("\n") > 48


def fences(page: str, language: str) -> list[str]:
    """Return the blocks of a page in one language."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_labs_and_the_program_of_large_labs(tmp_path: Path):
    shown, example = fences("large-labs.md", "toml")[0], (EXAMPLES / "small-lab.toml").read_text()
    assert example.endswith(shown)
    flat = Topology.read(EXAMPLES / "two-tiers.toml").flat()
    kinds = Counter(node.kind for node in flat.nodes.values())
    assert kinds == {"host": 1001, "router": 11, "switch": 11}
    program = tmp_path / "lab.py"
    program.write_text(fences("large-labs.md", "python")[0])
    assert "tx_packets" in output(str(program))


def test_two_hosts_exchange_a_datagram_and_a_megabyte():
    text = output("two_hosts.py")
    assert re.search(r"^UDP: \(b'hello', \('10\.0\.0\.1', \d+\)\)$", text, re.MULTILINE)
    tcp = re.search(r"^TCP: (\d+) bytes from \('10\.0\.0\.1', \d+\) after", text, re.MULTILINE)
    assert tcp is not None
    assert int(tcp[1]) == 1_000_000
    rows = [line.split() for line in text.splitlines() if re.match(r"(Tcp|Udp|Ip): ", line)]
    counters = {
        name[0] + key: int(value)
        for name, values in zip(rows[::2], rows[1::2], strict=True)
        for key, value in zip(name[1:], values[1:], strict=True)
    }
    assert counters["Tcp:PassiveOpens"] == counters["Tcp:CurrEstab"] == 1
    assert counters["Tcp:InSegs"] > 1_000_000 // 1460
    assert counters["Udp:InDatagrams"] == 1
    assert counters["Tcp:InErrs"] == counters["Ip:InDiscards"] == 0


def test_lossy_link_is_slower_with_loss_and_sends_again():
    text = output("lossy_link.py")
    rows = re.findall(r"loss +([\d.]+)%: +([\d.]+) Mbit/s of virtual time, (\d+) segments", text)
    losses, rates, again = zip(*[(float(a), float(b), int(c)) for a, b, c in rows], strict=True)
    assert losses == (0.0, 0.5, 1.0, 3.0)
    assert again[0] == 0
    assert min(again[1:]) > 0
    assert rates[0] > rates[2] > rates[3] > 0


def test_http_server_answers_threads_and_coroutines():
    said = output("http_server.py").splitlines()
    assert said == [
        "http.client: hello from /one",
        "http.client: hello from /two",
        "asyncio: hello from /three",
    ]


def test_dhcp_lease_is_had_renewed_and_given_back():
    lines = output("dhcp_lease.py").splitlines()
    assert lines[0].startswith("lease: 10.0.0.50/24 after ")
    assert lines[1] == "search: ['example', 'org']"
    # renewed at half of ten minutes, twice in eleven
    assert lines[2] == "heard: DISCOVER REQUEST REQUEST REQUEST RELEASE"


def test_ten_hosts_have_one_address_outside_and_their_own_inside():
    lines = output("ten_hosts.py").splitlines()
    assert lines[:3] == [
        "a1 seen outside: 198.51.100.1",
        "b5 seen outside: 198.51.100.1",
        "a1 seen by b5: 10.1.0.2",
    ]
    hosts = re.fullmatch(r"hosts: 14 packets forwarded by nat: (\d+)", lines[3])
    assert hosts is not None
    assert int(hosts[1]) >= 9  # three handshakes
    routes = [line.split()[:3] for line in lines[5:] if line]
    assert routes == [
        ["eth0", "00000000", "0100000A"],
        ["eth0", "0000000A", "00000000"],
        ["eth1", "0000010A", "00000000"],
    ]
    shown = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / "docs" / "devices.md").read_text(), re.M | re.S
    )
    assert (EXAMPLES / "ten_hosts.py").read_text() in shown


def test_asyncio_echo_returns_each_line():
    assert output("asyncio_echo.py").splitlines() == ["echo: one", "echo: two", "echo: three"]


def test_the_example_tests_pass_and_there_are_three():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own_driver.py"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=EXAMPLES,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^3 passed", done.stdout, re.MULTILINE), done.stdout


def test_qemu_driver_reads_the_address_of_qemus_card():
    require.tool("qemu-system-x86_64", "qemu-system-x86")
    text = output("qemu_driver.py")
    assert "eth0: pci_dev(0000:00:03.0 [8086:100e] irq 11) of QEMU, 52:54:00:12:34:56" in text
    assert re.search(r"^4194304 bytes of TCP .* [1-9]\d* interrupts$", text, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_example_is_judged_here(path):
    assert f'"{path.name}"' in Path(__file__).read_text()


def test_doorbell_serves_a_client(tmp_path):
    path = tmp_path / "s"
    program = subprocess.Popen(
        # the tests may run in the background of a shell, which ignores SIGINT for its children
        ["env", "--default-signal=INT", sys.executable, str(EXAMPLES / "doorbell.py"), str(path)],
        stdout=subprocess.PIPE,
        env=dict(os.environ) | {"PYTHONPATH": str(ROOT)},
    )
    try:
        eventually(path.exists, path, program=program)
        clock = RealClock()
        client = FakeClient(path, clock)
        client.threaded = True  # the server is another process
        client.version()
        memory = client.map_ram()
        client.start_function()
        memory.write(RAM_BASE, b"abc")
        for register, value in ((0, RAM_BASE), (4, 3), (8, 1)):
            client.bar_write(0, register, value, 4)
        assert client.bar_read(0, 12, 4) == sum(b"abc")
        assert client.interrupts() == 1
        client.close()
        clock.close()
    finally:
        program.send_signal(signal.SIGINT)
        said, _ = program.communicate(timeout=60)
    assert (program.returncode, b"client connected" in said) == (0, True)
    assert not path.exists()


def test_doorbell_is_shown_as_it_is():
    text = (EXAMPLES / "doorbell.py").read_text()
    assert len(text.splitlines()) < 100
    assert text in fences("embed.md", "python")


def test_measure_prints_rates():
    text = output("measure.py")
    virtual, cpu = (float(line.split()[0]) for line in text.splitlines())
    # 2 ms of wire for each request, more for those of which something was lost: about 2 %
    assert 100 < virtual < 500
    assert cpu > 0


def test_the_scripts_of_the_page_on_measuring_work(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "measure.md").read_text()
    scripts = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert scripts[0] == (EXAMPLES / "measure.py").read_text()
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for script in scripts:  # one goes on where the one before ended
        exec(compile(script, "measure.md", "exec"), names)
    assert (tmp_path / "mine.csv").read_text().startswith("time_s,cwnd_segments,")


@pytest.mark.parametrize("flat", [False, True])
def test_dhcp_lan_gives_each_client_its_own_lease(flat):
    text = output("dhcp_lan.py", "40", *(["flat"] if flat else []))
    assert "leases: 40 of 40 clients differ" in text
    heard = re.search(r"^packets received: (\d+),", text, re.MULTILINE)
    assert heard is not None
    # isolated: its own OFFER and ACK; flat: DISCOVER, REQUEST and ARP of each, heard by all
    assert int(heard[1]) > 3 * 40 * 40 if flat else int(heard[1]) == 2 * 40
    told = re.search(r"^server: (\{.*\})$", text, re.MULTILINE)
    assert told is not None
    messages = ast.literal_eval(told[1])
    assert messages["ACK"] >= 40
    assert "NAK" not in messages
    assert "DECLINE" not in messages


def test_storm_is_cut_by_storm_control_alone():
    text = output("storm.py")
    rows = re.findall(r"^storm_pps=(\d+): hosts heard (\d+) frames, storm control cut (\d+)$",
                      text, re.MULTILINE)  # fmt: skip
    (free, heard, uncut), (bound, heard_bound, cut) = [tuple(map(int, row)) for row in rows]
    assert (free, uncut, bound) == (0, 0, 1000)
    assert cut > 0
    assert heard_bound < 20_000 < heard


@pytest.mark.parametrize("words", [(), ("flat",)])
def test_ipv6_lan_finds_the_duplicates_and_no_others(words):
    text = output("ipv6_lan.py", "30", *words)
    assert "addresses: 60, tentative 0" in text
    assert "false duplicates: 0" in text
    assert "duplicates: 3 of 3 found" in text
    reports = re.search(
        r"^MLD reports: (\d+) sent, (\d+) heard by the monitor$", text, re.MULTILINE
    )
    assert reports is not None
    assert int(reports[1]) == int(reports[2]) >= 60
