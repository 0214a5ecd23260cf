# SPDX-License-Identifier: GPL-3.0-or-later
"""`DualStackEPCServer`, over real sockets.  Many of these are defects of python-epc 0.0.5."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import Any

import pytest
from epc.client import EPCClient
from epc.handler import ReturnError

from dualstack_epc.drop_in.server import DualStackEPCServer
from dualstack_epc.rpc.client import Client
from dualstack_epc.rpc.client import connect as connect_client
from dualstack_epc.wire.errors import SendError
from dualstack_epc.wire.frames import LIMIT, encode_frame
from dualstack_epc.wire.lisp import Symbol

from conftest import HOSTS, own_host, wait_until
from epc_server import Raw, port, serving


@pytest.mark.parametrize("host", ["localhost", *HOSTS.values()])
def test_every_name_of_this_machine_reaches_it(server: DualStackEPCServer, host: str) -> None:
    with connect_client(host, port(server)) as client:
        assert client.call_sync("echo", [1, "ä"], 30) == [1, "ä"]
    assert server.addresses == [("127.0.0.1", port(server)), ("::1", port(server))]


@pytest.mark.parametrize("family", HOSTS)
def test_a_literal_address_is_listened_at_alone(family: str) -> None:
    with serving(server_address=(HOSTS[family], 0)) as server:
        assert [host for host, _ in server.addresses] == [HOSTS[family]]


def test_without_ipv6_it_serves_and_says_so() -> None:
    script = "from dualstack_epc.drop_in.server import DualStackEPCServer as S; s = S(); print(s.addresses[0][0], s.missing); s.server_close()"
    wrapper = own_host("ipv6/conf/all/disable_ipv6 1")
    output = subprocess.run(
        [*wrapper, sys.executable, "-c", script], check=True, capture_output=True, text=True
    ).stdout
    assert output == "127.0.0.1 ('ipv6',)\n"


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "nonsense.example"])
def test_a_wildcard_or_a_name_is_never_listened_at(host: str) -> None:
    with pytest.raises(ValueError, match="address"):
        DualStackEPCServer((host, 0), allow_remote=True, token="t")


def test_other_addresses_need_leave_and_authentication() -> None:
    cases: list[dict[str, Any]] = [{}, {"allow_remote": True}, {"token": "t"}]
    for options in cases:
        with pytest.raises(ValueError, match="reachable from the network"):
            DualStackEPCServer(("192.0.2.1", 0), **options)
    with pytest.raises(OSError, match=re.escape("192.0.2.1")):
        DualStackEPCServer(("192.0.2.1", 0), allow_remote=True, token="t")


def test_another_loopback_address_can_be_chosen() -> None:
    with serving(server_address=("127.0.0.2", 0)) as server:
        assert server.addresses == [("127.0.0.2", port(server))]
        with connect_client("127.0.0.2", port(server)) as client:
            assert client.call_sync("echo", [1], 30) == [1]


def test_python_epcs_own_client_works(server: DualStackEPCServer) -> None:
    client = EPCClient(("localhost", port(server)))
    try:
        assert client.call_sync("echo", ["x", 1], 30) == ["x", 1]
        names = [name.value() for name, _, _ in client.methods_sync(5)]
        assert names == ["echo", "call_back"]
    finally:
        client.socket.shutdown(socket.SHUT_RDWR)
        client.handler_thread.join()
        client.close()
        client.socket.close()


def test_methods_have_arguments_and_documentation(client: Client) -> None:
    assert client.methods_sync(5)[0] == [
        Symbol("echo"),
        [Symbol("&rest"), Symbol("args")],
        "Return the arguments.",
    ]


def test_print_port(server: DualStackEPCServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.print_port()
    assert capsys.readouterr().out == f"{port(server)}\n"


# Every call gets one reply


class HostileError(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def deep(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def deep_call() -> int:
    return deep_call() + 1


METHODS: dict[str, tuple[Any, str]] = {
    "error": (lambda: 1 / 0, "ZeroDivisionError"),
    "exit": (lambda: sys.exit(1), "SystemExit"),
    "interrupt": (lambda: (_ for _ in ()).throw(KeyboardInterrupt()), "KeyboardInterrupt"),
    "generator_exit": (lambda: (_ for _ in ()).throw(GeneratorExit()), "GeneratorExit"),
    "hostile": (lambda: (_ for _ in ()).throw(HostileError()), "repr fails"),
    "recursion": (deep_call, "RecursionError"),
    "unserialisable": (object, "object"),
    "too_deep": (lambda: deep(5000), "nested deeper"),
    "surrogate": (lambda: "\ud800", "U+D800"),
    "oversize": (lambda: "x" * (LIMIT + 1), "16,777,2"),
    "surrogate_error": (lambda: (_ for _ in ()).throw(ValueError("\udfff")), "ValueError"),
    "long_error": (lambda: (_ for _ in ()).throw(ValueError("x" * 20_000_000)), "xxx..."),
    "wrong_arguments": (lambda _a, _b: None, "TypeError"),
    "epc_error": (lambda: (_ for _ in ()).throw(ReturnError("from elsewhere")), "from elsewhere"),
}


@pytest.mark.parametrize("name", METHODS)
def test_whatever_a_method_does_its_call_gets_one_reply(
    server: DualStackEPCServer, raw: Raw, name: str
) -> None:
    function, expected = METHODS[name]
    server.register_function(function, name)
    raw.send(f"(call 7 {name} ())")
    raw.send("(call 8 echo (1))")
    replies = sorted([raw.receive(), raw.receive()], key=lambda reply: reply[1])
    assert replies[0][:2] == [Symbol("return-error"), 7]
    assert expected in replies[0][2]
    assert replies[1] == [Symbol("return"), 8, [1]]


@pytest.mark.parametrize(
    ("payload", "kind", "uid"),
    [
        (b'(call 5 echo ("\xff"))', "return-error", 5), (b"(call 5 echo " + b"(" * 3000, "return-error", 5),
        (b'(call 5 echo (#("x" 0 1 (face bold))))', "return-error", 5), (b"(call 5 echo (#<buffer x>))", "return-error", 5),
        (b"(call 5)", "epc-error", 5), (b"(call 5 echo)", "epc-error", 5), (b"(call 5 echo 1)", "epc-error", 5),
        (b"(call 5 echo (1) 2)", "epc-error", 5), (b'(call 5 "echo" (1))', "epc-error", 5), (b"(call 5 no-such ())", "epc-error", 5),
        (b"(methods 5 6)", "epc-error", 5), (b"(bogus 5)", "epc-error", 5), (b"(call)", "epc-error", []), (b"", "epc-error", []),
        (b"(((", "epc-error", []), (b"\xff\xfe", "epc-error", []), (b"42", "epc-error", []), (b'("call" 5)', "epc-error", []),
        (b"(methods 5 \xff)", "epc-error", 5), (b'(call "own uid" no-such ())', "epc-error", "own uid"),
        (b"(call 5 __class__ ())", "epc-error", 5), (b"(call 5 server.pool ())", "epc-error", 5),
    ],
)  # fmt: skip
def test_a_request_that_is_wrong_gets_one_reply(
    raw: Raw, payload: bytes, kind: str, uid: Any
) -> None:
    raw.send(payload)
    raw.send("(call 99 echo ())")
    replies = [raw.receive(), raw.receive()]
    assert [Symbol("return"), 99, []] in replies
    replies.remove([Symbol("return"), 99, []])
    assert replies[0][:2] == [Symbol(kind), uid]
    assert isinstance(replies[0][2], str)


@pytest.mark.parametrize(
    "header",
    [b"-00001", b"0x000f", b"0_0010", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"zzzzzz"],
)
def test_bytes_that_are_no_epc_end_the_connection_with_one_line(
    server: DualStackEPCServer, raw: Raw, header: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    raw.sock.sendall(header)
    assert raw.receive() is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no EPC" in caplog.text
    with connect_client(port=port(server)) as client:
        assert client.call_sync("echo", [1], 30) == [1]


def test_a_disconnect_in_mid_frame_or_mid_reply_is_no_error(
    server: DualStackEPCServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.register_function(lambda: "x" * 5_000_000, "big")
    for data in [
        b"0000",
        encode_frame(b"(call 1 echo (1))")[:-3],
        encode_frame(b"(call 1 big ())"),
    ]:
        raw = Raw(server)
        raw.sock.sendall(data)
        raw.sock.close()
    wait_until(lambda: not server.clients)
    with connect_client(port=port(server)) as client:
        assert client.call_sync("echo", [1], 30) == [1]
    assert not caplog.records
    assert "Traceback" not in capfd.readouterr().err


def test_replies_of_many_threads_do_not_interleave(server: DualStackEPCServer, raw: Raw) -> None:
    server.register_function(lambda n: [n, "x" * 100_000], "big")
    for uid in range(100):
        raw.send(f"(call {uid} big ({uid}))")
    replies = [raw.receive() for _ in range(100)]
    assert sorted(reply[1] for reply in replies) == list(range(100))
    assert all(reply[2] == [reply[1], "x" * 100_000] for reply in replies)


def test_a_payload_of_the_largest_size_crosses(client: Client) -> None:
    text = "x" * (LIMIT - 100)
    assert client.call_sync("echo", [text], 30) == [text]
    with pytest.raises(SendError, match="16,777,"):
        client.call_sync("echo", ["x" * LIMIT], 30)
    assert client.call_sync("echo", [1], 30) == [1]
