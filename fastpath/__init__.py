"""Bytes and descriptors: the compiled kernels under the device and the stack."""
