"""--addr, --gw, --dhcp, --slaac and --dns: what they refuse, and both families on one link."""

from __future__ import annotations

import ipaddress
import re
import socket

import pytest

from e1000emu.cli import common
from e1000emu.cli.addressing import Addressing, addresses_of, check_gateways
from e1000emu.cli.common import StationOptions, describe
from e1000emu.cli.params import not_a_host, not_a_name
from e1000emu.cli.waiting import Wait
from e1000emu.clock import VirtualClock
from e1000emu.errors import E1000Error
from e1000emu.lab import add_nic
from e1000emu.links import pair
from stack.core.sockaddr import sockaddr
from stack.host import Host
from stack.services.radvd import Radvd
from stack.socket import SOCK_DGRAM, getaddrinfo
from tests.e1000emu.cli.test_cli import run

LINK = ("--link", "null")
V4, V6 = ("--addr", "10.9.0.2/24"), ("--addr", "2001:db8::2/64")


def interfaces(*texts: str) -> tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]:
    return tuple(map(ipaddress.ip_interface, texts))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "give --addr, --dhcp or --slaac; see "),
        (("--addr", "2001:db8::2"), "write for instance 2001:db8::2/64"),
        (("--addr", "2001:db8::2/129"), "write for instance 2001:db8::2/64"),
        (("--addr", "ff02::1/64"), "multicast"),
        (("--addr", "::1/128"), "loopback"),
        (("--addr", "::ffff:10.9.0.2/120"), "IPv4 address in IPv6's form"),
        ((*V4, "--dhcp"), "give one of them"),
        ((*V6, "--gw", "2001:db9::1"), "not inside 2001:db8::/64"),
        ((*V6, "--gw", "10.9.0.1"), "no network"),
        ((*V4, "--gw", "10.9.0.1", "--gw", "10.9.0.3"), "given twice for IPv4"),
        ((*V4, "--dns", "server"), "write for instance"),
    ],
)
@pytest.mark.parametrize("command", ["ping"])
def test_what_cannot_be_is_explained_in_one_line(
    command: str, args: tuple[str, ...], words: str
) -> None:
    done = run(command, "10.9.0.1", *LINK, *args)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("10.9.0.1", False),
        ("fe80::1%eth0", False),
        ("www.example.org.", False),
        ("localhost", False),
        ("bücher.example", False),
        ("_ldap._tcp.example", False),
        ("10.9.0", True),
        ("10.9.0.256", True),
        ("1::2::3", True),
        ("a..b", True),
        ("-a.example", True),
        ("a b", True),
        ("", True),
        ("x" * 64, True),
    ],
)
def test_names_and_addresses(text: str, bad: bool) -> None:
    assert bool(not_a_name(text)) is bad


def test_hosts_own_addresses() -> None:
    for text in ("2001:db8::/64", "fe80::1/64", "2001:db8::1/127"):
        assert not_a_host(ipaddress.ip_interface(text)) == ""
    for text in ("::/64", "ff02::1/16", "::1/128", "fe80::1%eth0/64"):
        assert not_a_host(ipaddress.ip_interface(text)) != ""


def test_a_link_local_gateway_is_on_every_network() -> None:
    check_gateways([ipaddress.ip_address("fe80::1")], interfaces("2001:db8::2/64"))


def test_mac_is_the_first_addresss_or_this_machines() -> None:
    assert (
        Addressing(interfaces("10.9.0.2/24", "2001:db8::2/64")).mac("null").hex() == "52540a090002"
    )
    assert Addressing(interfaces("2001:db8::1:2/64")).mac("null").hex() == "525400010002"
    dynamic = Addressing(dhcp=True)
    assert dynamic.mac("tap:a") == dynamic.mac("tap:a") != dynamic.mac("tap:b")
    assert dynamic.mac("tap:a")[0] & 3 == 2


def test_a_station_of_both_families() -> None:
    clock = VirtualClock()
    own = Addressing(
        interfaces("10.9.0.2/24", "2001:db8::2/64"),
        tuple(map(ipaddress.ip_address, ("10.9.0.1", "2001:db8::1"))),
        tuple(map(ipaddress.ip_address, ("10.9.0.1", "2001:db8::1"))),
    )
    station = StationOptions("stack:10.9.0.1/24+2001:db8::1/64", own).start(clock)
    host = station.host
    assert addresses_of(host) == ["10.9.0.2/24", "2001:db8::2/64"]
    assert [server.family for server in host.names.current.servers] == [2, 10]
    for far in ("192.0.2.9", "2001:db8:77::9"):
        rows = getaddrinfo(host, far, 9, 0, SOCK_DGRAM)
        with host.socket(rows[0][0], SOCK_DGRAM) as sock:
            sock.connect(rows[0][4])  # over the default route
            assert sock.getsockname()[0] in ("10.9.0.2", "2001:db8::2")
    station.close()


def test_an_address_that_the_other_end_has_is_refused() -> None:
    clock = VirtualClock()
    own = Addressing(interfaces("2001:db8::1/64"))
    with pytest.raises(E1000Error, match="another host on the link has it"):
        StationOptions("stack:2001:db8::1/64", own).start(clock)


@pytest.mark.parametrize(
    ("flag", "words", "awaited"),
    [
        ("dhcp", "no server gave", ["a DHCP server's offer"] * 6),
        ("slaac", "no router", ["the check that no other host has our link-local address",
                                *["a router's advertisement"] * 5]),
    ],
)  # fmt: skip
def test_nobody_answers(
    flag: str, words: str, awaited: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = VirtualClock()
    with pytest.raises(E1000Error, match=words):
        StationOptions("null", Addressing(**{flag: True})).start(clock)
    assert clock.now_ns() >= 30_000_000_000
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"e1000emu: --{flag}: waiting for {what} ({seconds}s of 30s)"
        for what, seconds in zip(awaited, (1, 5, 10, 15, 20, 25), strict=True)
    ]


def test_a_wait_that_ends_well_ends_with_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VirtualClock()
    near, far = pair(clock)
    router = Host(name="router", clock=clock, sysctl={"net.ipv6.conf.all.forwarding": 1})
    add_nic(router, far, addr="2001:db8::1/64", wait=False)
    radvd = Radvd(router.dev("eth0"))
    monkeypatch.setattr(common, "open_link", lambda *words, **how: near)
    station = StationOptions("null", Addressing(slaac=True)).start(clock)
    (addr,) = addresses_of(station.host)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        "e1000emu: --slaac: waiting for the check that no other host has our link-local address "
        "(1s of 30s)"
    )
    assert re.fullmatch(rf"e1000emu: --slaac: eth0 has {re.escape(addr)} \(\ds\)", said[-1])
    station.close()
    radvd.stop()
    router.close()


def test_what_is_there_at_once_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    wait = Wait(VirtualClock(), "--dhcp", 30_000_000_000)
    assert wait.until(lambda: True, lambda: "nothing")
    wait.end(lambda: "done")
    assert capsys.readouterr().err == ""


def test_a_name_that_is_not_found_says_who_was_asked() -> None:
    link = ("get", "http://nowhere.example/", "--link", "stack:10.9.0.1/24", *V4)
    for dns, words in (((), "--dns names one"), (("--dns", "10.9.0.1"), "10.9.0.1 (from --dns)")):
        done = run(*link, *dns)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.endswith(f"{words}\n")
        assert ("--dns names" in done.stderr) == (not dns)
    host = Host(name="a", clock=VirtualClock())
    host.names.learn("dhcp4 eth0", [sockaddr(socket.AF_INET, 0x0A090001, 53)], ())
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    assert describe(error, host).endswith("; no answer from 10.9.0.1 (from DHCP)")
    host.close()


def test_ping_of_both_families_without_a_network() -> None:
    link = ("--link", "stack:10.9.0.1/24+2001:db8::1/64")
    done = run("ping", "2001:db8::1", "-c", "1", *link, *V4, *V6)
    assert done.stdout.splitlines()[0] == "PING 2001:db8::1(2001:db8::1) 56 data bytes"
    assert "64 bytes from 2001:db8::1: icmp_seq=1 ttl=64 time=" in done.stdout
    wrong = run("ping", "-4", "2001:db8::1", *link, *V4)
    assert (wrong.returncode, wrong.stderr) == (
        2, "e1000emu: -4: 2001:db8::1 is IPv6; leave -4 out\n",
    )  # fmt: skip


def test_get_of_an_address_in_brackets() -> None:
    link = ("--link", "stack:2001:db8::1/64,serve=http:80")
    done = run("get", "http://[2001:db8::1]/", *link, *V6)
    assert "<h1>e1000emu</h1>" in done.stdout
