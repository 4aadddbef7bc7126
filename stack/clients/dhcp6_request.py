"""The messages of a DHCPv6 client in each of its states (RFC 8415 18.2)."""

from __future__ import annotations

from stack.clients.dhcp6_state import State
from stack.clients.dhcp6_wire import Dhcp6Message, IaAddr, IaNa, MessageType, Option
from stack.core.time64 import NSEC_PER_SEC

MESSAGES: dict[State, MessageType] = {
    State.SOLICIT: MessageType.SOLICIT,
    State.REQUEST: MessageType.REQUEST,
    State.RENEW: MessageType.RENEW,
    State.REBIND: MessageType.REBIND,
    State.CONFIRM: MessageType.CONFIRM,
    State.DECLINE: MessageType.DECLINE,
    State.RELEASE: MessageType.RELEASE,
    State.INFORM: MessageType.INFORMATION_REQUEST,
}
TO_ONE_SERVER = frozenset({State.REQUEST, State.RENEW, State.DECLINE, State.RELEASE})
"""States whose messages have a Server Identifier."""
ASK = frozenset({State.SOLICIT, State.REQUEST, State.RENEW, State.REBIND, State.INFORM})


def request6(
    state: State,
    xid: int,
    duid: bytes,
    iaid: int,
    elapsed_ns: int,
    *,
    server: bytes = b"",
    addresses: tuple[int, ...] = (),
    rapid_commit: bool = False,
) -> Dhcp6Message:
    """The message of a state with the options that it must and may have.

    `addresses` go into the IA_NA with lifetimes of 0, which leave the choice to the server (21.6).
    `elapsed_ns` is the time since the first message of the exchange.
    """
    options: list[tuple[int, bytes]] = [(Option.CLIENTID, duid)]
    if state in TO_ONE_SERVER:
        options.append((Option.SERVERID, server))
    hundredths = min(elapsed_ns // (NSEC_PER_SEC // 100), 0xFFFF)
    options.append((Option.ELAPSED_TIME, hundredths.to_bytes(2, "big")))
    if state is not State.INFORM:
        asked = () if state is State.SOLICIT else addresses
        inner = tuple((int(Option.IAADDR), IaAddr(address).emit()) for address in asked)
        options.append((Option.IA_NA, IaNa(iaid, options=inner).emit()))
    if state in ASK:
        wanted = [Option.DNS_SERVERS, Option.DOMAIN_LIST]
        if state is State.INFORM:
            wanted += [Option.INFORMATION_REFRESH_TIME, Option.INF_MAX_RT]
        else:
            wanted.append(Option.SOL_MAX_RT)
        options.append((Option.ORO, b"".join(code.to_bytes(2, "big") for code in wanted)))
    if state is State.SOLICIT and rapid_commit:
        options.append((Option.RAPID_COMMIT, b""))
    return Dhcp6Message(MESSAGES[state], xid, tuple(options))
