"""Well-known services by name (the IANA's registry, as in /etc/services)."""

from __future__ import annotations

_BOTH, _TCP, _UDP = ("tcp", "udp"), ("tcp",), ("udp",)

SERVICES: dict[str, tuple[int, tuple[str, ...]]] = {
    "echo": (7, _BOTH),
    "discard": (9, _BOTH),
    "daytime": (13, _BOTH),
    "chargen": (19, _BOTH),
    "ftp-data": (20, _TCP),
    "ftp": (21, _TCP),
    "ssh": (22, _TCP),
    "telnet": (23, _TCP),
    "smtp": (25, _TCP),
    "time": (37, _BOTH),
    "domain": (53, _BOTH),
    "bootps": (67, _UDP),
    "bootpc": (68, _UDP),
    "tftp": (69, _UDP),
    "http": (80, _TCP),
    "kerberos": (88, _BOTH),
    "pop3": (110, _TCP),
    "sunrpc": (111, _BOTH),
    "ntp": (123, _UDP),
    "imap2": (143, _TCP),
    "snmp": (161, _BOTH),
    "snmp-trap": (162, _BOTH),
    "bgp": (179, _TCP),
    "ldap": (389, _BOTH),
    "https": (443, _BOTH),
    "submission": (587, _TCP),
    "syslog": (514, _UDP),
    "dhcpv6-client": (546, _UDP),
    "dhcpv6-server": (547, _UDP),
    "ldaps": (636, _BOTH),
    "domain-s": (853, _BOTH),
    "imaps": (993, _TCP),
    "pop3s": (995, _TCP),
    "nfs": (2049, _BOTH),
    "mysql": (3306, _TCP),
    "postgresql": (5432, _TCP),
    "mdns": (5353, _UDP),
    "http-alt": (8080, _BOTH),
}


def service_port(name: str, protocol: str) -> int | None:
    """The port of a service over "tcp" or "udp"; None if unknown."""
    port, protocols = SERVICES.get(name, (0, ()))
    return port if protocol in protocols else None


def service_name(port: int, protocol: str) -> str | None:
    """The name of the service on a port; None if unknown."""
    for name, (number, protocols) in SERVICES.items():
        if number == port and protocol in protocols:
            return name
    return None
