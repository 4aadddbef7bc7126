"""vfio-user: the NIC as a PCI device of another process, QEMU's for instance."""
