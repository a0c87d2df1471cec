"""What all commands share."""

import argparse
from typing import NoReturn

INTERRUPTED = 130  # what a shell reports after Ctrl-C


class Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong and leaves."""
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}\n")


def names(text: str) -> list[str]:
    """Splits a list at its commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[float]:
    """Splits a list of numbers at its commas."""
    try:
        return [float(number) for number in names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected numbers with commas between, got {text!r}"
        ) from None
