from collections.abc import Callable, Iterable
from typing import Any, final

from typing_extensions import Buffer

from fastpath.base.skbuff import SkbPool, sk_buff, sk_buff_head
from fastpath.net.inet import UdpFlow
from fastpath.net.sockaddr import sockaddr

@final
class mmsg_send:
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

    def row(self, i: int) -> tuple[Buffer, sockaddr | None]: ...
    def alike(self, i: int) -> bool: ...
    def fold(
        self, flow: UdpFlow, start: int, room: int, most: int, pages: SkbPool
    ) -> sk_buff | None: ...

@final
class mmsg_recv:
    count: int
    @property
    def got(self) -> list[tuple[Any, Any]]: ...
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
    def room(self) -> Any: ...
    def put(self, n: int, name: sockaddr | None, room: Any) -> None: ...
    def take(self, queue: sk_buff_head, family: int, most: int) -> int: ...

def udp_charge_split(skb: sk_buff) -> int: ...
def udp_carve(queue: sk_buff_head) -> bool: ...
def udp_carve_all(queue: sk_buff_head) -> bool: ...
