"""TCP's retransmit queue: sequence order with a search, what is in flight by time, what is lost."""

from typing import final

from fastpath.base.skbuff import sk_buff, sk_buff_head

@final
class rtx_queue(sk_buff_head):
    """sk_buffs that were sent and are not acknowledged, in sequence order.

    Each is on one of two lists, or on none: *sent* in the order of the last transmission, *lost*
    in sequence order. ValueError for an sk_buff that is not on this queue.
    """

    def queue_tail(self, skb: sk_buff) -> None:
        """Takes ownership of skb, the newest in sequence, which was sent just now."""
    def queue_head(self, skb: sk_buff) -> None:
        """Takes ownership of skb; it is on neither list."""
    def insert_after(self, prev: sk_buff, skb: sk_buff) -> None:
        """Takes ownership of skb, a piece of prev: behind it also on the list that prev is on."""
    def find(self, seq: int) -> sk_buff | None:
        """The first member that ends after `seq`: which holds it, or comes next."""
    def coalesce(self, to: sk_buff, skb: sk_buff) -> bool:
        """Move skb's data behind that of `to` and free skb. False: it does not fit."""
    def sent(self, skb: sk_buff) -> None:
        """It was sent just now: the last of the sent list."""
    def lose(self, skb: sk_buff) -> None:
        """It waits for retransmission: to its place on the lost list."""
    def settle(self, skb: sk_buff) -> None:
        """It was delivered: on neither list."""
    def unlose(self) -> None:
        """Nothing was lost: all of the lost list goes back where it was on the sent list."""
    @property
    def sent_first(self) -> sk_buff | None:
        """Sent longest ago; None: nothing is in flight."""
    @property
    def sent_passed(self) -> sk_buff | None:
        """The cursor of the sent list: the newest that RACK has passed."""
    @property
    def sent_ahead(self) -> sk_buff | None:
        """The first behind the cursor of the sent list."""
    def sent_pass(self) -> None:
        """Move the cursor of the sent list on by one."""
    @property
    def lost_first(self) -> sk_buff | None:
        """The first in sequence that waits for retransmission."""
    def sent_list(self) -> list[sk_buff]:
        """The members of the sent list, for tests and for showing."""
    def lost_list(self) -> list[sk_buff]:
        """The members of the lost list."""
    def depth(self) -> int:
        """Levels of the search tree. Raises: AssertionError when it is broken."""
