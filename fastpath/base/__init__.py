"""What device and stack both work with: bytes, sums, packets, queues of events and of frames."""
