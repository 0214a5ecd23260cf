# SPDX-License-Identifier: GPL-3.0-or-later
"""The server of a sidecar, where something goes wrong that no client can cause."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from dualstack_epc.net.listener import open_listener
from dualstack_epc.rpc.core import Server

from conftest import connect

if TYPE_CHECKING:
    import pytest


class Threadless(Server):
    """A server whose first client finds no thread."""

    served = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve all clients but the first."""
        self.served += 1
        if self.served == 1:
            raise RuntimeError("can't start new thread")
        super().process_request(request, client_address)


def test_a_client_that_cannot_be_served_is_closed_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = Threadless(open_listener())
    server.register_function(lambda: "hello", "hello")
    loop = threading.Thread(target=server.serve_forever)
    loop.start()
    try:
        with connect("ipv4", server.listener.port) as first:
            assert first.recv(1) == b""
        with connect("ipv6", server.listener.port) as second:
            second.sendall(b"000011(call 1 hello ())")
            assert second.recv(100) == b'000013(return 1 "hello")\n'
    finally:
        server.shutdown()
        loop.join()
        server.server_close()
    assert "not served" in caplog.text
    assert "can't start new thread" in caplog.text
