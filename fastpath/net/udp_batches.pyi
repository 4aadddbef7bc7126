"""The rows of one sendmmsg(2) or recvmmsg(2), and what UDP does with many of them in one step."""

from collections.abc import Callable, Iterable
from typing import Any, final

from typing_extensions import Buffer

from fastpath.base.skbuff import SkbPool, sk_buff, sk_buff_head
from fastpath.net.inet import UdpFlow
from fastpath.net.sockaddr import sockaddr

@final
class mmsg_send:
    """The arguments of one sendmmsg(2): rows (data, address or None)."""

    def __init__(
        self,
        rows: Iterable[tuple[Buffer, Any]],
        resolve: Callable[[Any, Any], sockaddr],
        owner: Any = None,
        last: Any = None,
        name: sockaddr | None = None,
    ) -> None:
        """`resolve(owner, address)` makes a sockaddr; for the very object `last` it is `name`."""

    def __len__(self) -> int: ...
    went: int
    """Rows of a step that went before an error ended it; whoever takes the step keeps it."""

    def row(self, i: int) -> tuple[Buffer, sockaddr | None]:
        """Row `i` with its address resolved. Raises what `resolve` raises."""

    def alike(self, i: int) -> bool:
        """Whether row i + 1 has the address of row `i` and is not longer: the two may fold."""

    def fold(
        self, flow: UdpFlow, start: int, room: int, most: int, pages: SkbPool
    ) -> sk_buff | None:
        """Make one super-packet of row `start` and the rows after it of the same address and size.

        The last row may be shorter. `room` is the free send buffer in bytes: a row fits while it is
        positive, and takes the truesize of an sk_buff of its own. At most `most` rows, and 65535
        bytes. None when not even two rows fit, or there is no packet buffer. gso_segs of the
        sk_buff is its number of rows; it is as `UdpFlow.datagram` makes them, with payload in
        `pages`.
        """

@final
class mmsg_recv:
    """The buffers of one recvmmsg(2) and its result `got`: rows (bytes or their number, address).

    Buffers are a list of writable ones, or `flat`, one with a row of `size` bytes for each of
    `count` datagrams. With neither, each datagram becomes a bytes object of at most `size`.
    """

    count: int
    @property
    def got(self) -> list[tuple[Any, Any]]:
        """The rows received so far."""
    released: int
    def __init__(
        self,
        show: Callable[[Any, sockaddr | None], Any],
        owner: Any = None,
        buffers: Iterable[Buffer] | None = None,
        flat: Buffer | None = None,
        count: int = 0,
        size: int = 0,
        seen: sockaddr | None = None,
        shown: Any = None,
    ) -> None:
        """`show(owner, name)` makes an address of a sockaddr (or None); for a sender equal to the
        sockaddr `seen` it is `shown`.

        Raises ValueError when the rows do not fit `flat`; TypeError when that cannot be written to.
        """

    def __len__(self) -> int: ...
    def room(self) -> Any:
        """The buffer for the next datagram."""

    def put(self, n: int, name: sockaddr | None, room: Any) -> None:
        """Add the next datagram: `n` bytes in `room`, from the sockaddr `name`."""

    def take(self, queue: sk_buff_head, family: int, most: int) -> int:
        """Take up to `most` datagrams off `queue` into the buffers left; return how many.

        `released` is the truesize that the caller returns to the queue's owner for datagrams taken
        off an sk_buff that stays in the queue. The others return theirs as they are freed here.
        Stops before a datagram whose buffer is not writable, and before one with another holder.
        `family` is the socket's.
        """

def udp_charge_split(skb: sk_buff) -> int:
    """Give a merged sk_buff the truesize that its datagrams would have in one sk_buff each.

    data at the UDP header.
    """

def udp_carve(queue: sk_buff_head) -> bool:
    """Split the first datagram off into an sk_buff, when `queue` begins with a merged one.

    The owner stays charged with the same. False without memory for it (nothing changed).
    """

def udp_carve_all(queue: sk_buff_head) -> bool:
    """`udp_carve` for every datagram in `queue`. False without memory for it."""
