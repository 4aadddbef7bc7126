"""drivers/net/bonding: several devices as one."""
