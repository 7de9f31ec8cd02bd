"""The one exception that users are meant to see."""

from __future__ import annotations


class CoatError(Exception):
    """Something the user gave cannot work; the message says what, where and what to do.

    Args:
        problem: The fault, with the name of the row, file or field.
        remedy: The action that solves it.

    Attributes:
        exit_code: Exit code of a command that fails with it.
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n{remedy}" if remedy else problem)

    def __reduce__(self) -> tuple[type[CoatError], tuple[str, str]]:
        """From a worker's process, whole."""
        return type(self), (self.problem, self.remedy)


def did_you_mean(given: str, allowed: list[str]) -> str:
    """A sentence with the nearest allowed name, or the whole list when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(given, allowed, n=1)
    return f"Did you mean '{near[0]}'?" if near else f"Allowed: {', '.join(sorted(allowed))}."
