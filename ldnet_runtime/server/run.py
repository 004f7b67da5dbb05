"""Run the server."""

import socket

from ldnet_runtime.errors import InputError
from ldnet_runtime.tagger import Tagger

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(tagger: Tagger, host: str, port: int) -> None:
    """
    Serve a tagger until SIGINT or SIGTERM.

    # Parameters

    tagger : `Tagger`
    host : `str`
        The address to listen on. There is no authentication, so only a loopback address keeps other machines out.
    port : `int`
    """
    import uvicorn

    from ldnet_runtime.server.app import create_app

    is_local = host in _LOOPBACK
    app = create_app(tagger, allowed_hosts=[*_LOOPBACK[:2], "[::1]"] if is_local else ["*"])
    shown = f"[{host}]" if ":" in host else host
    _check_address(host, port, shown)
    print(f"http://{shown}:{port}/ (Ctrl-C stops the server)", flush=True)
    try:
        uvicorn.run(
            app, host=host, port=port, log_level="warning", timeout_keep_alive=10, limit_concurrency=1024
        )
    except SystemExit as error:
        raise InputError(f"the server could not listen on {shown}:{port}.") from error


def _check_address(host: str, port: int, shown: str) -> None:
    """Raise `InputError` if the host does not exist or the port is in use."""
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InputError(f"the server cannot listen on {shown}:{port}: {error.strerror}.") from error
