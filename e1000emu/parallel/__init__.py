"""One simulation in many processes: hosts in groups, split at links with delay, with one result.

def build(seed):
    return Simulation(Topology(..., seed=seed).flat(), begin, figures)

outcome = simulate(build, processes=2, until_ns=10_000_000_000, seed=7)
outcome.digest                          # the same for any number of processes
"""

from e1000emu.parallel.partition import Partition, partition
from e1000emu.parallel.share import Simulation
from e1000emu.parallel.simulate import Outcome, SimulationError, simulate

__all__ = ["Outcome", "Partition", "Simulation", "SimulationError", "partition", "simulate"]
