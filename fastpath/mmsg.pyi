"""The rows of one sendmmsg(2) or recvmmsg(2), and what UDP does with many of them in one step."""

from collections.abc import Callable, Iterable
from typing import Any, final

from typing_extensions import Buffer

from fastpath.inet import UdpFlow
from fastpath.skbuff import SkbPool, sk_buff, sk_buff_head
from fastpath.sockaddr import sockaddr

@final
class mmsg_send:
    """What sendmmsg(2) is given: rows (data, address or None)."""

    def __init__(
        self,
        rows: Iterable[tuple[Buffer, Any]],
        resolve: Callable[[Any, Any], sockaddr],
        owner: Any = None,
        last: Any = None,
        name: sockaddr | None = None,
    ) -> None:
        """`resolve(owner, address)` makes a sockaddr; that of the very object `last` is `name`."""

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
        """One super-packet of row `start` and the rows behind it that go the same way; or None.

        They have the address of the first and its size; the last may be shorter. `room` is what is
        left of the send buffer: a row goes while that is positive, and takes what its own sk_buff
        would (truesize). At most `most` rows, and 65535 bytes. None when not even two rows fit, or
        there is no packet buffer. gso_segs of the sk_buff says how many rows it holds. It is as
        `UdpFlow.datagram` makes them, with payload in `pages`.
        """

@final
class mmsg_recv:
    """The room of one recvmmsg(2) and, in `got`, what came: (bytes or their number, address).

    Room is a list of writable buffers; or `flat`, a writable buffer with a row of `size` bytes for
    each of `count` datagrams; or neither, then the datagrams become bytes, of at most `size` each.
    """

    count: int
    @property
    def got(self) -> list[tuple[Any, Any]]:
        """What came."""
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
        """`show(owner, name)` makes an address of a sockaddr (or None); when the sender is that of
        the sockaddr `seen`, that is `shown`.

        Raises ValueError when the rows do not fit `flat`; TypeError when that cannot be written to.
        """

    def __len__(self) -> int: ...
    def room(self) -> Any:
        """The buffer for the next datagram."""

    def put(self, n: int, name: sockaddr | None, room: Any) -> None:
        """The next datagram came: `n` bytes in `room`, from the sockaddr `name`."""

    def take(self, queue: sk_buff_head, family: int, most: int) -> int:
        """Take up to `most` datagrams off `queue` into the room that is left; how many.

        `released` is what the owner of the queue is to be given back for datagrams taken off an
        sk_buff that stays in it; the others give it back when they are freed, as they are here.
        Stops before a datagram whose buffer cannot be written to, and before one that somebody else
        holds too. `family` is that of the socket.
        """

def udp_charge_split(skb: sk_buff) -> int:
    """Let a merged sk_buff count for what its datagrams would in one sk_buff each: its truesize.

    data at the UDP header.
    """

def udp_carve(queue: sk_buff_head) -> bool:
    """Make an sk_buff of its own of the first datagram, when `queue` begins with a merged one.

    The owner stays charged with the same. False without memory for it (nothing changed).
    """

def udp_carve_all(queue: sk_buff_head) -> bool:
    """`udp_carve` for every datagram in `queue`. False without memory for it."""
