"""Which statements of a test function a check depends on, by the names they share."""

from __future__ import annotations

import ast


class Step:
    """One statement of a test function: a check, or what lies between checks.

    Attributes:
        number: place in the file's list of steps.
        line, source: where it stands and its text.
        function: number of the function it belongs to.
        path: the blocks around it, outermost first.
        resets: each execution starts its coverage anew (else it adds up, as in a loop that builds
            what is checked after it).
        is_check: it has an outcome.
        operator, flipped: of a comparison; flipped if the expected side is the left one.
        needs: numbers of the steps whose effects it sees.
    """

    __slots__ = (
        "binds", "flipped", "function", "is_check", "kills", "line", "loads", "needs", "number",
        "operator", "path", "resets", "source",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        line: int,
        source: str,
        function: int = 0,
        path: tuple = (),
        resets: bool = True,
    ) -> None:
        self.number, self.line, self.source = number, line, source
        self.function, self.path, self.resets = function, path, resets
        self.is_check = self.flipped = self.kills = False
        self.operator = ""
        self.binds: set[str] = set()
        self.loads: set[str] = set()
        self.needs: tuple[int, ...] = ()

    def read(self, node: ast.stmt) -> None:
        """Take over the names that a statement binds and reads (of a compound one, its header)."""
        parts: list[ast.AST] = [node]
        if isinstance(node, (ast.If, ast.While)):
            parts = [node.test]
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            parts = [node.target, node.iter]
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            parts = [*node.items]
        elif isinstance(node, ast.Match):
            parts = [node.subject]
        for part in parts:
            self.binds |= names_in(part, ast.Store)
            self.loads |= names_in(part, ast.Load)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self.binds = {node.name}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            self.binds = {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        plain = isinstance(node, ast.Assign) and all(
            isinstance(target, ast.Name) for target in node.targets
        )
        self.kills = plain and not self.binds & self.loads


def names_in(node: ast.AST, context: type[ast.expr_context]) -> set[str]:
    """Names that are read (`ast.Load`) or bound (`ast.Store`) in a piece of the tree."""
    return {
        part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Name) and isinstance(part.ctx, context)
    }


def link_steps(steps: list[Step], bound: set[str]) -> None:
    """Fill `needs` of the checks among the steps of one function.

    A backward walk over the names: a statement that binds a name the check reads, or mentions an
    object it reads (`stack.push(1)`), belongs to it, and so do the names that statement reads. A
    plain assignment that always runs before the check ends the search for its name.

    Args:
        steps: in the order of the source.
        bound: names that are the function's own; others (the tested function) tie nothing.

    Example: `r = f(1)`, `assert r`, `r = f(2)`, `assert r`: the second assertion needs the second
    assignment only.
    """
    for place, check in enumerate(steps):
        if check.is_check:
            wanted = check.loads & bound
            needs = []
            for step in reversed(steps[:place]):
                mentions = not step.binds and not step.is_check and step.loads & wanted
                if not (step.binds & wanted or mentions):
                    continue
                needs.append(step.number)
                if step.kills and step.path == check.path[: len(step.path)]:
                    wanted -= step.binds
                wanted |= step.loads & bound
            check.needs = tuple(needs)
