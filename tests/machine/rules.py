"""What the rules share: a rule does one thing to the server, and gives what is wrong with how it went."""

from collections.abc import Callable, Iterator

from tests.faults.fork_server import Ending
from tests.machine.world import World

Rule = Callable[[World], Iterator[str]]
RULES: dict[str, tuple[int, Rule]] = {}


def rule(weight: int) -> Callable[[Rule], Rule]:
    """Drawn so many times as often as one of weight 1."""

    def add(function: Rule) -> Rule:
        RULES[function.__name__] = weight, function
        return function

    return add


def ended(ending: Ending, *codes: int) -> Iterator[str]:
    """A command ends with one of these codes, says why where that is not 0, and was killed only by us."""
    killed = ending.status < 0 and ending.point
    if ending.status not in codes and not killed:
        yield f"it ended with {ending.status} instead of {codes}: {ending.said.strip()[-1500:]}"
    if ending.status > 0 and f"(exit {ending.status})" not in ending.said:
        yield f"it does not say why: {ending.said.strip()[-1500:]}"
