"""Two guests and a host of ours on one switch: `e1000emu vfio-user` with two sockets, no root."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e1000emu.capture import read_capture
from e1000emu.guest import GuestImage, GuestLinux, VfioUserNic
from tests.guest.setup import DATA_PORT, WAIT_S, content, ping, sha256, trouble, wait_carrier
from tests.support import kept

pytestmark = pytest.mark.slow

OURS = "10.9.0.1"
ADDRESSES = ("10.9.0.11", "10.9.0.12")
LINES = 100_000


@dataclass
class Lan:
    """The process with both NICs and the host, and the guests."""

    process: subprocess.Popen[bytes]
    guests: list[GuestLinux]
    capture: Path


@pytest.fixture(scope="module")
def lan(image: GuestImage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    directory = tmp_path_factory.mktemp("switch")
    sockets = [directory / "a", directory / "b"]
    page = directory / "page"
    page.mkdir()
    (page / "data").write_bytes(content(LINES))
    command = [sys.executable, "-m", "e1000emu", "vfio-user", "--json"]
    for path in sockets:
        command += ["--socket", str(path)]
    command += ["--link", f"switch:stack:{OURS}/24,serve=http:80:{page}"]
    command += ["--capture", str(directory / "all.pcapng")]
    with ExitStack() as stack:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["event"] == "ready"
        guests = []
        for path, address in zip(sockets, ADDRESSES, strict=True):
            guest = kept(stack, GuestLinux(image, nic=VfioUserNic(path)))
            guest.run("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6").check()
            guest.run(f"ip addr add {address}/24 dev eth0; ip link set eth0 up").check()
            guests.append(guest)
        for guest in guests:
            wait_carrier(guest)
        yield Lan(process, guests, directory / "all.pcapng")


def test_each_pings_the_other_and_our_host(lan: Lan) -> None:
    for guest, other in zip(lan.guests, reversed(ADDRESSES), strict=True):
        ping(guest, other)
        ping(guest, OURS)


def test_tcp_between_the_guests(lan: Lan) -> None:
    sender, receiver = lan.guests
    receiver.run(f"seq 1 {LINES} >/tmp/sent").check()
    sender.run(f"seq 1 {LINES} >/tmp/sent").check()
    job = receiver.spawn(f"busybox nc -l -p {DATA_PORT} </dev/null | sha256sum")
    receiver.run(
        f"until ss -Hltn sport = :{DATA_PORT} | grep -q .; do sleep 0.1; done", timeout_s=WAIT_S
    ).check()
    sender.run(f"cat /tmp/sent >/dev/tcp/{ADDRESSES[1]}/{DATA_PORT}", timeout_s=WAIT_S).check()
    assert job.wait(WAIT_S).check().stdout.split()[0] == sha256(content(LINES))


def test_a_page_of_our_host_comes_whole(lan: Lan) -> None:
    for guest in lan.guests:
        made = guest.run(f"wget -q -O - http://{OURS}/data | sha256sum", timeout_s=WAIT_S).check()
        assert made.stdout.split()[0] == sha256(content(LINES))


def test_the_guests_logs_are_clean_and_every_wire_was_recorded(lan: Lan) -> None:
    for guest in lan.guests:
        assert trouble(guest) == []
    lan.process.terminate()
    out, _ = lan.process.communicate(timeout=WAIT_S)
    assert lan.process.returncode == 0
    report: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert report["event"] == "end"
    frames = [0, 0]
    for record in read_capture(lan.capture):
        frames[record.interface] += 1
    assert frames == [nic["tx_frames"] + nic["rx_frames"] for nic in report["nics"]]
    assert all(nic["clients"] == 1 for nic in report["nics"])
