"""Common modules of device and stack: bytes, sums, packets, queues of events and of frames."""
