# SPDX-License-Identifier: GPL-3.0-or-later
"""The mutual proof, without a socket."""

from __future__ import annotations

import hmac
import subprocess
import sys
from typing import Any

import pytest

from dualstack_epc.rpc import auth
from dualstack_epc.rpc.auth import AUTH, PROVE, ServerAuth, authenticate, proof
from dualstack_epc.rpc.errors import AuthenticationError
from dualstack_epc.rpc.token import new_token

PLACE = "127.0.0.1:80"


def test_both_prove_themselves() -> None:
    token = new_token()
    server = ServerAuth(token, PLACE)
    authenticate(token, PLACE, server.receive)
    assert server.done


def test_tokens_are_long_and_differ() -> None:
    assert len({new_token() for _ in range(100)}) == 100
    assert len(new_token()) == 64


def test_the_proof_is_the_documented_one() -> None:
    # printf server:c:s:127.0.0.1:80 | openssl dgst -sha256 -hmac k
    assert proof("k", "server", "c", "s", "127.0.0.1:80") == (
        "38a33ab5c0b321627ece89a20fde25f751f817ef763d2e27f77585ea1ccde909"
    )


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 200])
def test_the_proof_is_an_hmac_of_the_token_of_any_length(length: int) -> None:
    token = "tok€n"[length % 5 :] + "k" * length
    expected = hmac.new(token.encode(), f"server:c:s:{PLACE}".encode(), "sha256").hexdigest()
    assert proof(token, "server", "c", "s", PLACE) == expected


def test_without_the_parts_of_cpythons_modules_the_modules_do() -> None:
    script = (
        "import sys\nfor name in ('_queue', '_sha256', '_sha2', '_operator'):\n"
        "    sys.modules[name] = None\n"
        "from dualstack_epc.net.light import *\n"
        "jobs = SimpleQueue()\njobs.put(1)\n"
        "print(jobs.get(), Empty.__name__, hmac_sha256(b'k', b'text').hex())\n"
        "print(compare_digest('a', 'a'), compare_digest('a', 'b'))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    digest = hmac.new(b"k", b"text", "sha256").hexdigest()
    assert run.stdout == f"1 Empty {digest}\nTrue False\n"


def test_a_client_with_another_token_is_refused() -> None:
    server = ServerAuth(new_token(), PLACE)
    other = new_token()
    own, _ = server.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError, match="the proof is wrong"):
        server.receive(PROVE, [proof(other, "client", own, "nonce", PLACE)])
    assert not server.done


@pytest.mark.parametrize("count", [0, 1, 63])
def test_a_proof_must_be_whole(count: int) -> None:
    token = new_token()
    server = ServerAuth(token, PLACE)
    own, _ = server.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError):
        server.receive(PROVE, [proof(token, "client", own, "nonce", PLACE)[:count]])


@pytest.mark.parametrize("arguments", [[], [None], [[]], [True], ["x", "y"], ["\ud800"]])
def test_a_proof_must_be_a_string(arguments: list[Any]) -> None:
    server = ServerAuth(new_token(), PLACE)
    server.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError):
        server.receive(PROVE, arguments)


def test_a_server_that_does_not_know_the_token_learns_nothing() -> None:
    calls: list[str] = []
    impostor = ServerAuth(new_token(), PLACE)

    def call(name: str, args: list[Any]) -> Any:
        calls.append(name)
        return impostor.receive(name, args)

    with pytest.raises(AuthenticationError, match="another program"):
        authenticate(new_token(), PLACE, call)
    assert calls == [AUTH]


def test_the_servers_own_proof_is_no_proof_of_a_client() -> None:
    token = new_token()
    server = ServerAuth(token, PLACE)
    _, servers_proof = server.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError):
        server.receive(PROVE, [servers_proof])


def test_a_nonce_reflected_to_another_connection_is_of_no_use() -> None:
    # An impostor passes the client's nonce on to the server to have it proved: that works, but the
    # proof of the client that it then gets is bound to that connection's nonces, and its own calls
    # are what it cannot make up.
    token = new_token()
    server = ServerAuth(token, PLACE)
    own, _ = server.receive(AUTH, ["nonce"])
    second = ServerAuth(token, PLACE)
    second.receive(AUTH, [own])
    with pytest.raises(AuthenticationError):
        second.receive(PROVE, [proof(token, "client", own, "nonce", PLACE)])


def test_a_proof_cannot_be_used_again() -> None:
    token = new_token()
    first = ServerAuth(token, PLACE)
    own, _ = first.receive(AUTH, ["nonce"])
    replayed = proof(token, "client", own, "nonce", PLACE)
    first.receive(PROVE, [replayed])
    second = ServerAuth(token, PLACE)
    second.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError):
        second.receive(PROVE, [replayed])


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (PROVE, ["x"]),
        ("echo", [1]),
        (AUTH, []),
        (AUTH, [""]),
        (AUTH, ["x" * 257]),
        (AUTH, [1]),
        (AUTH, ["a:b"]),
        (AUTH, ["a", "b"]),
    ],
)
def test_nothing_else_is_answered(name: str, args: list[Any]) -> None:
    with pytest.raises(AuthenticationError):
        ServerAuth(new_token(), PLACE).receive(name, args)


def test_there_is_no_second_greeting() -> None:
    server = ServerAuth(new_token(), PLACE)
    server.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError):
        server.receive(AUTH, ["nonce"])


@pytest.mark.parametrize("reply", [None, [], ["a"], [1, 2], "x", ["a", None]])
def test_a_strange_reply_is_an_authentication_error(reply: Any) -> None:
    with pytest.raises(AuthenticationError):
        authenticate("token", PLACE, lambda _name, _args: reply)


def test_proofs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = hmac.compare_digest

    def spy(given: bytes, expected: bytes) -> bool:
        compared.append((given, expected))
        return compare(given, expected)

    monkeypatch.setattr(auth, "compare_digest", spy)
    server = ServerAuth(new_token(), PLACE)
    server.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError):
        server.receive(PROVE, ["0" * 64])
    assert [given for given, _ in compared] == [b"0" * 64]


def test_proofs_of_another_place_prove_nothing() -> None:
    token = new_token()
    with pytest.raises(AuthenticationError, match="another program"):
        authenticate(token, PLACE, ServerAuth(token, "::1:80").receive)
    second = ServerAuth(token, "::1:80")
    own, _ = second.receive(AUTH, ["nonce"])
    with pytest.raises(AuthenticationError, match="the proof is wrong"):
        second.receive(PROVE, [proof(token, "client", own, "nonce", PLACE)])
