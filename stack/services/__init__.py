"""Programs on a host beside the packet path: servers, and the runners of the clients' cores."""
