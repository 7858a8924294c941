"""Trial edits of whole statements: left out, moved in or out of a block, or one put in a gap."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

from text2grad.localisation.edits import Edit
from text2grad.localisation.syntax import LOOPS, Source, Statement, local_names

_JUMPS = {ast.Break: ("continue", "pass"), ast.Continue: ("break", "pass"), ast.Pass: ("break",)}
_MOST_NAMES = 6
_FRESH = ("0", "1", "[]", "''", "{}", "set()", "None", "True", "False")


def statement_edits(source: Source, statement: Statement) -> Iterator[Edit]:
    """The statement left out, another jump in its place, or the statement one block further out."""
    start, end = statement.start, statement.end
    if statement.is_definition:
        return
    for jump in _JUMPS.get(type(statement.node), ()):
        yield Edit(statement, start, end, jump, f"`{jump}` in its place", 0.9)
    if statement.is_compound:
        return
    yield Edit(statement, start, end, "pass", "this statement left out", 0.7)
    moved = _moved_out(source, statement)
    if moved:
        yield moved


@dataclass(frozen=True)
class Symptoms:
    """What the failing checks tell of a statement that may be missing.

    Attributes:
        undefined: a name that was used before it had a value, "" for none.
        fell_off: a check came to the end of a function without a `return`.
        endless: a check ran out of time.
    """

    undefined: str = ""
    fell_off: bool = False
    endless: bool = False


def insertions(source: Source, symptoms: Symptoms = Symptoms()) -> Iterator[Edit]:
    """One statement more, in each gap between the statements of a function.

    Args:
        source: the solution.
        symptoms: say which statements are likely.
    """
    functions = dict.fromkeys(s.function for s in source.statements if s.function)
    for function in functions:
        inside = source.function_statements(function)
        names = _Names(source, function, symptoms)
        for statement in inside:
            if statement.is_compound or not source.starts_line(statement):
                continue
            yield from _fill(source, names, statement, before=False)
        for block in {id(s.block): s for s in reversed(inside)}.values():
            if source.starts_line(block):
                yield from _fill(source, names, block, before=True)
        for statement in inside:
            if statement.is_compound and _can_follow(statement):
                yield from _fill_after_block(source, names, statement)


@dataclass(frozen=True)
class _Gap:
    """A place for one statement more: inside a loop, first or last of its function, or neither."""

    in_loop: bool
    is_first: bool
    is_last: bool


@dataclass
class _Names:
    """The variables of a function by what they hold, as far as its text tells."""

    source: Source
    function: ast.AST
    symptoms: Symptoms
    parameters: list[str] = field(init=False)
    bound: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters, self.bound = local_names(self.source, self.function)

    @cached_property
    def assigned(self) -> dict[str, list[ast.AST]]:
        """The values that plain assignments give to each name."""
        found: dict[str, list[ast.AST]] = {}
        for statement in self.source.function_statements(self.function):
            node = statement.node
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found.setdefault(node.targets[0].id, []).append(node.value)
        return found

    def holding(self, *kinds: type) -> list[str]:
        """Names that are somewhere given a value of such a kind."""
        return [
            name
            for name, values in self.assigned.items()
            if any(_kind(value) in kinds for value in values)
        ][:_MOST_NAMES]

    @cached_property
    def all(self) -> list[str]:
        """Names of the function, those bound in it first."""
        return [*self.bound, *self.parameters][: 2 * _MOST_NAMES]

    def statements(self, gap: _Gap) -> Iterator[tuple[str, float]]:
        """What may stand in a gap, with its plausibility."""
        missing = self.symptoms.undefined
        if missing:
            for value in (*_FRESH, *(name for name in self.all if name != missing)):
                yield f"{missing} = {value}", 1.0
            return
        yield from self._changes(gap)
        if gap.in_loop:
            yield "break", 0.9 if self.symptoms.endless else 0.7
            yield "continue", 0.7
        returns = 1.0 if self.symptoms.fell_off and gap.is_last else 0.8
        for name in self.all[:_MOST_NAMES]:
            yield f"return {name}", returns
        for value in ("True", "False", "0", "-1", "[]", "''"):
            yield f"return {value}", returns
        if gap.is_first:
            yield from self._guards()

    def _changes(self, gap: _Gap) -> Iterator[tuple[str, float]]:
        counting = 1.0 if self.symptoms.endless and gap.in_loop else 0.9
        held = self.holding(list, set, dict)
        values = [name for name in self.all if name not in held][:_MOST_NAMES]
        for name in self.holding(int, float):
            yield f"{name} += 1", counting
            yield f"{name} -= 1", counting - 0.1
        for value in values:
            for name in self.holding(list):
                yield f"{name}.append({value})", 0.9
            for name in self.holding(set):
                yield f"{name}.add({value})", 0.9
            for name in self.holding(dict):
                yield f"{name}[{value}] = {name}.get({value}, 0) + 1", 0.7
        for name, given in self.assigned.items():
            for value in {ast.unparse(v): None for v in given if _kind(v)}:
                yield f"{name} = {value}", 0.8
        for name, value in product(self.bound[:4], self.all[:4]):
            if value != name:
                yield f"{name} = {value}", 0.7
                yield f"{name} += {value}", 0.7

    def _guards(self) -> Iterator[tuple[str, float]]:
        for name in self.parameters[:3]:
            for value in ("[]", "0", "''", "False", "True", "None", "{}", "-1"):
                yield f"if not {name}: return {value}", 0.6


def _fill(source: Source, names: _Names, at: Statement, before: bool) -> Iterator[Edit]:
    """Statements before or after one that has a line of its own."""
    place = at.block.index(at.node)
    other = None if before else _neighbour(source, at, place + 1)
    in_loop = any(isinstance(parent.node, LOOPS) for parent in at.parents)
    gap = _Gap(in_loop, before and not at.parents, not (before or at.parents or other))
    indentation = source.indentation(at)
    character = source.line_starts[at.first - 1 if before else at.last]
    side = "before" if before else "after"
    for text, plausibility in names.statements(gap):
        note = f"`{text}` {side} it"
        inserted = f"{indentation}{text}\n"
        if character and source.text[character - 1] not in "\r\n":
            inserted = f"\n{inserted}"
        yield Edit(at, character, character, inserted, note, plausibility, other)


def _fill_after_block(source: Source, names: _Names, header: Statement) -> Iterator[Edit]:
    """Statements after a compound statement, on the level of its header."""
    last_line = header.node.end_lineno
    character = source.line_starts[last_line]
    place = header.block.index(header.node)
    last = source.statement_at(last_line) or header
    after = _neighbour(source, header, place + 1)
    in_loop = any(isinstance(parent.node, LOOPS) for parent in header.parents)
    gap = _Gap(in_loop, False, not (header.parents or after))
    for text, plausibility in names.statements(gap):
        inserted = f"{source.indentation(header)}{text}\n"
        if source.text[character - 1] not in "\r\n":
            inserted = f"\n{inserted}"
        note = f"`{text}` after the block that ends here"
        yield Edit(last, character, character, inserted, note, plausibility, after or header)


def _neighbour(source: Source, statement: Statement, place: int) -> Statement | None:
    if place >= len(statement.block):
        return None
    node = statement.block[place]
    return next((s for s in source.statements if s.node is node), None)


def _can_follow(header: Statement) -> bool:
    """Whether a statement may stand after the block; `elif` and `except` are parts of another."""
    return isinstance(header.node, ast.stmt) and header.node in header.block


def _moved_out(source: Source, statement: Statement) -> Edit | None:
    """The last statement of a block, one level further out."""
    if not statement.parents or statement.block[-1] is not statement.node:
        return None
    outer = statement.parents[-1]
    if not source.starts_line(statement) or not source.starts_line(outer):
        return None
    if len(statement.block) == 1 or outer.node.end_lineno != statement.last:
        return None
    start = source.line_starts[statement.first - 1]
    text = source.indentation(outer) + source.text[statement.start : statement.end]
    return Edit(statement, start, statement.end, text, "this statement one block further out", 0.9)


def _kind(value: ast.AST) -> type | None:
    """What a literal is; None for anything else."""
    if isinstance(value, (ast.List, ast.ListComp)):
        return list
    if isinstance(value, (ast.Dict, ast.DictComp)):
        return dict
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and not value.args:
        return {"list": list, "set": set, "dict": dict, "defaultdict": dict}.get(value.func.id)
    if isinstance(value, ast.Constant) and type(value.value) in (int, float, str):
        return type(value.value)
    return None
