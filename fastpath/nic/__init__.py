"""The kernels of the device and of its links: rings, ports, registers, interrupts, TAP."""
