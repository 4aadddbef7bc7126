"""getaddrinfo and getnameinfo of a namespace for coroutines; `stack.aio` offers them."""

from __future__ import annotations

import asyncio
import errno

from fastpath.errors import check_type
from stack.api.netdb import AddressInfo, address_info, lookup, names_of, reverse_question, rows_of
from stack.api.sockaddr import Address, parse
from stack.clients.dnsname import Name
from stack.clients.resolver import Finished
from stack.core.clock import is_threaded
from stack.net import Net, check_net

__all__ = ["getaddrinfo", "getnameinfo", "resolved"]


def check_host(where: str, host: object) -> None:
    """Raise ArgumentTypeError unless `host` can be a name or an address."""
    if host is not None:
        check_type(where, "host", host, (str, bytes, bytearray), "a name or an address, as text")


async def _look_up(net: Net, name: str | Name, types: tuple[int, ...]) -> Finished:
    """Query the name servers of `net`."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Finished] = loop.create_future()

    def settle(result: Finished) -> None:
        if not future.done():
            future.set_result(result)

    # A RealClock runs the lookup in its own thread; other clocks use this thread.
    threaded = is_threaded(net.clock)
    tell = loop.call_soon_threadsafe if threaded else loop.call_soon
    with net.lock:
        runner = lookup(net, name, types, lambda result: tell(settle, result))
    try:
        return await future
    finally:
        with net.lock:
            runner.cancel()


async def getaddrinfo(
    net: Net,
    host: str | bytes | None,
    port: str | bytes | int | None,
    *,
    family: int = 0,
    type: int = 0,  # noqa: A002 -- as in the standard library
    proto: int = 0,
    flags: int = 0,
) -> list[AddressInfo]:
    """As `loop.getaddrinfo`: with the names of the namespace `net`.  Raises: socket.gaierror."""
    check_net("getaddrinfo", net)
    check_host("getaddrinfo", host)
    with net.lock:
        asked = address_info(net, host, port, family, type, proto, flags)
    if asked.lookup is None:
        return rows_of(asked.rows or [])
    result = await _look_up(net, *asked.lookup)
    with net.lock:
        return rows_of(asked.answer(result))


async def getnameinfo(net: Net, address: Address, flags: int = 0) -> tuple[str, str]:
    """As `loop.getnameinfo`: with the names of the namespace `net`.  Raises: socket.gaierror."""
    check_net("getnameinfo", net)
    question = reverse_question(net, address, flags)
    names = await _look_up(net, *question) if question is not None else None
    return names_of(net, address, flags, names)


async def resolved(net: Net, family: int, type: int, address: Address) -> Address:  # noqa: A002
    """`address` with its host name replaced by the first address.  Raises: socket.gaierror."""
    try:
        parse(net, family, address)
        return address
    except OSError as error:
        host = address[0]
        if error.errno != errno.EINVAL or not isinstance(host, str):
            raise
    rows = await getaddrinfo(net, host, None, family=family, type=type)
    found: Address = (str(rows[0][4][0]), *address[1:])
    return found
