"""A broadcast storm between two switches joined twice, without storm control and with it.

    python examples/storm.py

One ARP request goes round the loop in both directions, and each round reaches every host.
"""

import time

from e1000emu.clock import VirtualClock
from e1000emu.lab import add_nic, close_hosts, mac_address
from e1000emu.links import Patch, Switch
from stack.core.dev import dev_get_stats
from stack.host import Host

HOSTS = 4
MS_NS = 1_000_000


def storm(storm_pps: int) -> None:
    """Let one host ask for an address that nobody has, and see what the others hear."""
    clock = VirtualClock()
    switches = [Switch(clock, storm_pps=storm_pps) for _ in range(2)]
    hosts = []
    for number in range(1, HOSTS + 1):
        sysctl = {"net.ipv6.conf.all.disable_ipv6": 1}
        host = Host(name=f"h{number}", clock=clock, seed=number, sysctl=sysctl)
        port = switches[number % 2].port()
        add_nic(host, port, mac=mac_address(number), addr=f"10.0.0.{number}/24")
        hosts.append(host)
    patches = [Patch(switches[0].port(), switches[1].port()) for _ in range(2)]
    began_ns, cpu = clock.now_ns(), time.process_time()
    with hosts[0].socket(2, 2) as sock:
        sock.sendto(b"?", ("10.0.0.99", 9))
        clock.run_for(100 * MS_NS)
    cpu = time.process_time() - cpu
    heard = sum(dev_get_stats(host.dev("eth0")).rx_packets for host in hosts)
    ports = [port for switch in switches for port in switch.ports]
    cut = sum(port.stats.drops.get("storm control", 0) for port in ports)
    print(f"storm_pps={storm_pps}: hosts heard {heard} frames, storm control cut {cut}")
    print(f"  {(clock.now_ns() - began_ns) / MS_NS:.0f} ms of virtual time, {cpu:.1f} s of ours")
    for patch in patches:
        patch.close()
    close_hosts(hosts)
    clock.close()


storm(0)
storm(1000)
