"""What runs on a host beside the packet path: servers without I/O, the runners of clients' cores."""
