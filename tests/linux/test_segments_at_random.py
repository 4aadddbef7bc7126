"""TCP segments at random come to the same on the kernel and on ours (segments_at_random.py).

The rows are scripts of single steps, one for each thing that the random ones once showed.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.linux.segments_at_random import (
    ACK,
    FASTOPEN,
    FIN,
    LATER_NS,
    MSS,
    OWN_PORT,
    PORT,
    PSH,
    RST,
    SACK,
    SACK_OK,
    STAMP,
    SYN,
    Differs,
    Scene,
    Script,
    Spec,
    confirmed,
    content,
)
from tests.support import require

pytestmark = pytest.mark.netns

SEEDS = 20
AT = 40_000
FAR = 50_000
MSS_1000 = (MSS, b"\x03\xe8")
PLAIN = (MSS_1000, (SACK_OK, b""))
NOP = (1, b"")


@pytest.fixture(autouse=True)
def _needs() -> None:
    require.netns()
    require.tun()


@pytest.mark.parametrize("part", range(4))
def test_segments_come_to_the_same(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        assert confirmed(1000 + seed) == ""


def listening(scene: Scene, port: int = PORT) -> Iterator[str]:
    """A listener in slot 0."""
    slot = scene.socket("listener")
    yield scene.call("bind", slot, scene.address(True, port))
    yield scene.call("listen", slot, 5)


def connecting(scene: Scene) -> Iterator[str]:
    """A socket that connects, in slot 0."""
    slot = scene.socket("client")
    yield scene.call("bind", slot, scene.address(True, OWN_PORT))
    yield scene.call("connect", slot, scene.address(False, FAR))


def to_listener(flags: int, seq: int, ack: int, size: int = 0, **more: Any) -> Spec:
    return Spec(AT, PORT, seq, ack, flags, size=size, **more)


def to_client(flags: int, seq: int, ack: int, size: int = 0, **more: Any) -> Spec:
    return Spec(FAR, OWN_PORT, seq, ack, flags, size=size, **more)


def accepted(scene: Scene, options: tuple[Any, ...] = PLAIN, window: int = 50_000) -> Iterator[str]:
    """A connection from the peer, in slot 1."""
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, options=options))
    yield scene.segment(to_listener(ACK, 1, 1, window=window))
    yield scene.call("accept", 0)


def waited(scene: Scene) -> str:
    """Let the next timer run."""
    if found := scene.settle(LATER_NS):
        raise Differs(found)
    return "waited"


def blocks(*pairs: tuple[int, int]) -> tuple[Any, ...]:
    """Options with blocks of SACK."""
    return NOP, NOP, (SACK, pairs)


def a_listener_has_little_to_tell(scene: Scene) -> Iterator[str]:
    yield from listening(scene)


def a_syn_was_sent(scene: Scene) -> Iterator[str]:
    yield from connecting(scene)


def the_third_segment_and_data_count_as_received(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, options=PLAIN))
    yield scene.segment(to_listener(ACK, 1, 1, 10))
    yield scene.segment(to_listener(ACK, 2000, 1, 10))
    yield scene.segment(to_listener(RST, 900_000, 1, 10))
    yield scene.call("accept", 0)


def both_open_at_once(scene: Scene) -> Iterator[str]:
    yield from connecting(scene)
    yield scene.segment(to_client(SYN, 0, 0, options=(MSS_1000,)))
    yield scene.segment(to_client(ACK, 1, 1))
    yield scene.segment(to_client(ACK, 1, 1, 100))


def a_segment_of_no_connection_hurries_the_syn(scene: Scene) -> Iterator[str]:
    yield from connecting(scene)
    yield scene.segment(to_client(RST | ACK, 0, 1000))
    yield scene.segment(to_client(RST | ACK, 0, 1))


def the_syn_ack_is_sent_again(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, options=PLAIN))
    yield waited(scene)
    yield scene.segment(to_listener(ACK, 1, 1, options=blocks((0, 1))))
    yield scene.call("accept", 0)
    yield scene.call("sendto", 1, b"data", 0, None)
    yield waited(scene)


def what_disconnect_forgets(scene: Scene) -> Iterator[str]:
    yield from connecting(scene)
    yield scene.segment(to_client(SYN | ACK, 0, 1, options=(MSS_1000, (STAMP, (77, 0)))))
    yield scene.segment(to_client(ACK, 1, 1, 10, options=(NOP, NOP, (STAMP, (78, 0)))))
    yield scene.call("connect", 0, bytes(16))
    yield scene.call("connect", 0, scene.address(False, FAR))


def a_header_longer_than_the_segment_is_no_error(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.segment(to_listener(ACK, 1, 1, 1, doff=3))
    yield scene.segment(to_listener(ACK, 1, 1, 1, doff=-2))


def a_duplicate_longer_than_any_window(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, window=1)
    yield scene.call("sendto", 1, b"d", 0, None)
    yield scene.segment(to_listener(ACK, 1, 2, window=1, options=blocks((-9, 2))))


def an_old_ack_with_an_old_stamp(scene: Scene) -> Iterator[str]:
    stamps = tuple((NOP, NOP, (STAMP, (stamp, 0))) for stamp in (1001, 1000, 999))
    yield from accepted(scene, (MSS_1000, (STAMP, (1000, 0))))
    yield scene.segment(to_listener(ACK, 1, 1, 10, options=stamps[0]))
    yield scene.segment(to_listener(ACK, 1, 1, options=stamps[2]))
    yield scene.segment(to_listener(ACK, 11, 1, options=stamps[2]))
    yield scene.segment(to_listener(ACK, 11, 0, options=stamps[1]))
    yield scene.segment(to_listener(ACK, 11, 1, 10, options=stamps[2]))


def small_writes_and_the_end_are_sent_again_in_one(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.call("setsockopt", 1, socket.IPPROTO_TCP, socket.TCP_NODELAY, b"\1\0\0\0")
    yield scene.call("sendto", 1, b"a", 0, None)
    yield scene.call("sendto", 1, b"bc", 0, None)
    yield scene.call("close", 1)
    yield waited(scene)


def the_end_waits_for_the_congestion_window(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.call("sendto", 1, bytes(10_000), 0, None)
    yield scene.call("close", 1)
    yield scene.segment(to_listener(ACK, 1, 10_001))


def cookies_tell_the_mss(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, options=((MSS, b"\x05\xb4"),)))
    yield scene.segment(to_listener(ACK, 1, 1, 10))
    yield scene.call("accept", 0)


def a_stamp_that_we_do_not_offer_is_no_cookies(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, options=(MSS_1000,)))
    yield scene.segment(to_listener(ACK, 1, 1, options=(NOP, NOP, (STAMP, (5, 7)))))


def a_fast_open_cookie_is_asked_for(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, options=(MSS_1000, (FASTOPEN, b""))))


def a_fast_open_child(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    yield scene.segment(to_listener(SYN, 0, 0, 100, options=(MSS_1000, (STAMP, (5, 0)))))
    yield scene.call("accept", 0)
    yield scene.segment(to_listener(RST, 101, 0))


def a_stamp_of_a_segment_without_ack(scene: Scene) -> Iterator[str]:
    yield from listening(scene)
    syn = to_listener(SYN, 0, 0, options=(MSS_1000, (STAMP, (5, 0))))
    yield scene.segment(syn)
    yield scene.segment(to_listener(0, 1, 0, 10, options=(NOP, NOP, (STAMP, (6, 0)))))
    yield scene.segment(replace(syn, options=(MSS_1000, (STAMP, (7, 0)))))


def data_right_behind_the_window(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, (MSS_1000,))
    yield scene.segment(to_listener(ACK, 64_241, 1, 10))
    yield scene.segment(to_listener(ACK, 65_000, 1, 10))


def segments_that_are_shorter_by_their_options(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.segment(to_listener(ACK, 0, 1, 100, options=blocks((1, 2))))
    yield scene.segment(to_listener(ACK, 100, 1, 100))
    yield scene.segment(to_listener(ACK, 200, 1, 100))


def a_reset_with_data_while_connecting(scene: Scene) -> Iterator[str]:
    yield from connecting(scene)
    yield scene.segment(to_client(RST, 0, 0, 1))
    yield scene.segment(to_client(ACK | PSH, 1, 1, 100))


def urgent_data_and_a_linger_of_0(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.segment(to_listener(ACK | FIN, 1, 1, 100, urg=50))
    linger = struct.pack("=ii", 1, 0)
    yield scene.call("setsockopt", 1, socket.SOL_SOCKET, socket.SO_LINGER, linger)
    yield scene.call("close", 1)


def what_waits_is_joined(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, window=60_000)
    for size in (30_000, 17_100, 30_000):
        yield scene.call("sendto", 1, content(0, size), 0, None)
    for acked in (1000, 3000, 4000, 10_000, 11_000, 17_000, 31_000, 50_000, 70_000):
        yield scene.segment(to_listener(ACK, 1, 1 + acked, window=60_000))


def what_waits_is_joined_as_the_window_opens(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, window=3000)
    for size in (700, 1900, 3300, 2500):
        yield scene.call("sendto", 1, content(0, size), 0, None)
    for acked in (700, 1400, 2600, 2600, 4000, 5000):
        window = 1000 if acked == 2600 else 3000
        yield scene.segment(to_listener(ACK, 1, 1 + acked, window=window))


def the_end_of_a_record_is_not_joined(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, window=3000)
    yield scene.call("sendto", 1, content(0, 3000), 0, None)
    for flags in (0, socket.MSG_EOR, 0, socket.MSG_OOB, socket.MSG_EOR, 0):
        yield scene.call("sendto", 1, content(7, 300), flags, None)
    yield scene.call("shutdown", 1, 1)
    yield scene.segment(to_listener(ACK, 1, 2001, window=1100))
    yield scene.segment(to_listener(ACK, 1, 3101, window=400))
    yield scene.segment(to_listener(ACK, 1, 3501, window=5000))


def the_end_of_a_record_that_is_cut_is_not_joined(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, window=60_000)
    for size, flags in ((10_400, 0), (10_400, socket.MSG_EOR), (2000, 0)):
        yield scene.call("sendto", 1, content(0, size), flags, None)
    for acked in (10_000, 20_800, 22_800):
        yield scene.segment(to_listener(ACK, 1, 1 + acked, window=60_000))


def joined_segments_have_another_size(scene: Scene) -> Iterator[str]:
    yield from accepted(scene, window=1900)
    yield scene.call("sendto", 1, content(0, 9000), 0, None)
    yield waited(scene)
    yield waited(scene)  # so the congestion window lets one segment go
    yield scene.segment(to_listener(ACK, 500, 1, 100))  # its SACK block makes ours smaller
    acked = 1
    for size in (950, 950, 938, 938, 938, 1876):
        acked += size
        yield scene.segment(to_listener(ACK, 600, acked, window=1900))


def the_window_follows_what_segments_cost(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    seq = 1
    for size in (100, 1, 536, 10, 1400, 1, 200, 536, 1400, 1400, 128, 1000):
        yield scene.segment(to_listener(ACK, seq, 1, size))
        seq += size
    for size in (100, 1, 600, 3000, 5000):
        yield scene.call("recvfrom", 1, size, 0)
        yield scene.segment(to_listener(ACK, seq, 1, 1400))
        seq += 1400
    for ahead in (1400, 2800, 1400, 0):
        yield scene.segment(to_listener(ACK, seq + ahead, 1, 1400))
    yield scene.segment(to_listener(ACK | FIN, seq + 4200, 1))


def acks_that_are_not_owed_are_no_quick_ones(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.segment(to_listener(ACK, 1, 1, 1000))
    yield scene.segment(to_listener(ACK, 1001, 1, 500))
    yield scene.segment(to_listener(ACK, -37_906, 1, 1))
    yield scene.segment(to_listener(ACK, 1501, 2))
    for seq in (1501, 2501, 3037, 3573, 4109):
        yield scene.segment(to_listener(ACK, seq, 1, 1000 if seq == 1501 else 536))


def an_older_stamp_is_taken_and_not_kept(scene: Scene) -> Iterator[str]:
    stamps = tuple((NOP, NOP, (STAMP, (stamp, 0))) for stamp in (1000, 1002, 1001))
    yield from accepted(scene, (MSS_1000, (STAMP, (1000, 0))))
    yield scene.segment(to_listener(ACK, 1, 1, options=stamps[1], window=1000))
    yield scene.segment(to_listener(ACK, 1, 1, 10, options=stamps[2], window=1000))
    yield scene.segment(to_listener(ACK, 11, 1, 10, options=stamps[2], window=2000))


def data_lets_go_what_was_to_be_more(scene: Scene) -> Iterator[str]:
    yield from accepted(scene)
    yield scene.segment(to_listener(ACK, 1, 1, 536))
    yield scene.call("sendto", 1, content(0, 100), socket.MSG_MORE, None)
    yield scene.segment(to_listener(ACK, 537, 1, 1400))
    yield scene.segment(to_listener(ACK, 1937, 101, 1400))


LITTLE = {"tcp_rmem": (4096, 16_384, 6_291_456), "tcp_invalid_ratelimit": 0}
ROWS: list[tuple[Script, dict[str, Any]]] = [
    (a_listener_has_little_to_tell, {}),
    (a_syn_was_sent, {}),
    (the_third_segment_and_data_count_as_received, {}),
    (both_open_at_once, {}),
    (both_open_at_once, {"tcp_ecn": 1}),
    (a_segment_of_no_connection_hurries_the_syn, {}),
    (the_syn_ack_is_sent_again, {}),
    (what_disconnect_forgets, {"tcp_ecn": 1}),
    (a_header_longer_than_the_segment_is_no_error, {}),
    (a_duplicate_longer_than_any_window, {}),
    (an_old_ack_with_an_old_stamp, {}),
    (small_writes_and_the_end_are_sent_again_in_one, {}),
    (the_end_waits_for_the_congestion_window, {}),
    (cookies_tell_the_mss, {"tcp_syncookies": 2}),
    (a_stamp_that_we_do_not_offer_is_no_cookies, {"tcp_syncookies": 2, "tcp_timestamps": 0}),
    (a_fast_open_cookie_is_asked_for, {"tcp_fastopen": 0}),
    (a_fast_open_child, {"tcp_fastopen": 0x603}),
    (a_stamp_of_a_segment_without_ack, {}),
    (data_right_behind_the_window, {}),
    (segments_that_are_shorter_by_their_options, {}),
    (a_reset_with_data_while_connecting, {}),
    (urgent_data_and_a_linger_of_0, {}),
    (what_waits_is_joined, {}),
    (what_waits_is_joined_as_the_window_opens, {}),
    (the_end_of_a_record_is_not_joined, {}),
    (the_end_of_a_record_that_is_cut_is_not_joined, {}),
    (joined_segments_have_another_size, {}),
    (the_window_follows_what_segments_cost, {}),
    (the_window_follows_what_segments_cost, LITTLE),
    (acks_that_are_not_owed_are_no_quick_ones, LITTLE),
    (an_older_stamp_is_taken_and_not_kept, {}),
    (data_lets_go_what_was_to_be_more, {}),
]


@pytest.mark.parametrize("v6", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("script", "sysctl"), ROWS, ids=lambda value: getattr(value, "__name__", "")
)
def test_rows_come_to_the_same(script: Script, sysctl: dict[str, Any], v6: bool) -> None:
    assert confirmed(0, script, v6=v6, sysctl=sysctl) == ""
