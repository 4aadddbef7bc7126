"""When a cause that waits may interrupt, in plain Python: the twin of ``fastpath.moderation``."""

from __future__ import annotations

FRAMES, SENT = 0x180D3, 0x8003
LONG_AGO = -(1 << 62)


class Moderation:
    """ITR and nothing else."""

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
        """How many frames the guest is to get now."""
        return burst

    def due(self) -> int:
        """When the result of `room` changes."""
        return 0

    def tick(self, now: int) -> None:
        """What was due is over."""

    def forget(self) -> None:
        """The device was reset."""


class AdaptiveModeration(Moderation):
    """Few frames at each interrupt: each at once. Many: let the next bring more."""

    name = "adaptive"
    floor_max_ns = 2_000_000

    def __init__(self) -> None:
        self.floor_ns = self.work = 0
        self.tx_done = self.tx_enough = self.rx_done = self.rx_enough = 0
        self.tx_last = self.rx_last = self.tx_seen = 0
        self.handler_from = self.hold_until = self.room_due = self.rx_since = 0
        self.masked = False
        self.patience, self.probe, self.tx_late = 0, 16, 0

    def _one_way(self, now: int) -> bool:
        return now - self.tx_seen >= 20_000_000

    def hold_back(self, causes: int, last_ns: int, now: int) -> int:
        """When `causes` may interrupt, ITR aside."""
        if not causes & ~SENT:
            if not self.floor_ns or self.tx_done >= self.tx_enough:
                return LONG_AGO
            wait = last_ns + min(4 * self.floor_ns, 2_000_000)
            return wait if self.patience > 0 else min(wait, self.tx_last + 150_000)
        if causes & ~FRAMES:
            return LONG_AGO
        wait = last_ns + self.floor_ns if self.rx_done < self.rx_enough else LONG_AGO
        if self._one_way(now):
            return max(wait, self.hold_until)
        return wait if self.patience > 0 else min(wait, self.rx_last + 250_000)

    def _learn(self, last_ns: int, now: int) -> None:
        """Whether a silence is one side's wait for the other, or only a gap."""
        still = now - max(self.rx_last, self.tx_last)
        if self.floor_ns < 500_000 or now - last_ns >= 4_000_000:
            return
        if self.patience <= 0:
            self.patience += still >= 150_000
        elif 2 * still < self.floor_ns:
            self.patience, self.probe = min(self.patience + 1, 16), 16
        else:
            self.patience -= 8
            if self.patience <= 0:
                self.patience = 1 - self.probe
                self.probe = min(2 * self.probe, 128)

    def asserted(self, last_ns: int, now: int) -> None:
        """The line rises."""
        self._learn(last_ns, now)
        since, want = now - last_ns, 12_800_000
        if self.work > 3 and 0 < since < 1 << 40:
            want = (64 if self._one_way(now) else 128) * since // self.work
        if want >= 12_800_000:
            self.floor_ns >>= 2
        else:
            self.floor_ns = min((self.floor_ns + want) // 2, self.floor_max_ns)
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
        if busy < 10_000_000:
            self.hold_until = now + 3 * busy // 16
        waited = self.room_due != 0
        self.handler_from = self.rx_since = self.room_due = 0
        return waited

    def room(self, burst: int, now: int) -> int:
        """How many frames the guest is to get now."""
        if not self._one_way(now):
            return burst
        until = self.hold_until
        if self.handler_from:
            until = self.handler_from + 10_000_000 if self.masked else 0
        if now >= until:
            return burst
        left = max(burst - self.rx_since, 0)
        if not left:
            self.room_due = until
        return left

    def due(self) -> int:
        """When the result of `room` changes."""
        return self.room_due

    def tick(self, now: int) -> None:
        """What was due is over."""
        if now >= self.room_due:
            self.room_due = 0

    def forget(self) -> None:
        """The device was reset."""
        AdaptiveModeration.__init__(self)
        self.masked = True


POLICIES: dict[str, type[Moderation]] = {
    policy.name: policy for policy in (Moderation, AdaptiveModeration)
}
