"""net/8021q: VLAN devices (a module's name cannot begin with a figure)."""
