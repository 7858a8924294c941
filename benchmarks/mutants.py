"""HumanEval problems, and solutions of them with one planted fault.

A solution is first rewritten by `ast.unparse` (one statement a line), then one node of its syntax
tree is changed and the tree written out again. This shares no code with the trial edits of
`text2grad.localisation`: the choice of faults must not be the choice of remedies.
"""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from text2grad.human_eval import human_eval_rows

KINDS = ("operator", "constant", "condition", "off by one", "return", "missing line")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod)
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Expr, ast.Return, ast.Break, ast.Continue)


@dataclass(frozen=True)
class Problem:
    """One HumanEval problem.

    Attributes:
        number: of the task.
        solution: the canonical one, with the prompt's own definitions.
        test: its tests as a file of one test function.
    """

    number: int
    solution: str
    test: str


@dataclass(frozen=True)
class Mutant:
    """A solution with one planted fault.

    Attributes:
        problem: what it should solve.
        kind: one of `KINDS`.
        code: the faulty solution.
        lines: where the fault is; of a missing line the lines of code before and after the gap.
    """

    problem: Problem
    kind: str
    code: str
    lines: frozenset[int]

    @property
    def code_lines(self) -> frozenset[int]:
        """Its lines of code."""
        return frozenset(_code_lines(self.code))


def read_problems() -> list[Problem]:
    """The 164 problems, one statement a line; nothing of the package `human-eval` is run."""
    return [
        Problem(
            int(row["id"].rpartition("/")[2]),
            ast.unparse(ast.parse(row["solution"])) + "\n",
            row["test"],
        )
        for row in human_eval_rows("test")
    ]


def plant_faults(problem: Problem, seed: int) -> list[Mutant]:
    """One fault of each kind, where the solution has a place for it; the same for the same seed."""
    mutants = []
    for kind in KINDS:
        chance = random.Random(f"{seed}/{problem.number}/{kind}")
        tree = ast.parse(problem.solution)
        entry = [node for node in tree.body if isinstance(node, ast.FunctionDef)][-1]
        sites = list(_SITES[kind](entry, chance))
        if sites:
            line, change = chance.choice(sites)
            mutant = _write(problem, kind, tree, line, change)
            if mutant.code != problem.solution:
                mutants.append(mutant)
    return mutants


Site = tuple[int, Callable[[], None]]
"""line of the fault, and what plants it in the tree"""


def _write(
    problem: Problem, kind: str, tree: ast.Module, line: int, change: Callable[[], None]
) -> Mutant:
    change()
    code = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    if kind != "missing line":
        return Mutant(problem, kind, code, frozenset({line}))
    written = _code_lines(code)
    before = [n for n in written if n < line][-1:]
    after = [n for n in written if n >= line][:1]
    return Mutant(problem, kind, code, frozenset(before + after))


def _code_lines(code: str) -> list[int]:
    """Lines that are neither blank nor part of a docstring; comments are gone by now."""
    prose = set()
    for node in ast.walk(ast.parse(code)):
        if _is_text(node):
            prose |= set(range(node.lineno, node.end_lineno + 1))
    return [n for n, text in enumerate(code.splitlines(), 1) if text.strip() and n not in prose]


def _inside(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of the body of a function, with its docstring left out."""
    for statement in function.body:
        if not _is_text(statement):
            yield from ast.walk(statement)


def _set(node: ast.AST, field: str, value: object) -> Callable[[], None]:
    return lambda: setattr(node, field, value)


def _replace(owner: ast.AST, field: str, index: int | None, value: ast.AST) -> Callable[[], None]:
    if index is None:
        return _set(owner, field, value)
    return lambda: getattr(owner, field).__setitem__(index, value)


def _operators(function: ast.AST, chance: random.Random) -> Iterator[Site]:
    for node in _inside(function):
        if isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, _ARITHMETIC):
            other = chance.choice([kind for kind in _ARITHMETIC if not isinstance(node.op, kind)])
            yield node.lineno, _set(node, "op", other())
        elif isinstance(node, ast.BoolOp):
            yield node.lineno, _set(node, "op", ast.Or() if _is(node.op, ast.And) else ast.And())


def _constants(function: ast.AST, chance: random.Random) -> Iterator[Site]:
    for node in _inside(function):
        if not isinstance(node, ast.Constant):
            continue
        value = node.value
        if isinstance(value, bool):
            yield node.lineno, _set(node, "value", not value)
        elif isinstance(value, (int, float)):
            others = [value + d for d in (-3, -2, -1, 1, 2, 3)] + [0, 10 * value]
            yield node.lineno, _set(node, "value", chance.choice([o for o in others if o != value]))
        elif isinstance(value, str):
            others = ["", value[::-1], value.swapcase(), f"{value}x", value[1:]]
            others = [other for other in others if other != value]
            yield node.lineno, _set(node, "value", chance.choice(others))


def _conditions(function: ast.AST, chance: random.Random) -> Iterator[Site]:
    for node in _inside(function):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and _is(node.ops[0], *_ORDER):
            other = chance.choice([kind for kind in _ORDER if not _is(node.ops[0], kind)])
            yield node.lineno, _set(node, "ops", [other()])
        if isinstance(node, (ast.If, ast.While, ast.IfExp)):
            negated = ast.UnaryOp(ast.Not(), node.test)
            yield node.test.lineno, _set(node, "test", negated)


def _off_by_one(function: ast.AST, chance: random.Random) -> Iterator[Site]:
    for node in _inside(function):
        for owner, field, index, value in _bounds(node):
            operator = chance.choice([ast.Add, ast.Sub])()
            shifted = ast.BinOp(copy.deepcopy(value), operator, ast.Constant(1))
            yield value.lineno, _replace(owner, field, index, shifted)


def _bounds(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """Ends of ranges and slices, indices, and what is compared by order."""
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range":
        for index, argument in enumerate(node.args):
            yield node, "args", index, argument
    elif isinstance(node, ast.Slice):
        for field in ("lower", "upper"):
            if getattr(node, field) is not None:
                yield node, field, None, getattr(node, field)
    elif isinstance(node, ast.Subscript):
        if not isinstance(node.slice, (ast.Constant, ast.Tuple, ast.Slice)):
            yield node, "slice", None, node.slice
    elif isinstance(node, ast.Compare) and _is(node.ops[0], *_ORDER[:4]):
        yield node, "comparators", 0, node.comparators[0]


def _returns(function: ast.AST, chance: random.Random) -> Iterator[Site]:
    names = [argument.arg for argument in function.args.args]
    for node in _inside(function):
        if isinstance(node, ast.Return) and node.value is not None:
            others: list[ast.AST] = [
                ast.Constant(None),
                ast.UnaryOp(ast.Not(), node.value),
                ast.BinOp(node.value, ast.Add(), ast.Constant(1)),
                *(ast.Name(name, ast.Load()) for name in names),
            ]
            yield node.lineno, _set(node, "value", chance.choice(others))


def _missing(function: ast.AST, chance: random.Random) -> Iterator[Site]:
    for owner in (function, *_inside(function)):
        for field in ("body", "orelse"):
            block = getattr(owner, field, None)
            if not isinstance(block, list):
                continue
            code = [n for n, statement in enumerate(block) if not _is_text(statement)]
            for index in code if len(code) > 1 else []:
                if isinstance(block[index], _SIMPLE):
                    yield block[index].lineno, _remove(block, index)


def _remove(block: list[ast.stmt], index: int) -> Callable[[], None]:
    return lambda: block.pop(index)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is(node: ast.AST, *kinds: type) -> bool:
    return isinstance(node, kinds)


_SITES: dict[str, Callable[[ast.AST, random.Random], Iterator[Site]]] = {
    "operator": _operators,
    "constant": _constants,
    "condition": _conditions,
    "off by one": _off_by_one,
    "return": _returns,
    "missing line": _missing,
}


def shuffle(mutants: Sequence[Mutant], seed: int) -> list[Mutant]:
    """The mutants in an order that the seed decides."""
    return random.Random(seed).sample(mutants, len(mutants))
