"""When a pending cause may interrupt: the plain-Python twin of ``fastpath.nic.moderation``."""

from __future__ import annotations

from types import SimpleNamespace

FRAMES, SENT = 0x180D3, 0x8003
LONG_AGO = -(1 << 62)


class Moderation:
    """ITR only."""

    name = "datasheet"

    def hold_back(self, causes: int, last_ns: int, now: int) -> int:
        """When `causes` may interrupt, ITR aside."""
        return LONG_AGO

    def asserted(self, last_ns: int, now: int) -> None:
        """The line rises."""

    def received(self, frames: int, descs: int, ring: int, now: int) -> None:
        """Frames were stored."""

    def sent(self, frames: int, descs: int, ring: int, now: int) -> None:
        """Frames were sent."""

    def handler(self, now: int) -> None:
        """A handler begins."""

    def masks(self, unmasked: bool, any_left: bool, now: int) -> bool:
        """IMS or IMC was written."""
        return False

    def room(self, burst: int, now: int) -> int:
        """Number of frames to deliver to the guest now."""
        return burst

    def due(self) -> int:
        """Time of the next change of `room`."""
        return 0

    def tick(self, now: int) -> None:
        """Clear an expired delay."""

    def forget(self) -> None:
        """The device was reset."""


class AdaptiveModeration(Moderation):
    """With few frames per interrupt, no delay. With many, delay to collect more."""

    name = "adaptive"

    def __init__(self, **parameters: int) -> None:
        """Take all parameters of `fastpath.nic.moderation.PARAMETERS`."""
        self.p = SimpleNamespace(**parameters)
        self._begin()

    def _begin(self) -> None:
        self.floor_ns = self.work = 0
        self.tx_done = self.tx_enough = self.rx_done = self.rx_enough = 0
        self.tx_last = self.rx_last = self.tx_seen = 0
        self.handler_from = self.hold_until = self.room_due = self.rx_since = 0
        self.masked = False
        self.patience, self.probe, self.tx_late = 0, self.p.probe_first, 0

    def _one_way(self, now: int) -> bool:
        return now - self.tx_seen >= self.p.answer_ns

    def hold_back(self, causes: int, last_ns: int, now: int) -> int:
        """When `causes` may interrupt, ITR aside."""
        if not causes & ~SENT:
            if not self.floor_ns or self.tx_done >= self.tx_enough:
                return LONG_AGO
            wait = last_ns + min(4 * self.floor_ns, self.p.tx_wait_ns)
            return wait if self.patience > 0 else min(wait, self.tx_last + self.p.tx_silence_ns)
        if causes & ~FRAMES:
            return LONG_AGO
        wait = last_ns + self.floor_ns if self.rx_done < self.rx_enough else LONG_AGO
        if self._one_way(now):
            return max(wait, self.hold_until)
        return wait if self.patience > 0 else min(wait, self.rx_last + self.p.rx_silence_ns)

    def _learn(self, last_ns: int, now: int) -> None:
        """Whether a pause is one side waiting for the other, or only a gap."""
        still = now - max(self.rx_last, self.tx_last)
        p = self.p
        if self.floor_ns < 2 * p.rx_silence_ns or now - last_ns >= 2 * p.floor_max_ns:
            return
        if self.patience <= 0:
            self.patience += still >= p.tx_silence_ns
        elif 2 * still < self.floor_ns:
            self.patience, self.probe = min(self.patience + 1, p.patience_max), p.probe_first
        else:
            self.patience -= p.patience_lost
            if self.patience <= 0:
                self.patience = 1 - self.probe
                self.probe = min(2 * self.probe, p.probe_most)

    def asserted(self, last_ns: int, now: int) -> None:
        """The line rises."""
        self._learn(last_ns, now)
        p, since = self.p, now - last_ns
        want = p.thin_ns
        if self.work > p.few_frames and 0 < since < 1 << 40:
            want = (p.frames_one_way if self._one_way(now) else p.frames) * since // self.work
        if want >= p.thin_ns:
            self.floor_ns >>= 2
        else:
            self.floor_ns = min((self.floor_ns + want) // 2, p.floor_max_ns)
        self.work = self.tx_done = self.rx_done = 0

    def received(self, frames: int, descs: int, ring: int, now: int) -> None:
        """Frames were stored."""
        self.rx_enough, self.rx_last = ring // 2, now
        self.work += frames
        self.rx_since += frames
        self.rx_done += descs

    def sent(self, frames: int, descs: int, ring: int, now: int) -> None:
        """Frames were sent."""
        self.tx_enough = ring - min(max(self.tx_late + self.tx_late // 4, ring // 8), ring // 2)
        self.work += frames
        self.tx_done += descs
        self.tx_last = self.tx_seen = now

    def handler(self, now: int) -> None:
        """A handler begins."""
        self.handler_from, self.rx_since, self.tx_late = now, 0, self.tx_done

    def masks(self, unmasked: bool, any_left: bool, now: int) -> bool:
        """IMS or IMC was written."""
        self.masked = not any_left
        if not unmasked:
            return False
        self.tx_last = now
        if not self.handler_from:
            return False
        busy = now - self.handler_from
        if busy < self.p.handler_max_ns:
            self.hold_until = now + self.p.pause_sixteenths * busy // 16
        waited = self.room_due != 0
        self.handler_from = self.rx_since = self.room_due = 0
        return waited

    def room(self, burst: int, now: int) -> int:
        """Number of frames to deliver to the guest now."""
        if not self._one_way(now):
            return burst
        until = self.hold_until
        if self.handler_from:
            until = self.handler_from + self.p.handler_max_ns if self.masked else 0
        if now >= until:
            return burst
        left = max(burst - self.rx_since, 0)
        if not left:
            self.room_due = until
        return left

    def due(self) -> int:
        """Time of the next change of `room`."""
        return self.room_due

    def tick(self, now: int) -> None:
        """Clear an expired delay."""
        if now >= self.room_due:
            self.room_due = 0

    def forget(self) -> None:
        """The device was reset."""
        self._begin()
        self.masked = True


POLICIES: dict[str, type[Moderation]] = {
    policy.name: policy for policy in (Moderation, AdaptiveModeration)
}
