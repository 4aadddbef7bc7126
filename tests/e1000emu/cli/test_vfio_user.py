"""`e1000emu vfio-user`: what it prints, serves and refuses."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from e1000emu.capture import PcapngWriter
from e1000emu.cli.plugs import parse_mac
from e1000emu.cli.vfio_user import (
    cloud_hypervisor_arguments,
    parse_cpus,
    qemu_arguments,
    qemu_program,
)
from e1000emu.embed.vfio_user import protocol as vu
from e1000emu.errors import E1000Error
from e1000emu.registers.regs import reg
from fastpath.base.batch import FrameBatch
from tests.e1000emu.cli.test_doctor import fake_qemu
from tests.support import wait_blocked


def run(*args: str) -> subprocess.Popen[str]:
    # The tests themselves may run under nohup(1), which children inherit.
    return subprocess.Popen(
        ["env", "--default-signal=HUP", sys.executable, "-m", "e1000emu", "vfio-user", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_mac_is_parsed_or_refused() -> None:
    assert parse_mac("52:54:00:ab:cd:ef") == bytes.fromhex("525400abcdef")
    assert parse_mac("52-54-00-AB-CD-EF") == bytes.fromhex("525400abcdef")
    for bad in ("", "52:54:00:12:34", "53:54:00:12:34:56", "0:0:0:0:0:1", "zz:54:00:12:34:56"):
        with pytest.raises(E1000Error, match="--mac"):
            parse_mac(bad)


def test_qemu_line_survives_a_shell() -> None:
    words = shlex.split(shlex.join(qemu_arguments([Path("/run/a b/s"), Path("/run/t")])))
    devices = [json.loads(words[n + 1]) for n, word in enumerate(words) if word == "-device"]
    assert devices == [
        {"driver": "vfio-user-pci", "socket": {"type": "unix", "path": path}}
        for path in ("/run/a b/s", "/run/t")
    ]
    assert "share=on" in words[words.index("-object") + 1]


@pytest.mark.parametrize(
    ("version", "device", "does"),
    [("7.2.22", "", False), ("10.1.0", "", False), ("11.1.3", "x-no-posted-writes=<bool>", True)],
)
def test_the_line_names_a_qemu_that_can_attach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, device: str, does: bool
) -> None:
    fake_qemu(tmp_path, f"QEMU emulator version {version}", device)
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("E1000EMU_QEMU", raising=False)
    own = [sys.executable, "-m", "e1000emu", "qemu", "--"]
    program, named = qemu_program()
    assert (program, named) == ((["qemu-system-x86_64"], version) if does else (own, ""))
    assert qemu_arguments([Path("s")], program=program)[: len(program)] == program


def test_cloud_hypervisor_line_shares_the_memory() -> None:
    words = cloud_hypervisor_arguments([Path("/run/s"), Path("/run/t")])
    assert words[words.index("--memory") + 1] == "size=1G,shared=on"
    assert words[words.index("--user-device") + 1 :] == ["socket=/run/s", "socket=/run/t"]


def talk(path: Path, offset: int = 0) -> bytes:
    """Shake hands and return the first four bytes of configuration space."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.send(vu.pack(1, 1, bytes(4)))
        assert len(client.recv(100)) == 20
        client.send(vu.pack(2, 9, vu.REGION_ACCESS.pack(offset, 7, 4)))
        return client.recv(100)[32:]


def test_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    trace = tmp_path / "in.pcapng"
    with PcapngWriter(trace):
        pass
    process = run("--socket", str(path), "--link", f"pcap:{trace}", "--json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert (ready["event"], ready["pid"]) == ("ready", process.pid)
    assert ready["nics"] == [
        {"socket": str(path), "model": "82540EM", "mac": "52:54:00:12:34:56"},
    ]
    assert ready["qemu"] == qemu_arguments([path], program=qemu_program()[0])
    assert ready["cloud_hypervisor"] == cloud_hypervisor_arguments([path])
    assert talk(path) == bytes.fromhex("86800e10")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0
    counters = json.loads(out)
    assert counters["event"] == "end"
    assert (counters["clients"], counters["messages"]) == (1, 2)
    assert (counters["tx_frames"], counters["rx_frames"]) == (0, 0)
    lines = err.splitlines()
    assert "82540EM 52:54:00:12:34:56" in lines[0]
    shown = [shlex.split(line) for line in lines if line.startswith("  ")]
    assert shown[:2] == [ready["qemu"], ready["cloud_hypervisor"]]
    assert ("chown" in err) == (os.geteuid() == 0)
    assert not os.path.exists(path)


@pytest.mark.parametrize(("options", "bar0"), [((), 0), (("--wide-bars",), 4)])
def test_wide_bars_are_an_option(tmp_path: Path, options: tuple[str, ...], bar0: int) -> None:
    path = tmp_path / "s"
    process = run("--socket", str(path), "--link", "null", "--json", *options)
    assert process.stdout is not None
    process.stdout.readline()
    assert talk(path, 0x10) == bar0.to_bytes(4, "little")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_a_signal_shows_the_counters_and_it_serves_on(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "s"
    arguments = ["--socket", str(path), "--link", "stack:10.9.0.1/24"]
    process = run(*arguments, *(["--json"] if as_json else []))
    assert process.stdout is not None
    started = process.stdout.readline()
    for clients in (1, 2):
        if as_json:
            assert talk(path) == bytes.fromhex("86800e10")
        process.send_signal(signal.SIGUSR1)
        if as_json:
            counters = json.loads(process.stdout.readline())
            assert (counters["event"], counters["clients"]) == ("counters", clients)
            assert counters["messages"] == 2 * clients
    if not as_json:
        assert str(path) in started
        while not (line := process.stdout.readline()).startswith("0 clients, 0 messages"):
            assert line
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    if as_json:
        assert json.loads(out)["event"] == "end"


@pytest.mark.parametrize("signals", [[signal.SIGUSR2], [signal.SIGUSR1, signal.SIGUSR2]])
def test_a_signal_before_it_is_ready_waits(tmp_path: Path, signals: list[signal.Signals]) -> None:
    process = run("--socket", str(tmp_path / "s"), "--link", "null", "--json")
    assert process.stdout is not None
    wait_blocked(process, signals)
    for number in signals:
        process.send_signal(number)
    events = [json.loads(process.stdout.readline())["event"] for _ in range(1 + len(signals))]
    names = {signal.SIGUSR1: "counters", signal.SIGUSR2: "explain"}
    assert events[0] == "ready"
    assert sorted(events[1:]) == sorted(names[number] for number in signals)
    process.send_signal(signal.SIGUSR2)  # it acts at once now
    assert json.loads(process.stdout.readline())["event"] == "explain"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=100)
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_well_however_often_it_is_told(tmp_path: Path, number: signal.Signals) -> None:
    """timeout(1) sends a signal to the program, and one to its group."""
    process = run("--socket", str(tmp_path / "s"), "--link", "null")
    assert process.stdout is not None
    process.stdout.readline()
    while process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.001)
    _, err = process.communicate(timeout=100)
    assert (process.returncode, err) == (0, "")


def test_sigterm_before_it_is_ready_leaves_nothing(tmp_path: Path) -> None:
    process = run("--socket", str(tmp_path / "s"), "--link", "null")
    wait_blocked(process, [signal.SIGUSR1])
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=100)
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert err == ""
    assert os.listdir(tmp_path) == []


def test_a_terminal_that_is_closed_ends_it_as_sigterm_does(tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = run("--socket", str(tmp_path / "s"), "--link", "null", "--state", str(state))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=100)
    assert process.returncode == 0
    assert os.listdir(tmp_path) == ["state"]


def hang(client: socket.socket) -> None:
    """Post a descriptor with bus mastering off, as a driver does that forgot pci_set_master."""
    client.send(vu.pack(1, 1, bytes(4)))
    assert len(client.recv(100)) == 20
    writes = [(vu.VFIO_PCI_CONFIG_REGION_INDEX, 4, 2)]
    writes += [(0, reg(name).offset, value) for name, value in HANGING.items()]
    for ident, (region, offset, value) in enumerate(writes, 2):
        body = vu.REGION_ACCESS.pack(offset, region, 4) + value.to_bytes(4, "little")
        client.send(vu.pack(ident, int(vu.Command.REGION_WRITE), body))
        assert len(client.recv(100)) == 32


HANGING = {"CTRL": 0x40, "TDBAL": 0x1000, "TDLEN": 128, "TCTL": 0x0003F0FA, "TDT": 1}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_signal_explains_a_hang_and_it_serves_on(tmp_path: Path, as_json: bool) -> None:
    path = tmp_path / "s"
    arguments = ["--socket", str(path), "--link", "stack:10.9.0.1/24", "--autoneg", "0"]
    process = run(*arguments, *(["--json"] if as_json else []))
    assert process.stdout is not None
    # the sockets listen and the signals are known before anything is printed
    assert str(path) in process.stdout.readline()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        hang(client)
        for again in (False, True):  # it only looks: the second time it says the same
            process.send_signal(signal.SIGUSR2)
            if as_json:
                told = json.loads(process.stdout.readline())
                while not again and not told["nics"][0]["misuse"]:  # the engine's turn comes yet
                    process.send_signal(signal.SIGUSR2)
                    told = json.loads(process.stdout.readline())
                assert told["event"] == "explain"
                (nic,) = told["nics"]
                assert (nic["socket"], nic["model"]) == (str(path), "82540EM")
                wrong = {reason["text"]: reason for reason in nic["reasons"]}
                (why,) = [text for text in wrong if "Bus mastering is off" in text]
                assert wrong[why]["sdm"]
                assert wrong[why]["remedy"]
                assert [event["name"] for event in nic["misuse"]] == ["bus-master-off"]
            else:
                while "Bus mastering is off" not in (line := process.stdout.readline()):
                    assert line
                assert "SDM" in process.stdout.readline()
        client.send(vu.pack(99, 9, vu.REGION_ACCESS.pack(0, 7, 4)))
        assert client.recv(100)[32:] == bytes.fromhex("86800e10")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    if as_json:
        assert json.loads(out)["event"] == "end"


def test_serves_one_nic_for_each_socket(tmp_path: Path) -> None:
    sockets = [tmp_path / "a", tmp_path / "b"]
    arguments = [word for path in sockets for word in ("--socket", str(path))]
    process = run(*arguments, "--link", "switch:stack:10.9.0.1/24,serve=echo:7", "--json")
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert [nic["mac"][-2:] for nic in ready["nics"]] == ["56", "57"]
    assert [talk(path) for path in sockets] == [bytes.fromhex("86800e10")] * 2
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    counters = json.loads(out)
    assert [nic["messages"] for nic in counters["nics"]] == [2, 2]
    assert counters["messages"] == 4
    assert not any(path.exists() for path in sockets)


def test_a_capture_that_takes_no_more_ends_it_in_one_line(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    trace = tmp_path / "in.pcapng"
    with PcapngWriter(trace) as writer:
        writer.write(FrameBatch([bytes(60)]), 0, 1, interface=writer.add_interface("x"), now_ns=0)
    process = run(
        "--socket", str(tmp_path / "s"), "--link", f"pcap:{trace}", "--capture", "/dev/full"
    )
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert err.startswith("e1000emu: capture '/dev/full': No space left on device")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("--link", "what:ever"),
        ("--link", "pcap:missing.pcapng"),
        ("--link", "tap:x", "--mac", "nonsense"),
        ("--link", "null", "--socket", "second"),
        ("--link", "null", "--mac", "02:00:00:00:00:01", "--mac", "02:00:00:00:00:02"),
        ("--link", "stack:10.9.0.1"),
        ("--link", "switch:nonsense"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, args: tuple[str, ...]) -> None:
    process = run("--socket", str(tmp_path / "s"), *args)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2
    assert err.startswith("e1000emu: --")
    assert err.count("\n") == 1


def test_each_nic_has_a_state_of_its_own(tmp_path: Path) -> None:
    sockets = [word for name in "ab" for word in ("--socket", str(tmp_path / name))]
    for states in (["x"], ["x", "x"], ["x", "y", "z"]):
        words = [word for name in states for word in ("--state", str(tmp_path / name))]
        process = run(*sockets, "--link", "switch", *words)
        _, error = process.communicate(timeout=60)
        assert process.returncode == 2
        assert f"--state: {len(states)} files for 2 --socket" in error
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("text", ["", "x", "1,", "99999", "-1"])
def test_cpus_that_are_not_there_are_named(text: str) -> None:
    with pytest.raises(E1000Error, match="--cpus"):
        parse_cpus(text)


def test_cpus_are_taken() -> None:
    one = min(os.sched_getaffinity(0))
    assert parse_cpus(str(one)) == frozenset([one])
