"""What the words of a command line are read by: a mistyped command, option or choice gets the nearest names."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

from recgym.options import nearest

_SHOWN = 12  # choices that are all named


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` whose refusals are three lines at most: how to call it, what is wrong, what was meant."""

    def error(self, message: str) -> NoReturn:
        """Prints them and ends with exit code 2."""
        print(f"usage: {self.prog} {'COMMAND ' if self._subparsers else ''}...; {self.prog} --help", file=sys.stderr)
        print(f"error: {self._explained(message)}", file=sys.stderr)
        sys.exit(2)

    def _explained(self, message: str) -> str:
        if chosen := re.match(r"argument (.+?): invalid choice: '?(.*?)'? \(choose from (.*)\)", message):
            name, given, choices = chosen.groups()
            known = [one.strip(" '") for one in choices.split(",")]
            several = f"; they are {', '.join(known)}" if len(known) <= _SHOWN else f"; {self.prog} --help names them"
            return f"{name} must be one there is, got {given!r}; {nearest(given, known) or several.strip('; ')}"
        if unknown := re.match(r"unrecognized arguments: (.*)", message):
            options = [one for action in self._actions for one in action.option_strings]
            first = unknown[1].split()[0]
            hint = nearest(first.partition("=")[0], options) if first.startswith("-") else ""
            return f"every word must be an argument of the command, got {unknown[1]}; {hint or 'see --help'}"
        return message


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    """Returns the parsed words; those of a command are refused by that command, which knows its own options."""
    options, unknown = parser.parse_known_args(words)
    if unknown and not getattr(options, "takes_any", False):
        getattr(options, "parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    options.rest = unknown if getattr(options, "takes_any", False) else getattr(options, "rest", [])
    return options
