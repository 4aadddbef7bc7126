"""IPsec between a guest's Linux and a host of ours: the same `ip xfrm` on both, tshark reads it."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stack import proc
from tests.guest.setup import DATA_PORT, GUEST, WAIT_S, content, fields
from tests.guest.test_stack import GUEST6, OURS, OURS6, Beside, OnStack, lan, streams
from tests.support import eventually, require

__all__ = ["lan"]

pytestmark = pytest.mark.slow

GCM = "aead 'rfc4106(gcm(aes))' 0x" + bytes(range(1, 21)).hex() + " 128"
NULL = (
    "auth-trunc 'hmac(sha256)' 0x" + bytes(range(100, 132)).hex() + " 128 enc 'ecb(cipher_null)' ''"
)
SPI_OUT, SPI_IN = 0x1001, 0x1002
"""From us to the guest, and back."""
INSIDE: dict[int, tuple[str, str]] = {
    socket.AF_INET: ("10.77.0.1", "10.77.0.2"),
    socket.AF_INET6: ("fd77::1", "fd77::2"),
}
OUTSIDE: dict[int, tuple[str, str]] = {
    socket.AF_INET: (OURS, GUEST),
    socket.AF_INET6: (OURS6, GUEST6),
}
MODULES = "esp4 esp6 xfrm_user gcm ghash_generic ctr seqiv authenc crypto_null hmac sha256_generic"


@dataclass(frozen=True)
class Sa:
    """A pair of states and their policies."""

    af: int
    inner: int
    mode: str
    suite: str
    words: str = ""

    def commands(self, guest: bool) -> list[str]:
        """Arguments of `ip` for one end."""
        ours, theirs = OUTSIDE[self.af]
        a, b = INSIDE[self.inner] if self.mode == "tunnel" else OUTSIDE[self.inner]
        length = 128 if self.inner == socket.AF_INET6 else 32
        ways = (
            (ours, theirs, a, b, SPI_OUT, "in" if guest else "out"),
            (theirs, ours, b, a, SPI_IN, "out" if guest else "in"),
        )
        made = []
        for src, dst, inside_src, inside_dst, spi, direction in ways:
            made.append(
                f"xfrm state add src {src} dst {dst} proto esp spi {spi:#x} reqid 7 "
                f"mode {self.mode} {self.words} {self.suite}"
            )
            ends = f"src {src} dst {dst} " if self.mode == "tunnel" else ""
            for proto in (6, 17):  # TCP and UDP: neighbours are found in the clear
                made.append(
                    f"xfrm policy add src {inside_src}/{length} dst {inside_dst}/{length} "
                    f"proto {proto} dir {direction} tmpl {ends}proto esp reqid 7 mode {self.mode}"
                )
        return made


V4, V6 = socket.AF_INET, socket.AF_INET6
SAS = {
    "transport, IPv4, AES-GCM": Sa(V4, V4, "transport", GCM),
    "transport, IPv6, AES-GCM": Sa(V6, V6, "transport", GCM),
    "transport, IPv4, null and SHA-256": Sa(V4, V4, "transport", NULL),
    "tunnel, IPv4, AES-GCM, ESN": Sa(V4, V4, "tunnel", GCM, "replay-window 64 flag esn"),
    "tunnel, IPv6 in IPv4, AES-GCM": Sa(V4, V6, "tunnel", GCM, "flag af-unspec"),
    "tunnel, IPv4 in IPv6, null and SHA-256": Sa(V6, V4, "tunnel", NULL, "flag af-unspec"),
}


def script(sa: Sa, *, guest: bool) -> str:
    """The shell's script for one end."""
    return "\n".join(f"ip {words}" for words in sa.commands(guest))


def on_host(lan: Beside, words: str) -> str:
    """What the shell prints on our host."""
    program = lan.host.spawn(
        ["sh", "-ec", words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    text, _ = program.communicate(timeout=WAIT_S)
    assert program.returncode == 0, f"{words}: {text}"
    return str(text)


@pytest.fixture(scope="module")
def modules(lan: OnStack) -> None:
    """The guest's kernel has ESP; which of its parts are modules differs between kernels."""
    require.tool("ip")
    lan.guest.run(f"for m in {MODULES}; do modprobe -q $m; done; true").check()
    for family, (ours, theirs) in INSIDE.items():
        length = 24 if family == socket.AF_INET else 64
        nodad = " nodad" if family == socket.AF_INET6 else ""
        on_host(lan, f"ip addr add {ours}/{length} dev eth0{nodad}")
        lan.guest.run(f"ip addr add {theirs}/{length} dev eth0{nodad}").check()


@pytest.fixture(params=list(SAS.values()), ids=list(SAS))
def sa(lan: OnStack, modules: None, request: pytest.FixtureRequest) -> Iterator[Sa]:
    """The states and policies of both ends."""
    made: Sa = request.param
    on_host(lan, script(made, guest=False))
    lan.guest.run("set -e\n" + script(made, guest=True)).check()
    yield made
    flush = "ip xfrm state flush; ip xfrm policy flush"
    on_host(lan, flush)
    lan.guest.run(flush).check()


def datagrams(lan: Beside, family: int, ours: str, theirs: str) -> None:
    """Datagrams of the guest come back, the last in fragments."""
    sock = lan.socket(socket.SOCK_DGRAM, family)
    sock.bind((ours, DATA_PORT))
    sizes = (1, 100, 1400, 2000)
    job = lan.guest.spawn(
        f"exec 5<>/dev/udp/{ours}/{DATA_PORT}; for i in {' '.join(map(str, sizes))}; do "
        "dd if=/tmp/data bs=$i count=1 2>/dev/null >&5; "
        "dd bs=2048 count=1 <&5 2>/dev/null | wc -c; done"
    )
    for size in sizes:
        data, sender = sock.recvfrom(4096)
        assert sender[0] == theirs
        assert data == content()[:size]
        sock.sendto(data, sender)
    assert job.wait(WAIT_S).check().stdout.split() == [str(size) for size in sizes]
    sock.close()


def test_content_goes_both_ways_in_esp(lan: OnStack, sa: Sa) -> None:
    """Streams and datagrams arrive, nothing of them goes in the clear, no packet is refused."""

    def seen(wanted: str) -> list[int]:
        lan.writer.flush()
        return [int(row[0] or "0", 0) for row in fields(lan.capture, wanted, "esp.spi")]

    ours, theirs = (INSIDE if sa.mode == "tunnel" else OUTSIDE)[sa.inner]
    protected = f"esp.spi in {{{SPI_OUT:#x}, {SPI_IN:#x}}}"
    clear = f"(tcp.port == {DATA_PORT} || udp.port == {DATA_PORT}) && !esp"
    before, in_the_clear = len(seen(protected)), seen(clear)
    errors = proc.read(lan.host, "xfrm_stat")
    streams(lan, sa.inner, ours)
    datagrams(lan, sa.inner, ours, theirs)
    spis = seen(protected)[before:]
    assert set(spis) == {SPI_OUT, SPI_IN}
    assert len(spis) > 2 * len(content()) // 1500
    assert seen(clear) == in_the_clear
    assert proc.read(lan.host, "xfrm_stat") == errors
    for told in (
        lan.guest.run("ip -s xfrm state").check().stdout,
        on_host(lan, "ip -s xfrm state"),
    ):
        assert len(re.findall(r"replay-window 0 replay 0 failed 0", told)) == 2, told


def test_a_wrong_key_is_refused_and_counted(lan: OnStack, modules: None) -> None:
    """What the guest sends with another key reaches nobody, and XfrmInStateProtoError says so."""
    sa = SAS["transport, IPv4, AES-GCM"]
    on_host(lan, script(sa, guest=False))
    lan.guest.run("set -e\n" + script(sa, guest=True).replace("0x0102", "0xffff")).check()

    def counted() -> int:
        lines = proc.read(lan.host, "xfrm_stat").splitlines()
        return next(int(line.split()[1]) for line in lines if "XfrmInStateProtoError" in line)

    before = counted()
    lan.guest.run(f"echo x >/dev/udp/{OURS}/{DATA_PORT}").check()
    eventually(lambda: counted() == before + 1, "XfrmInStateProtoError")
    flush = "ip xfrm state flush; ip xfrm policy flush"
    on_host(lan, flush)
    lan.guest.run(flush).check()
