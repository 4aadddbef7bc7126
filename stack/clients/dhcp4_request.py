"""The configuration of a DHCPv4 client, and its messages (RFC 2131 table 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stack.clients.dhcp4_wire import BOOTREQUEST, BROADCAST_FLAG, Dhcp4Message, MessageType, Option
from stack.clients.dnsname import name_from_text

MAX_MESSAGE_BYTES = 1472
PARAMETERS = (
    Option.CLASSLESS_ROUTES,  # before ROUTER, RFC 3442
    Option.SUBNET_MASK,
    Option.ROUTER,
    Option.DNS_SERVERS,
    Option.HOST_NAME,
    Option.DOMAIN_NAME,
    Option.INTERFACE_MTU,
    Option.BROADCAST_ADDRESS,
    Option.STATIC_ROUTE,
    Option.NTP_SERVERS,
    Option.RENEWAL_TIME,
    Option.REBINDING_TIME,
    Option.DOMAIN_SEARCH,
)
ASKS = frozenset({MessageType.DISCOVER, MessageType.REQUEST, MessageType.INFORM})


@dataclass(frozen=True, slots=True)
class Dhcp4Config:
    """The configuration of a client."""

    client_id: bytes | None = None
    """Option 61; hardware type and address when None (RFC 2132 9.14)."""
    hostname: str = ""
    """Option 12; "" sends none."""
    broadcast: bool = False
    """Ask the server to broadcast its answers, for a runner that receives no unicast before the
    interface has an address (RFC 2131 4.1)."""
    probes: int = 3
    """ARP probes before an address is used; 0 uses it at once (RFC 5227 has 3)."""
    parameters: tuple[int, ...] = PARAMETERS
    """Codes of option 55, in order of preference."""
    decline_pause_s: int = 10
    """Pause before the next DISCOVER when an address was in use (RFC 2131 3.1: 10)."""

    def __post_init__(self) -> None:
        name_from_text(self.hostname)  # raises MessageError, a ValueError


def request(
    type_: MessageType,
    config: Dhcp4Config,
    xid: int,
    mac: bytes,
    secs: int,
    options: Mapping[Option, bytes],
    *,
    ciaddr: int = 0,
) -> Dhcp4Message:
    """A client's message with the options of RFC 2131 table 5 that it must or may have.

    Messages without an answer (DECLINE, RELEASE) have secs 0 and no list of parameters.
    """
    client_id = config.client_id
    every: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((type_,)),
        Option.CLIENT_ID: b"\x01" + mac if client_id is None else client_id,
    }
    every.update(options.items())
    flags = 0
    if type_ in ASKS:
        every[Option.MAX_MESSAGE_SIZE] = MAX_MESSAGE_BYTES.to_bytes(2, "big")
        if config.hostname:
            every[Option.HOST_NAME] = b".".join(name_from_text(config.hostname))
        every[Option.PARAMETER_LIST] = bytes(config.parameters)
        if config.broadcast and not ciaddr:
            flags = BROADCAST_FLAG
    else:
        secs = 0
    return Dhcp4Message(
        BOOTREQUEST,
        xid,
        mac,
        secs=min(secs, 0xFFFF),
        flags=flags,
        ciaddr=ciaddr,
        options=every,
    )
