"""net/bridge: the Ethernet bridge."""
