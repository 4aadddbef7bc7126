"""Linux's CUBIC and ours on one wire with 200 ms: both follow the curve of RFC 9438."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from typing import Any

import numpy as np
import pytest

from e1000emu.insight.arrays import TCP_INFO
from e1000emu.links.base import Middleware
from tests.linux.peer import DATA_PORT, OURS, Wire

pytestmark = [pytest.mark.netns, pytest.mark.usefixtures("need_linux")]

C, BETA = 0.4, 717 / 1024
OPEN, RECOVERY = 0, 3
PAUSE_S = 0.2
AT = 90  # segments in the window, at which a packet is lost: K is 4.1 s


class LoseOne(Middleware):
    """Breaks the checksum of one full segment of a direction, when told to."""

    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self.armed = {"out": False, "in": False}

    def _pass(self, batch: Any, start: int, way: str) -> None:
        if not self.armed[way]:
            return
        for i in range(start, len(batch)):
            with batch.view(i) as view:
                if len(view) > 1400:
                    view[len(view) - 1] ^= 1
                    self.armed[way] = False
                    return

    def transmit(self, batch: Any) -> None:
        self._pass(batch, 0, "out")
        super().transmit(batch)

    def receive(self, batch: Any, start: int, hold: bool) -> int:
        self._pass(batch, start, "in")
        return super().receive(batch, start, hold)


class Flow:
    """One sender: pushes as much as goes, and keeps (time, ca_state, cwnd, ssthresh)."""

    def __init__(self, tx: Any, rx: Any, router: LoseOne, way: str) -> None:
        self.tx, self.rx, self.router, self.way = tx, rx, router, way
        self.samples: list[tuple[float, int, int, int]] = []
        self.lost = False
        for end in (tx, rx):
            end.setblocking(False)

    def turn(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.tx.send(bytes(65536)):
                pass
        with contextlib.suppress(BlockingIOError):
            while self.rx.recv(1 << 18):
                pass

    def sample(self, now: float) -> None:
        raw = self.tx.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.itemsize)
        info = np.frombuffer(raw.ljust(TCP_INFO.itemsize, b"\0"), TCP_INFO)[0]
        state, window = int(info["ca_state"]), int(info["snd_cwnd"])
        if not self.lost and window >= AT:
            self.lost = self.router.armed[self.way] = True
        self.samples.append((now, state, window, int(info["snd_ssthresh"])))

    def stood_still(self) -> bool:
        """Whether the machine paused for about as long as a retransmission timer: then both ends
        time out where no packet was lost."""
        times = [now for now, _, _, _ in self.samples]
        return max(after - before for before, after in itertools.pairwise(times)) > PAUSE_S

    def grows(self) -> bool:
        """Whether one packet was lost, once, and the window then follows RFC 9438 4.2."""
        states = [state for _, state, _, _ in self.samples]
        if RECOVERY not in states:
            return False
        ended = states.index(OPEN, states.index(RECOVERY))
        start, _, _, ssthresh = self.samples[ended]
        points = [(t - start, window) for t, _, window, _ in self.samples[ended:]]
        return RECOVERY not in states[ended:] and any(
            follows(ssthresh, points, wait / 20) for wait in range(-10, 30)
        )


def test_linux_and_we_grow_alike_after_a_loss() -> None:
    for _ in range(5):
        flows = measured()
        wrong = [flow for flow in flows if not flow.grows()]
        if not wrong or not any(flow.stood_still() for flow in flows):
            break
    assert not wrong, [(flow.way, flow.samples) for flow in wrong]


def measured() -> list[Flow]:
    """Send both ways at once for 7.5 s after each has lost a packet."""
    with Wire(impair={"delay_ns": 100_000_000, "queue_frames": 10_000}, around=LoseOne) as wire:
        router = wire.nic.link
        flows = []
        for way in ("out", "in"):
            listener = wire.listen(DATA_PORT + len(flows))
            theirs = wire.peer.socket()
            theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
            theirs.connect((OURS, DATA_PORT + len(flows)))
            ours, _ = listener.accept()
            listener.close()
            pair = (ours, theirs) if way == "out" else (theirs, ours)
            flows.append(Flow(*pair, router, way))
        start = time.monotonic()
        done = 0.0
        while time.monotonic() - start < 60:
            now = time.monotonic() - start
            for flow in flows:
                flow.turn()
                flow.sample(now)
            if not done and all(f.lost and f.samples[-1][1] == OPEN for f in flows):
                done = now + 7.5
            if done and now > done:
                break
            time.sleep(0.03)
        assert done, [(flow.way, flow.lost, flow.samples[-20:]) for flow in flows]
        for flow in flows:
            flow.tx.close()
            flow.rx.close()
    return flows


def follows(ssthresh: int, points: list[tuple[float, int]], wait: float) -> bool:
    """Whether the windows are those of RFC 9438 4.2, when its time began `wait` seconds late.

    On a busy machine samples come late, and the application leaves the window unused for a while.
    """
    w_max = ssthresh / BETA
    k = ((w_max - ssthresh) / C) ** (1 / 3)
    late = [(t - wait, window) for t, window in points if 0.6 <= t - wait <= 6]
    assert len(late) > 20
    return all(abs(n - (C * (t - k) ** 3 + w_max)) <= 0.04 * w_max + 2 for t, n in late)
