"""Whether what the tests rely on is still what it was before the tested code was loaded."""

from __future__ import annotations

import builtins
import sys
from types import ModuleType
from typing import Any

# Modules whose functions tests compare with; loaded early so that they can be watched.
WATCHED = {
    *("math", "cmath", "operator", "itertools", "functools", "collections", "re", "json", "random"),
    *("string", "datetime", "time", "decimal", "fractions", "statistics", "copy", "types", "io"),
    *("typing", "contextlib", "unittest", "numpy"),
}
_PREFIXES = ("_pytest", "pytest", "unittest", "pluggy")


class Guard:
    """Remembers every function and class of the watched modules.

    Args:
        imports: top-level names of the modules that the test file imports.
        assigned: attribute names that the test file itself assigns to; those are not watched.
    """

    def __init__(self, imports: set[str], assigned: set[str]) -> None:
        names = [name for name in sys.modules if name.split(".")[0] in _PREFIXES]
        names += [name for name in imports & WATCHED if name in sys.modules]
        modules = [builtins, *(sys.modules[name] for name in names)]
        self.assigned = assigned
        self.seen = [(module, _callables(vars(module))) for module in modules]
        for module in modules[1:]:
            for value in list(vars(module).values()):
                if isinstance(value, type) and value.__module__ == module.__name__:
                    self.seen.append((value, _callables(vars(value))))

    def changes(self) -> list[str]:
        """Names that were replaced since."""
        return [
            f"{owner.__name__}.{name}"
            for owner, before in self.seen
            for name, value in before.items()
            if vars(owner).get(name) is not value and name not in self.assigned
        ]


def _callables(names: Any) -> dict[str, Any]:
    return {name: value for name, value in list(names.items()) if callable(value)}


def lend_builtins() -> ModuleType:
    """A copy of `builtins` for the tested code, put in the real one's place in `sys.modules`.

    `import builtins; builtins.len = ...` then changes what the solution sees and nothing else:
    not the tests, not pytest, not the harness. A test that patches `builtins.input` reaches the
    solution as before.
    """
    lent = ModuleType("builtins", builtins.__doc__)
    vars(lent).update(vars(builtins))
    sys.modules["builtins"] = lent
    return lent
