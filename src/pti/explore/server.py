"""Serves a page on this machine alone, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any

from pti.common.errors import UsageError

_TRIED = 50  # ports after the one that was asked for


def listen(host: str, port: int) -> socket.socket:
    """A listening socket at this port, or else at the next free one; 0 = any.

    Raises:
        UsageError: the host is no loopback address of this machine, or none of the ports is free.
    """
    for number in range(port, min(port + _TRIED, 65535) + 1):
        found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        found.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # a page closed a moment ago is no obstacle
        try:
            found.bind((host, number))
            found.listen(64)
            return found
        except socket.gaierror as error:
            found.close()
            raise UsageError(
                f"host={host}: {error.strerror}; expected 127.0.0.1, localhost or ::1."
            ) from None
        except OSError:
            found.close()
    raise UsageError(f"port={port}: none of the ports {port} to {port + _TRIED} is free. Set port=0 for any.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(app: Any, listening: socket.socket, host: str, ready: Callable[[str], None]) -> None:
    """Serve a WSGI application until Ctrl-C or SIGTERM; then return.

    A request under another name than this machine's is refused: a page elsewhere on the internet whose name
    was made to mean 127.0.0.1 must not read patients' images.

    Args:
        app: the application.
        listening: from `listen`.
        host: as given to `listen`.
        ready: called with the page's address when it can be opened.
    """
    import signal

    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    names = {f"{name}:{port}" for name in (shown, "127.0.0.1", "localhost", "[::1]")}
    server = make_server(host, port, _only_for(names, app), threaded=True, fd=listening.fileno())
    server.daemon_threads = True  # pyright: ignore[reportAttributeAccessIssue]  (of the threaded server)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        ready(f"http://{shown}:{port}/")
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
        server.server_close()
        listening.close()


def _only_for(names: set[str], app: Any) -> Any:
    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("HTTP_HOST", "").lower() in names:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [b"This page answers to this machine alone.\n"]

    return guarded
