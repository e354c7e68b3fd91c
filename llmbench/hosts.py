"""What a host's name tells of where it is."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Say whether what is sent to this host stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
