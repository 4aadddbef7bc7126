"""The controller: `Nic`, and a file for each of its blocks."""
