"""Ways to put the NIC into somebody else's machine: vfio-user for QEMU and its kin."""
