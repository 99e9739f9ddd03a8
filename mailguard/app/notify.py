"""sd_notify(3): tells systemd that the server is ready, reloading or stopping."""

from __future__ import annotations

import os
import socket
import time


def notify(state: str) -> bool:
    """Sends ``READY=1`` and the like to the service manager; False where there is none. Never raises."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path or path[0] not in "/@":
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect("\0" + path[1:] if path[0] == "@" else path)
            sock.sendall(state.encode())
    except OSError:
        return False
    return True


def reloading() -> str:
    """The state to send when a reload begins (Type=notify-reload)."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
