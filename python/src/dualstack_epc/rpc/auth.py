# SPDX-License-Identifier: GPL-3.0-or-later
"""The mutual proof that both ends of a connection know the same token.

Any user of the machine can connect to a loopback port, and can listen at the same port of the other
address family.  So the client proves that it knows the token, and the server proves it first:

1. client calls ``dualstack-auth`` with (CLIENT-NONCE); the server returns (SERVER-NONCE PROOF),
   where PROOF is the HMAC-SHA256 (RFC 2104) with the token of
   ``server:CLIENT-NONCE:SERVER-NONCE:PLACE``;
2. the client checks it and calls ``dualstack-prove`` with the HMAC of
   ``client:SERVER-NONCE:CLIENT-NONCE:PLACE``; ``t`` opens the session.

PLACE is ``HOST:PORT``, the address that the client has dialled and at which the server was reached.
A program that listens elsewhere and passes the proofs on convinces neither, as they come from
another place.  Where the two differ for a reason, as with a forwarded port, both ends name the same
label instead.

Proofs are in hexadecimal; the key is the token's characters in UTF-8.
"""

from __future__ import annotations

import os

from dualstack_epc.net.light import compare_digest, hmac_sha256
from dualstack_epc.rpc.errors import AuthenticationError

TYPE_CHECKING = False  # typing takes 2 ms to load.
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

AUTH, PROVE = "dualstack-auth", "dualstack-prove"
NONCE_LIMIT = 256  # characters


def proof(token: str, side: str, first: str, second: str, place: str) -> str:
    """Return the proof of SIDE, "server" or "client", over two nonces and a place."""
    text = f"{side}:{first}:{second}:{place}"
    return hmac_sha256(token.encode(), text.encode()).hex()


def dialled(sock: socket.socket) -> str:
    """Return the place that SOCK, a client's, is connected to."""
    return _place(sock.getpeername())


def reached(sock: socket.socket) -> str:
    """Return the place at which the client of SOCK, a server's, has reached it."""
    return _place(sock.getsockname())


def _place(address: Any) -> str:
    """Return ADDRESS, one of the two families, as a place; another family has none."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return f"{host.partition('%')[0]}:{port}"


class ServerAuth:
    """The server's half: takes calls until one of them proves the client."""

    def __init__(
        self, token: str, place: str, on_proof: Callable[[], object] | None = None
    ) -> None:
        """Expect a client that knows TOKEN and has dialled PLACE; call ON_PROOF when it came."""
        self._on_proof = on_proof
        self._token = token
        self._place = place
        self._nonces: tuple[str, str] | None = None
        self.done = False

    def receive(self, name: str, args: list[Any]) -> Any:
        """Return the reply to the call of NAME with ARGS; raise `AuthenticationError`.

        After the error the connection is to be closed: there is no second try.
        """
        if name == AUTH and self._nonces is None:
            return self._greet(args)
        if name == PROVE and self._nonces is not None:
            client, server = self._nonces
            expected = proof(self._token, "client", server, client, self._place)
            if not (len(args) == 1 and _equal(args[0], expected)):
                raise AuthenticationError("the proof is wrong")
            self.done = True
            if self._on_proof:
                self._on_proof()
            return True
        raise AuthenticationError("this server asks for authentication first")

    def _greet(self, args: list[Any]) -> list[str]:
        """Return the server's nonce and proof, for the client's nonce in ARGS."""
        nonce = args[0] if len(args) == 1 else None
        if not isinstance(nonce, str) or not 0 < len(nonce) <= NONCE_LIMIT or ":" in nonce:
            raise AuthenticationError("the nonce is no string of 1 to 256 characters without colon")
        own = os.urandom(16).hex()
        self._nonces = (nonce, own)
        return [own, proof(self._token, "server", nonce, own, self._place)]


def authenticate(
    token: str,
    place: str,
    call: Callable[[str, list[Any]], Any],
    on_proof: Callable[[], object] | None = None,
) -> None:
    """Be the client's half over CALL, which calls a method; raise `AuthenticationError`.

    Call ON_PROOF when the server has proved itself.  The proofs are bound to PLACE.  Nothing that
    is worth having is sent before the server's.
    """
    nonce = os.urandom(16).hex()
    reply = call(AUTH, [nonce])
    if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], str)):  # noqa: PLR2004
        raise AuthenticationError("the server does not know the protocol")
    if not _equal(reply[1], proof(token, "server", nonce, reply[0], place)):
        raise AuthenticationError("the server has not proved itself: it may be another program")
    if on_proof:
        on_proof()
    if call(PROVE, [proof(token, "client", reply[0], nonce, place)]) is not True:
        raise AuthenticationError("the server refuses the token")


def _equal(given: Any, expected: str) -> bool:
    """Return whether GIVEN is EXPECTED, in a time that does not tell how much of it is."""
    return isinstance(given, str) and compare_digest(
        given.encode("utf-8", "replace"), expected.encode()
    )
