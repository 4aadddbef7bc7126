"""Ten hosts behind two routers and a NAT, in virtual time: who sees whom with which address."""

from e1000emu.lab import Lab
from stack import proc
from stack.netfilter.nat import masquerade
from stack.socket import create_connection, create_server

with Lab() as lab:
    nat, left, right = (lab.router(name) for name in ("nat", "left", "right"))
    outside = lab.lan("198.51.100.0/24", nat, lab.host("server"))
    core = lab.lan("10.0.0.0/24", nat, left, right, gateway=nat)
    lans = [
        lab.lan("10.1.0.0/24", left, *lab.hosts("a", 5), gateway=left),
        lab.lan("10.2.0.0/24", right, *lab.hosts("b", 5), gateway=right),
    ]
    nat.route_add("10.1.0.0/24", via=core.addr(left))
    nat.route_add("10.2.0.0/24", via=core.addr(right))
    masquerade(nat, oif=outside.interface["nat"])

    def ask(client: str, server: str, address: str) -> str:
        """Connect, and return the address under which the server sees the client."""
        listener = create_server(lab[server], (address, 80))
        with listener, create_connection(lab[client], (address, 80)):
            seen: str = listener.accept()[1][0]
            return seen

    for name in ("a1", "b5"):
        print(f"{name} seen outside:", ask(name, "server", outside.addr(lab["server"])))
    print("a1 seen by b5:", ask("a1", "b5", lans[1].addr(lab["b5"])))
    print("hosts:", len(lab), "packets forwarded by nat:", nat.mib.ip.ForwDatagrams)
    print(proc.read(left, "route"))
