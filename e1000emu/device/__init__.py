"""The controller behind its BARs: `Nic`, and a file for each of its blocks."""
