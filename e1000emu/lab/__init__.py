"""Set-ups of device and stack together, and what is measured on them.

Besides the command line this is the one place that knows both the device and the stack.
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
