"""Server of a page for this machine only, until Ctrl-C."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from pti.common.errors import UsageError

if TYPE_CHECKING:
    from flask import Flask

_PORT_ATTEMPTS = 50  # ports tried after the requested one


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Listen on a port, or on the next free one if it is taken; 0 = any port.

    Raises:
        UsageError: The host isn't an address of this machine, or none of the ports is free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    last = min(port + _PORT_ATTEMPTS, 65535)
    reason, fix = "", ""
    for candidate in range(port, last + 1):
        try:
            return socket.create_server((host, candidate), family=family)
        except OSError as error:
            reason = error.strerror
            taken = error.errno == errno.EADDRINUSE
            fix = "Set port=0 for any free port." if taken else "Set host=127.0.0.1."
    raise UsageError(
        f"host={host} port={port}: none of the ports {port} to {last} can be used ({reason}). {fix}"
    )


def serve(app: Flask, listener: socket.socket, title: str) -> None:
    """Print the page's address and serve it until Ctrl-C or SIGTERM.

    Flask refuses requests for other host names (``TRUSTED_HOSTS``): otherwise a web page could point its own
    name at 127.0.0.1 and read patients' images (DNS rebinding).

    Args:
        app: Flask application.
        listener: Socket from `listen`.
        title: Title of the page.
    """
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line per request
    host, port = listener.getsockname()[:2]
    name = "localhost" if ":" in host else host  # TRUSTED_HOSTS doesn't support IPv6 addresses
    app.config["TRUSTED_HOSTS"] = [name, "localhost", "127.0.0.1"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with listener, suppress(KeyboardInterrupt):
        server = make_server(host, port, app, threaded=True, fd=listener.fileno())
        print(f"{title}: http://{name}:{port}/   (press Ctrl-C to stop)", flush=True)
        server.serve_forever(poll_interval=0.2)
