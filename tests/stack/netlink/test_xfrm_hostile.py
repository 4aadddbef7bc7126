"""NETLINK_XFRM: whatever a program sends is answered with an errno, and states stay usable."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from e1000emu.clock import VirtualClock
from stack.host import Host
from stack.netlink import xfrm_user
from stack.netlink.netlink_sock import NLMSG_ERROR, NLMSG_HDRLEN, NLMSGHDR
from stack.netlink.nlattr import put_attr
from stack.netlink.xfrm_attrs import ALGO_ICV, POLICY_INFO_BYTES, TMPL, USERSA_INFO_BYTES, XFRMA
from tests.support import examples

NETLINK_XFRM = 6
SEEDS = {
    xfrm_user.NEWSA: USERSA_INFO_BYTES,
    xfrm_user.UPDSA: USERSA_INFO_BYTES,
    xfrm_user.ALLOCSPI: USERSA_INFO_BYTES + 8,
    xfrm_user.NEWPOLICY: POLICY_INFO_BYTES,
    xfrm_user.UPDPOLICY: POLICY_INFO_BYTES,
}
AEAD = ALGO_ICV.pack(b"rfc4106(gcm(aes))", 160, 128) + bytes(20)
NULL = struct.pack("=64sI", b"cipher_null", 0)


def structure(kind: int) -> bytearray:
    """A structure that is nearly right: of IPv4 and ESP."""
    raw = bytearray(SEEDS.get(kind, 64))
    raw[40:42] = struct.pack("=H", 2)
    if kind in (xfrm_user.NEWSA, xfrm_user.UPDSA, xfrm_user.ALLOCSPI):
        raw[76], raw[75] = 50, 9
        raw[212:214] = struct.pack("=H", 2)
    if kind == xfrm_user.ALLOCSPI:
        raw[-8:] = struct.pack("=II", 0x100, 0x103)
    return raw


@st.composite
def messages(draw: st.DrawFn) -> tuple[int, int, bytes]:
    """A type, flags, and what is behind the header: nearly right, or anything."""
    kind = draw(st.integers(0x10, 0x2A))
    flags = draw(st.sampled_from((1, 0x301)))
    raw = structure(kind)
    for at, value in draw(
        st.lists(st.tuples(st.integers(0, 223), st.integers(0, 255)), max_size=6)
    ):
        if at < len(raw):
            raw[at] = value
    body = bytearray(raw[: draw(st.sampled_from((len(raw), len(raw), 5)))])
    for number in draw(st.lists(st.sampled_from(sorted(XFRMA.by_number)), max_size=4)):
        payload = draw(
            st.one_of(
                st.sampled_from((AEAD, NULL, bytes(TMPL.size), bytes(24))), st.binary(max_size=90)
            )
        )
        put_attr(body, number, payload)
    return kind, flags, bytes(body)


@pytest.fixture(scope="module")
def host() -> Host:
    return Host("h", clock=VirtualClock())


@given(asked=st.lists(messages(), min_size=1, max_size=6))
@settings(max_examples=examples(300), deadline=None)
def test_any_message_is_answered(host: Host, asked: list[tuple[int, int, bytes]]) -> None:
    with host.socket(16, 3, NETLINK_XFRM) as sock:
        sock.setblocking(False)
        for kind, flags, body in asked:
            ask(sock, kind, flags, body)
        for pol in host.xfrm.policy_all:
            assert pol.selector.family in (2, 10)
        assert ask(sock, xfrm_user.FLUSHSA, 1, b"\0") == [0]
        assert ask(sock, xfrm_user.FLUSHPOLICY, 1, b"") == [0]
    assert host.xfrm.policy_all == []
    assert host.xfrm.state is None or host.xfrm.state.by_id == {}


def ask(sock: Any, kind: int, flags: int, body: bytes) -> list[int]:
    """Send one message; the errnos of its answers, of which there is one at least."""
    sock.send(NLMSGHDR.pack(NLMSG_HDRLEN + len(body), kind, flags | 4, 7, 0) + body)
    packets = []
    with contextlib.suppress(BlockingIOError):
        while True:
            packets.append(sock.recv(1 << 16))
    assert packets
    assert all(NLMSGHDR.unpack_from(packet)[3] == 7 for packet in packets)
    return [
        -struct.unpack_from("=i", packet, NLMSG_HDRLEN)[0]
        for packet in packets
        if NLMSGHDR.unpack_from(packet)[1] == NLMSG_ERROR
    ]
