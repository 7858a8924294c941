"""A solution as statements with places in its text, and what each reads, writes and depends on."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

Place = tuple[int, int]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
SCOPES = (*FUNCTIONS, ast.Lambda, ast.ClassDef)
_MOST_STEPS = 8
# Methods that change the object they are called on.
MUTATORS = frozenset(
    {
        *("add", "append", "appendleft", "clear", "discard", "extend", "insert"),
        *("pop", "popleft", "popitem", "remove", "reverse", "setdefault", "sort"),
        *("update"),
    }
)
_NO_CODE = frozenset(
    {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
)


@dataclass(frozen=True, eq=False)
class Statement:
    """One statement, or the header of one that has a body.

    Attributes:
        node: its syntax tree (an `except` clause counts as a statement).
        start, end: characters of the text; of a compound statement only its header.
        first, last: the same in lines, 1-based, both included.
        function: the function it is in, None at module level; a `def` is outside of itself.
        parents: the compound statements around it inside `function`, outermost first.
        block: the statements it stands among.
    """

    node: ast.stmt | ast.ExceptHandler
    start: int
    end: int
    first: int
    last: int
    function: ast.FunctionDef | ast.AsyncFunctionDef | None
    parents: tuple[Statement, ...]
    block: Sequence[ast.AST]

    @property
    def place(self) -> Place:
        """Its characters."""
        return self.start, self.end

    @property
    def is_compound(self) -> bool:
        """Whether it has a body."""
        return hasattr(self.node, "body")

    @property
    def is_definition(self) -> bool:
        """A `def`, `class` or import: faults are sought there only if an error names it."""
        kinds = (*FUNCTIONS, ast.ClassDef, ast.Import, ast.ImportFrom)
        return isinstance(self.node, kinds)

    @cached_property
    def own_nodes(self) -> tuple[ast.AST, ...]:
        """The nodes of the statement without those of the statements in its body."""
        return tuple(_own_nodes(self.node))

    @cached_property
    def reads(self) -> frozenset[str]:
        """Names whose value it uses."""
        loads = {n.id for n in self.own_nodes if isinstance(n, ast.Name) and not _is_store(n)}
        if isinstance(self.node, ast.AugAssign) and isinstance(self.node.target, ast.Name):
            loads.add(self.node.target.id)
        return frozenset(loads)

    @cached_property
    def writes(self) -> frozenset[str]:
        """Names it binds or whose object it changes (`x[i] = 1`, `x.append(1)`)."""
        return frozenset(bound_names(self.own_nodes))


class Source:
    """The text of a solution with its syntax tree.

    Attributes:
        text: as it was given; every place is in its characters.
        tree: the syntax tree.

    Raises:
        SyntaxError, ValueError: the text is no Python.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = ast.parse(text)

    @cached_property
    def lines(self) -> list[str]:
        """Its lines as Python counts them, with their ends."""
        return re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+", self.text)

    @cached_property
    def line_starts(self) -> list[int]:
        """The character at which each line starts, and one entry for the end of the text."""
        starts = [0]
        for line in self.lines:
            starts.append(starts[-1] + len(line))
        return starts

    @cached_property
    def tokens(self) -> list[tuple[str, int, int]]:
        """(text, start, end) of each token that is code; comments and line ends left out."""
        found = []
        for token in tokenize.generate_tokens(io.StringIO(self.text, newline="").readline):
            if token.type not in _NO_CODE:
                start, end = (
                    self.line_starts[row - 1] + column for row, column in (token.start, token.end)
                )
                found.append((token.string, start, end))
        return found

    def place(self, node: ast.AST) -> Place:
        """Characters of a node."""
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno, node.end_col_offset),
        )

    def segment(self, node: ast.AST) -> str:
        """Text of a node."""
        start, end = self.place(node)
        return self.text[start:end]

    def line_of(self, character: int) -> int:
        """1-based line of a character."""
        return min(bisect_right(self.line_starts, character), len(self.lines))

    def indentation(self, statement: Statement) -> str:
        """White space at the start of a statement's line."""
        line = self.lines[statement.first - 1]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def starts_line(self, statement: Statement) -> bool:
        """Whether nothing but white space stands before it on its line."""
        return not self.text[self.line_starts[statement.first - 1] : statement.start].strip()

    @cached_property
    def statements(self) -> list[Statement]:
        """All statements in the order of the text; docstrings are left out."""
        found = list(self._walk(self.tree.body, None, ()))
        return sorted(found, key=lambda statement: statement.start)

    @cached_property
    def code_lines(self) -> frozenset[int]:
        """Lines with code: neither blank, nor comment, nor docstring."""
        prose = set()
        for node in ast.walk(self.tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                prose |= set(range(body[0].lineno, body[0].end_lineno + 1))
        lines = set()
        for _, start, end in self.tokens:
            lines |= set(range(self.line_of(start), self.line_of(end - 1) + 1))
        return frozenset(lines - prose)

    def statement_at(self, line: int) -> Statement | None:
        """The innermost statement whose quotable part covers a line."""
        around = [s for s in self.statements if s.first <= line <= s.last]
        return max(around, key=lambda s: (len(s.parents), s.start), default=None)

    def function_statements(self, function: ast.AST | None) -> list[Statement]:
        """Statements directly in a function, without those of functions inside it."""
        return [s for s in self.statements if s.function is function]

    def _offset(self, line: int, column: int) -> int:
        # The syntax tree counts columns in bytes of UTF-8.
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        if not text.isascii():
            column = len(text.encode("utf-8")[:column].decode("utf-8", "ignore"))
        return self.line_starts[line - 1] + column

    def _walk(
        self, block: Sequence[ast.AST], function: ast.AST | None, parents: tuple[Statement, ...]
    ) -> Iterator[Statement]:
        for node in block:
            if _is_text(node):
                continue
            start, end = self.place(node)
            inner = _blocks(node)
            if inner:
                cases = getattr(node, "cases", ())
                end = self._header_end(start, cases[0].pattern if cases else inner[0][0])
            first, last = self.line_of(start), self.line_of(max(start, end - 1))
            statement = Statement(node, start, end, first, last, function, parents, block)
            if not isinstance(node, ast.Try):
                yield statement
            is_function = isinstance(node, FUNCTIONS)
            around = () if is_function else (*parents, statement)
            for body in inner:
                yield from self._walk(body, node if is_function else function, around)

    def _header_end(self, start: int, first_inside: ast.AST) -> int:
        body = self.place(first_inside)[0]
        if getattr(first_inside, "decorator_list", None):
            body = self.place(first_inside.decorator_list[0])[0]
        first = bisect_left(self.tokens, start, key=lambda token: token[1])
        last = bisect_left(self.tokens, body, key=lambda token: token[1])
        colons = [end for text, _, end in self.tokens[first:last] if text == ":"]
        return colons[-1] if colons else body


def feeding(source: Source, statement: Statement) -> dict[Statement, int]:
    """The statements whose values or decisions reach a statement inside its function.

    Returns:
        Each with its distance: 1 for an assignment of a name it reads or a header around it, 2 for
        what feeds those, and so on up to 8.
    """
    local = source.function_statements(statement.function)
    distance: dict[Statement, int] = {}
    frontier, step = [statement], 0
    while frontier and step < _MOST_STEPS:
        step += 1
        wanted = frozenset().union(*(s.reads for s in frontier))
        around = {parent for s in frontier for parent in s.parents}
        reached = [
            other
            for other in local
            if other is not statement
            and other not in distance
            and (other.writes & wanted or other in around)
        ]
        distance |= dict.fromkeys(reached, step)
        frontier = reached
    return distance


def local_names(source: Source, function: ast.AST | None) -> tuple[list[str], list[str]]:
    """Parameters of a function, and the other names bound in it, both in the order of the text."""
    parameters = []
    if isinstance(function, FUNCTIONS):
        every = function.args
        given = [*every.posonlyargs, *every.args, every.vararg, *every.kwonlyargs, every.kwarg]
        parameters = [argument.arg for argument in given if argument is not None]
    bound = []
    for statement in source.function_statements(function):
        if statement.is_definition:
            continue
        for node in statement.own_nodes:
            if isinstance(node, ast.Name) and _is_store(node):
                bound.append(node.id)
    return parameters, [name for name in dict.fromkeys(bound) if name not in parameters]


def bound_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that are bound, or whose object is changed, by these nodes themselves."""
    for node in nodes:
        changed = None
        if isinstance(node, ast.Name) and _is_store(node):
            yield node.id
        elif isinstance(node, (ast.Subscript, ast.Attribute)) and _is_store(node):
            changed = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changed = node.func.value if node.func.attr in MUTATORS else None
        while isinstance(changed, (ast.Subscript, ast.Attribute)):
            changed = changed.value
        if isinstance(changed, ast.Name):
            yield changed.id


def _blocks(node: ast.AST) -> list[list[ast.AST]]:
    found = [getattr(node, name, None) for name in ("body", "handlers", "orelse", "finalbody")]
    found += [case.body for case in getattr(node, "cases", ())]
    return [block for block in found if isinstance(block, list) and block]


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's nodes; of a function or class only its decorators and defaults."""
    yield node
    for child in ast.iter_child_nodes(node):
        is_inner = isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case))
        if not (is_inner and isinstance(node, (ast.stmt, ast.ExceptHandler))):
            yield from _own_nodes(child)


def _is_store(node: ast.AST) -> bool:
    return isinstance(node.ctx, (ast.Store, ast.Del))


def _is_text(node: ast.AST) -> bool:
    """A string on its own: a docstring, or a comment written as one."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
