"""Networks as data: nodes and links in a TOML file or in structs, checked, expanded, built.

flat = Topology.read("two-tiers.toml").flat()
with build(flat) as lab:
    server = create_server(lab["server"], ("10.0.0.1", 80))
    client = create_connection(lab["client1"], ("10.0.0.1", 80))
"""

from e1000emu.topology.build import TopologyLab, build, side_seed
from e1000emu.topology.entries import Link, Node
from e1000emu.topology.flat import Flat, FlatLink, FlatNode
from e1000emu.topology.model import Topology, TopologyError
from e1000emu.topology.running import Running, RunResult
from e1000emu.topology.words import Route

__all__ = [
    "Flat",
    "FlatLink",
    "FlatNode",
    "Link",
    "Node",
    "Route",
    "RunResult",
    "Running",
    "Topology",
    "TopologyError",
    "TopologyLab",
    "build",
    "side_seed",
]
