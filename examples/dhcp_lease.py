"""A host gets its address by DHCP and renews it, in virtual time, from a server of forty lines."""

from collections.abc import Mapping
from ipaddress import IPv4Address

from e1000emu.lab import two_hosts
from stack.clients.dhcp4_request import Dhcp4Config
from stack.clients.dhcp4_wire import BOOTREPLY, Dhcp4Message, MessageType, Option
from stack.core.uapi import SO_BINDTODEVICE
from stack.host import Host
from stack.services.run_dhcp4 import Dhcp4Runner
from stack.socket import AF_INET, SO_BROADCAST, SOCK_DGRAM, SOL_SOCKET

MINUTE_NS = 60_000_000_000
SERVER, OFFERED = 0x0A000001, 0x0A000032  # 10.0.0.1, 10.0.0.50
LEASE: Mapping[int, bytes] = {
    Option.SERVER_ID: SERVER.to_bytes(4, "big"),
    Option.LEASE_TIME: (600).to_bytes(4, "big"),
    Option.SUBNET_MASK: bytes((255, 255, 255, 0)),
    Option.DNS_SERVERS: SERVER.to_bytes(4, "big"),
    Option.DOMAIN_NAME: b"example.org",
}
ANSWERS: Mapping[int, MessageType] = {
    MessageType.DISCOVER: MessageType.OFFER,
    MessageType.REQUEST: MessageType.ACK,
}
heard: list[str] = []


def serve(host: Host) -> None:
    """Offer one address to everybody; a real server would keep a list."""
    with host.socket(AF_INET, SOCK_DGRAM) as sock:
        sock.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
        sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
        sock.bind(("", 67))
        while True:
            data, (source, _) = sock.recvfrom(2048)
            query = Dhcp4Message.parse(data)
            heard.append(MessageType(query.type).name)
            if query.type not in ANSWERS:
                continue
            options: dict[int, bytes] = {
                Option.MESSAGE_TYPE: bytes((ANSWERS[query.type],)),
                **LEASE,
            }
            answer = Dhcp4Message(
                BOOTREPLY, query.xid, query.chaddr, yiaddr=OFFERED, options=options
            )
            to = "255.255.255.255" if source == "0.0.0.0" else source
            sock.sendto(answer.emit(), (to, 68))


a, b = two_hosts(addrs=("10.0.0.99/24", "10.0.0.1/24"))
a.addr_del("eth0", "10.0.0.99/24")
a.clock.spawn(serve, b)

client = Dhcp4Runner(a, a.dev("eth0"), config=Dhcp4Config(hostname="a"))
client.start()
client.wait()
lease = client.lease
assert lease is not None
print(f"lease: {IPv4Address(lease.address)}/{lease.prefixlen} after {a.clock.now_ns() / 1e9:.1f} s")
print("search:", [name.decode() for name in a.names.current.search[0]])

a.clock.run_until(a.clock.now_ns() + 11 * MINUTE_NS)
client.stop()
a.clock.run_until(a.clock.now_ns() + MINUTE_NS)
print("heard:", " ".join(heard))
a.close()
b.close()
a.clock.close()
