"""vfio-user: the NIC as a PCI device of another process, such as QEMU."""
