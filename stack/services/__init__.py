"""Programs on a host: servers, and runners of the I/O-free protocol cores."""
