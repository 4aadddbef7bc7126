"""Set-ups of device and stack together, and measurements.

Apart from the command line, this is the only code that depends on both the device and the stack.
"""

from e1000emu.lab.hosts import Lab, LabLan, add_nic, close_hosts, lan, mac_address, pump, two_hosts

__all__ = [
    "Lab",
    "LabLan",
    "add_nic",
    "close_hosts",
    "lan",
    "mac_address",
    "pump",
    "two_hosts",
]
