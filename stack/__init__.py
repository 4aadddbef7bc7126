"""The host: driver, device layer, IP, transports and sockets, with Linux's names."""
