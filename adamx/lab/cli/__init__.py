"""The command line: `adamx compare` and the others, a file each."""

import sys

import adamx
from adamx.lab.cli import compare, inspect, lr_range
from adamx.lab.cli.parser import INTERRUPTED, Parser


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except KeyboardInterrupt:
        print("adamx: interrupted before anything was trained", file=sys.stderr)
        return INTERRUPTED


def make_parser() -> Parser:
    """Describes the commands."""
    parser = Parser(prog="adamx", description="The Adam family for JAX.")
    parser.add_argument(
        "--version", action="version", version=f"adamx {adamx.__version__}"
    )
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser
    )
    compare.add(commands)
    lr_range.add(commands)
    inspect.add(commands)
    return parser
