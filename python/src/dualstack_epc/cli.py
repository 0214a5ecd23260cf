# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``dualstack-epc``."""

from __future__ import annotations

import argparse
import sys

from dualstack_epc import process

TYPE_CHECKING = False  # Importing typing for it would be a fifth of the time to the port line.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

FAMILIES = ("dual", "ipv4", "ipv6")
LEVELS = ("debug", "info", "warning", "error", "critical")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command with the arguments ARGV and exit.

    The status is 0 in the end, 1 on an error, 2 on misuse.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["sidecar"]:
        arguments[:1] = ["serve", "--auth", "--exit-on-eof"]
    options = vars(_parser().parse_args(arguments))
    command = options.pop("command")
    process.run(lambda: command(**options))


def _parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="dualstack-epc",
        description="Servers for Emacs on 127.0.0.1 and ::1 at one port.",
        formatter_class=_formatter,
    )
    commands = parser.add_subparsers(prog="dualstack-epc", required=True, metavar="COMMAND")
    hello = commands.add_parser(
        "hello",
        formatter_class=_formatter,
        help="answer any bytes with hello, until a client sends stop",
        description="Print the port, then answer any bytes with hello; stop closes a connection.",
    )
    hello.set_defaults(command=_hello)
    _add_address_options(hello)
    serve = commands.add_parser(
        "serve",
        formatter_class=_formatter,
        help="serve the functions of Python modules to Emacs",
        description="Serve hello, stop, and the public functions of the modules, over EPC.  The"
        " first line on standard output is the port.  `dualstack-epc sidecar` is `serve --auth"
        " --exit-on-eof`, which Emacs starts.",
    )
    serve.set_defaults(command=_serve)
    _add_address_options(serve)
    _add_serve_options(serve)
    environment = commands.add_parser(
        "environment",
        formatter_class=_formatter,
        help="make an environment with packages, or find the one that is there",
        description="Print where the Python of an environment with the requirements is, which is"
        " made by uv or by venv and pip if there is none.  Emacs runs this.",
    )
    environment.set_defaults(command=_environment)
    _add_environment_options(environment)
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return a formatter for PROG's help, of a fixed width: asking the terminal takes 2 ms."""
    return argparse.HelpFormatter(prog, width=80)


def _add_address_options(parser: argparse.ArgumentParser) -> None:
    """Add to PARSER the options that say where to listen."""
    parser.add_argument(
        "--family",
        choices=FAMILIES,
        default="dual",
        help="listen on 127.0.0.1 and ::1 (dual, the default), or on one of them",
    )
    parser.add_argument(
        "--port", type=_port, default=0, help="the port; 0, the default, for any free one"
    )


def _add_serve_options(parser: argparse.ArgumentParser) -> None:
    """Add to PARSER what `serve` takes."""
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help="a module's name, or a file that ends in .py"
    )
    parser.add_argument(
        "--path",
        action="append",
        metavar="DIRECTORY",
        help="look for modules there too, after all other places; can be repeated",
    )
    parser.add_argument(
        "--host", default="localhost", metavar="ADDRESS", help="another address than localhost"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="let ADDRESS be one the network can reach"
    )
    parser.add_argument(
        "--auth", action="store_true", help="make a token, print it, and ask clients to prove it"
    )
    parser.add_argument(
        "--label",
        metavar="TEXT",
        help="bind proofs to TEXT, which clients give too, and not to the address: for ports that"
        " are forwarded",
    )
    parser.add_argument(
        "--stdio",
        action="store_true",
        help="serve one client, at standard input and output, with no port and no proof",
    )
    parser.add_argument("--ready", metavar="TEXT", help=argparse.SUPPRESS)
    parser.add_argument("--pass-log", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--exit-on-eof", action="store_true", help="end when standard input does")
    parser.add_argument("--log-file", metavar="FILE", help="log there, not on standard error")
    parser.add_argument(
        "--log-level", default="info", choices=LEVELS, help="how much to log (info)"
    )


def _add_environment_options(parser: argparse.ArgumentParser) -> None:
    """Add to PARSER what `environment` takes."""
    parser.add_argument(
        "--root", required=True, metavar="DIRECTORY", help="where environments are kept"
    )
    parser.add_argument(
        "--requirement", action="append", metavar="REQUIREMENT", help="as pip writes it"
    )
    parser.add_argument(
        "--script", action="append", metavar="FILE", help="a module with inline metadata (PEP 723)"
    )
    parser.add_argument("--requires-python", metavar="VERSIONS", help="such as >=3.11")
    parser.add_argument("--user", default="", metavar="NAME", help="the sidecar that asks for it")
    parser.add_argument("--rebuild", action="store_true", help="rebuild it")
    parser.add_argument("--list", action="store_true", help="tell of those that are there instead")
    parser.add_argument("--exit-on-eof", action="store_true", help="end when standard input does")


def _port(text: str) -> int:
    """Return the port number in TEXT."""
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{text!r} is no port: use a number from 0 to 65535")
    return int(text)


def _hello(**options: Any) -> None:
    """Run the hello server."""
    from dualstack_epc.net import hello  # noqa: PLC0415, which serve saves

    hello.run(**options)


def _serve(**options: Any) -> None:
    """Run the EPC server."""
    from dualstack_epc.rpc import serve  # noqa: PLC0415, 4 ms, which hello saves

    serve.run(**options)


def _environment(**options: Any) -> None:
    """Ensure an environment."""
    from dualstack_epc.environments import command  # noqa: PLC0415, as above

    command.run(**options)
