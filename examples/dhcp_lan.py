"""Many DHCP clients and one server, in virtual time: `dhcp_lan.py [CLIENTS] [flat]`.

    python examples/dhcp_lan.py           # 100 clients
    python examples/dhcp_lan.py 5000      # minutes
    python examples/dhcp_lan.py 400 flat  # each broadcast reaches every client

The clients' ports of the switch are isolated, as in an access network: their broadcasts go to the
server alone, whose answers are unicast. On a flat network the work grows with the square of the
number of clients. The clients start in groups, as after a power cut.
"""

import resource
import sys
import time
from ipaddress import IPv4Address

from e1000emu.lab import close_hosts, lan
from stack.clients.dhcp4_request import Dhcp4Config
from stack.core.dev import dev_get_stats
from stack.services.run_dhcp4 import Dhcp4Runner

SECOND_NS = 1_000_000_000
GROUP = 64
"""Clients that start at one instant: fewer than a NIC's ring has descriptors."""

clients = int(sys.argv[1]) if len(sys.argv) > 1 else 100
flat = "flat" in sys.argv[2:]
started, cpu = time.perf_counter(), time.process_time()
server, *hosts = lan(clients + 1, network="10.0.0.0/16", isolated=not flat)
clock = server.clock
for number, host in enumerate(hosts, 2):  # the clients have no address yet
    host.addr_del("eth0", f"{IPv4Address('10.0.0.0') + number}/16")
print(f"{clients + 1} hosts: {time.process_time() - cpu:.1f} s of processor time")

service = server.dhcpd(
    "eth0", f"10.0.0.10-{IPv4Address('10.0.0.10') + clients - 1}", lease_s=86400, ping_ns=0
)
runners = [Dhcp4Runner(h, h.dev("eth0"), config=Dhcp4Config(probes=1)) for h in hosts]
began_ns, cpu = clock.now_ns(), time.process_time()
for number, runner in enumerate(runners):
    clock.call_at(began_ns + number // GROUP * SECOND_NS // 10, runner.start)
for runner in runners:
    if not runner.wait(600 * SECOND_NS):
        sys.exit(f"{runner.net.name} has no lease")

cpu = time.process_time() - cpu
leases = {runner.lease.address for runner in runners if runner.lease is not None}
heard = sum(dev_get_stats(host.dev("eth0")).rx_packets for host in hosts)
assert leases == set(service.core.leases(clock.now_ns()))
print(f"leases: {len(leases)} of {clients} clients differ")
print(f"virtual time: {(clock.now_ns() - began_ns) / SECOND_NS:.1f} s")
print(f"processor time: {cpu:.1f} s; wall: {time.perf_counter() - started:.1f} s with the hosts")
print(f"packets received: {heard}, {heard / cpu:,.0f} a second")
print(f"server: {dict(service.core.messages)}")
print(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most")
close_hosts((server, *hosts))
clock.close()
