"""Small trial edits inside one statement: another operator, constant, bound, name or condition."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from text2grad.localisation.meanings import (
    MEMBER,
    NEAR,
    ORDER,
    SIBLINGS,
    SYMBOL,
    constants,
    other_operators,
)
from text2grad.localisation.syntax import LOOPS, Source, Statement, local_names

_NO_NUMBER = (
    *(ast.Compare, ast.BoolOp, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda, ast.Starred),
    *(ast.Slice, ast.Constant),
)
_ATOMS = (ast.Name, ast.Call, ast.Subscript, ast.Attribute, ast.Constant)


@dataclass(frozen=True)
class Edit:
    """One change of a solution's text.

    Attributes:
        statement: the statement it blames.
        start, end: characters that are replaced.
        text: what replaces them.
        note: the change in words, to follow "with".
        plausibility: in (0, 1]; how far it tells that the statement is at fault if it mends it.
        other: where code is missing, the statement on the other side of the gap.
    """

    statement: Statement
    start: int
    end: int
    text: str
    note: str
    plausibility: float
    other: Statement | None = None

    @property
    def is_new_line(self) -> bool:
        """Whether it puts in a statement and changes none."""
        return self.start == self.end and "\n" in self.text

    def apply(self, text: str) -> str:
        """The changed text."""
        return text[: self.start] + self.text + text[self.end :]


Change = tuple[ast.AST | tuple[int, int], str, float]


def expression_edits(source: Source, statement: Statement) -> Iterator[Edit]:
    """Changes of the expressions of one statement; a compound one is changed in its header."""
    finder = _Finder(source, statement)
    for node in _walk_expressions(statement.node):
        for place, text, plausibility in finder.changes(node):
            start, end = place if isinstance(place, tuple) else source.place(place)
            if not (statement.start <= start <= end <= statement.end):
                continue
            old = source.text[start:end]
            if text == old:
                continue
            note = f"`{_short(text)}` in place of `{_short(old)}`"
            yield Edit(statement, start, end, text, note, plausibility)


class _Finder:
    """The changes of each kind of node, in the statement it stands in."""

    def __init__(self, source: Source, statement: Statement) -> None:
        self.source, self.statement = source, statement
        parameters, bound = local_names(source, statement.function)
        self.names = [*parameters, *bound]
        self.strings = constants(source, str)
        self.numbers = constants(source, int)

    def changes(self, node: ast.AST) -> Iterator[Change]:
        find = getattr(self, f"_{type(node).__name__.lower()}", None)
        if find:
            yield from find(node)

    def _binop(self, node: ast.BinOp) -> Iterator[Change]:
        symbol = SYMBOL.get(type(node.op), "")
        for other, plausibility in other_operators(symbol):
            yield self._token_between(node.left, node.right, symbol), other, plausibility
        for operand in (node.left, node.right):
            yield node, self._text(operand), 0.7
        if isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)):
            yield from self._swap(node.left, node.right)

    def _augassign(self, node: ast.AugAssign) -> Iterator[Change]:
        symbol = SYMBOL.get(type(node.op), "@")
        place = self._token_between(node.target, node.value, f"{symbol}=")
        for other, plausibility in other_operators(symbol):
            yield place, f"{other}=", plausibility
        yield place, "=", 0.9
        yield from self._shifted(node.value, 0.9)

    def _compare(self, node: ast.Compare) -> Iterator[Change]:
        lefts = [node.left, *node.comparators]
        for left, operator, right in zip(lefts, node.ops, node.comparators, strict=False):
            symbol = SYMBOL[type(operator)]
            if symbol in ORDER:
                place = self._token_between(left, right, symbol)
                near = NEAR[symbol]
                yield place, near, 1.0
                for other in ORDER:
                    if other not in (symbol, near):
                        yield place, other, 0.9
                yield from self._shifted(right, 0.9)
            elif symbol in ("in", "is"):
                yield self._token_between(left, right, symbol), MEMBER[symbol], 1.0
            else:
                first, _ = self._token_between(left, right, symbol.split()[0])
                _, last = self._token_between(left, right, symbol.split()[1])
                yield (first, last), MEMBER[symbol], 1.0
        if len(node.ops) == 1 and not isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
            yield from self._swap(node.left, node.comparators[0])

    def _boolop(self, node: ast.BoolOp) -> Iterator[Change]:
        symbol = SYMBOL[type(node.op)]
        other = "or" if symbol == "and" else "and"
        for left, right in pairwise(node.values):
            yield self._token_between(left, right, symbol), other, 1.0
        for value in node.values:
            yield node, self._text(value), 0.8
            yield value, f"not ({self._text(value)})", 0.8

    def _unaryop(self, node: ast.UnaryOp) -> Iterator[Change]:
        yield node, self._text(node.operand), 1.0

    def _constant(self, node: ast.Constant) -> Iterator[Change]:
        value = node.value
        if isinstance(value, bool):
            yield node, str(not value), 1.0
        elif isinstance(value, (int, float)):
            yield from self._number(node, value)
        elif isinstance(value, str):
            cases = (value.lower(), value.upper(), value.capitalize(), value.swapcase())
            cuts = (value[1:], value[:-1], value[::-1], "", " ")
            for other in dict.fromkeys((*cases, *cuts, *self.strings)):
                if other != value:
                    yield node, repr(other), 0.8
        elif value is None:
            for other in ("True", "False", "0", "[]", "''", "-1"):
                yield node, other, 0.7

    def _number(self, node: ast.Constant, value: int | float) -> Iterator[Change]:
        """The neighbours, then what else is commonly meant, then other numbers of the solution."""
        near = (value + 1, value - 1)
        others = (0, 1, 2, -value, value * 2, value / 2, value / 10, value + 2, value - 2)
        for other in dict.fromkeys((*near, *others, *self.numbers)):
            if isinstance(value, int) and int(other) == other:
                other = int(other)
            if other != value and (isinstance(value, float) or isinstance(other, int)):
                text = f"({other!r})" if other < 0 else repr(other)
                yield node, text, 1.0 if other in near else 0.8

    def _name(self, node: ast.Name) -> Iterator[Change]:
        if not isinstance(node.ctx, ast.Load):
            return
        for other in SIBLINGS.get(node.id, ()):
            yield node, other, 0.9
        if node.id in self.names:
            others = [name for name in self.names if name != node.id]
            for name in others[:8]:
                yield node, name, 0.7

    def _attribute(self, node: ast.Attribute) -> Iterator[Change]:
        _, end = self.source.place(node)
        for other in SIBLINGS.get(node.attr, ()):
            yield (end - len(node.attr), end), other, 0.9

    def _subscript(self, node: ast.Subscript) -> Iterator[Change]:
        index = node.slice
        if not isinstance(index, ast.Slice):
            yield from self._shifted(index, 0.9)
            return
        for bound in (index.lower, index.upper, index.step):
            if bound is not None:
                yield from self._shifted(bound, 0.9)
                yield bound, "", 0.8
        start, end = self.source.place(index)
        if index.lower is None:
            yield (start, start), "1", 0.8
        if index.upper is None and index.step is None and self.source.text[end - 1] == ":":
            yield (end, end), "-1", 0.8

    def _call(self, node: ast.Call) -> Iterator[Change]:
        arguments = [a for a in node.args if not isinstance(a, ast.Starred)]
        for left, right in pairwise(arguments):
            yield from self._swap(left, right)
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            for argument in arguments:
                yield from self._shifted(argument, 1.0)
            if len(arguments) == 1:
                start, _ = self.source.place(arguments[0])
                yield (start, start), "1, ", 0.9
            elif len(arguments) == 2:
                yield arguments[0], "0", 0.8
        elif len(arguments) == 1 and isinstance(node.func, ast.Name):
            yield node, self._text(arguments[0]), 0.7
            yield from self._shifted(arguments[0], 0.7)

    def _if(self, node: ast.If) -> Iterator[Change]:
        yield from self._condition(node.test)

    _while = _ifexp = _if

    def _comprehension(self, node: ast.comprehension) -> Iterator[Change]:
        for test in node.ifs:
            yield from self._condition(test)
        yield from self._shortened(node.iter)

    def _for(self, node: ast.For) -> Iterator[Change]:
        yield from self._shortened(node.iter)

    def _return(self, node: ast.Return) -> Iterator[Change]:
        if node.value is None:
            for name in self.names[:8]:
                yield node, f"return {name}", 0.9
            return
        text = self._text(node.value)
        yield from self._shifted(node.value, 0.9)
        yield node.value, f"not ({text})", 0.9
        yield node.value, f"-({text})", 0.8
        if not isinstance(node.value, (ast.Constant, ast.Compare, ast.BoolOp)):
            for wrap in ("sorted", "list", "str", "int", "abs", "len", "tuple"):
                yield node.value, f"{wrap}({text})", 0.8
            yield node.value, f"({text})[::-1]", 0.8
        if not isinstance(node.value, ast.Name):
            for name in self.names[:8]:
                yield node.value, name, 0.7
        for constant in ("True", "False", "None", "0", "[]", "''"):
            yield node.value, constant, 0.6

    def _assign(self, node: ast.Assign) -> Iterator[Change]:
        yield from self._shifted(node.value, 0.8)
        if isinstance(node.targets[0], ast.Name) and len(node.targets) == 1:
            place = self._token_between(node.targets[0], node.value, "=")
            yield place, "+=", 0.9
        if isinstance(node.value, ast.Constant):
            for constant in ("[]", "''", "{}", "0", "True", "None", "float('inf')"):
                yield node.value, constant, 0.6

    def _keyword(self, node: ast.keyword) -> Iterator[Change]:
        if isinstance(node.value, ast.Name) and node.arg == "key":
            yield node.value, "None", 0.7

    def _condition(self, test: ast.AST) -> Iterator[Change]:
        text = self._text(test)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yield test, self._text(test.operand), 1.0
        else:
            yield test, f"not ({text})", 0.85 if isinstance(test, ast.Compare) else 0.9
        if not isinstance(self.statement.node, LOOPS):
            yield test, "True", 0.6
        yield test, "False", 0.6

    def _shortened(self, iterated: ast.AST) -> Iterator[Change]:
        """The loop without its first or its last item, or backwards."""
        if isinstance(iterated, (ast.Name, ast.Subscript, ast.Attribute)):
            text = self._text(iterated)
            for cut, plausibility in (("[1:]", 0.8), ("[:-1]", 0.8), ("[::-1]", 0.8)):
                yield iterated, text + cut, plausibility

    def _shifted(self, value: ast.AST, plausibility: float) -> Iterator[Change]:
        """One more and one less; constants have their own changes."""
        if isinstance(value, _NO_NUMBER) or isinstance(getattr(value, "op", None), ast.Not):
            return
        text = self._text(value)
        text = text if isinstance(value, (*_ATOMS, ast.BinOp)) else f"({text})"
        yield value, f"{text} + 1", plausibility
        yield value, f"{text} - 1", plausibility

    def _swap(self, left: ast.AST, right: ast.AST) -> Iterator[Change]:
        start, left_end = self.source.place(left)
        right_start, end = self.source.place(right)
        between = self.source.text[left_end:right_start]
        yield (start, end), f"{self._text(right)}{between}{self._text(left)}", 0.9

    def _token_between(self, left: ast.AST, right: ast.AST, symbol: str) -> tuple[int, int]:
        first, last = self.source.place(left)[1], self.source.place(right)[0]
        tokens = self.source.tokens
        return next((a, b) for text, a, b in tokens if text == symbol and first <= a < last)

    def _text(self, node: ast.AST) -> str:
        return self.source.segment(node)


def _walk_expressions(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's own expressions; those inside f-strings have no reliable place."""
    yield node
    for child in ast.iter_child_nodes(node):
        is_statement = isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case))
        if not is_statement and not isinstance(child, (ast.JoinedStr, ast.arguments)):
            yield from _walk_expressions(child)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:37]}..."
