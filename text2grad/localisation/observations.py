"""What of working code could be better, found by rules that hold.

Every rule speaks only where the better code certainly does the same; where the text of the
function does not tell, it is silent.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from text2grad.localisation.kinds import Function, functions_of
from text2grad.localisation.loop_rules import (
    Found,
    index_only_loop,
    membership_in_list,
    queue_as_list,
    repeated_work,
    text_built_in_loop,
)
from text2grad.localisation.syntax import FUNCTIONS, Source, Statement

_ENDS = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_SAFE_BODY = (ast.Raise, ast.Yield, ast.YieldFrom, ast.Await, ast.Try, ast.With)


@dataclass(frozen=True)
class Observation:
    """One thing that could be better.

    Attributes:
        statement: where.
        rule: name of the rule.
        advice: what is so and what would be better, a clause without its full stop.
    """

    statement: Statement
    rule: str
    advice: str


def observe(source: Source, used_elsewhere: frozenset[str] = frozenset()) -> list[Observation]:
    """Every observation, in the order of the text, one per rule and statement.

    Args:
        source: the solution.
        used_elsewhere: names that other files may use of it, its tests above all.
    """
    found: dict[tuple[Statement, str], Observation] = {}

    def add(node: ast.AST, rule: str, advice: str) -> None:
        statement = source.statement_at(node.lineno)
        if statement is not None:
            found.setdefault((statement, rule), Observation(statement, rule, advice))

    for function in functions_of(source.tree):
        for rule, find in _RULES.items():
            for node, advice in find(function):
                add(node, rule, advice)
    for node, advice in _unused_imports(source.tree, used_elsewhere):
        add(node, "unused import", advice)
    return sorted(found.values(), key=lambda o: (o.statement.start, o.rule))


def _bare_except(function: Function) -> Found:
    """`except:` around code that only builtins run, so that only an interrupt is lost on it."""
    for node in ast.walk(function.node):
        if not isinstance(node, ast.Try):
            continue
        inside = [n for part in node.body for n in ast.walk(part)]
        calls = [n for n in inside if isinstance(n, ast.Call)]
        plain = all(function.kind(c) or function.is_builtin_call(c, "sum", "max") for c in calls)
        if not plain or any(isinstance(n, _SAFE_BODY) for n in inside):
            continue
        for handler in node.handlers:
            if handler.type is None:
                yield (
                    handler,
                    "a bare `except:` also swallows Ctrl-C and hides what went wrong; naming the "
                    "expected exception would not",
                )


def _unused_variable(function: Function) -> Found:
    """A value without side effects, given to a name that nothing reads."""
    for name, stores in function.stores.items():
        if name in function.loads or name in function.declared or name.startswith("_"):
            continue
        parents = [function.parents[store] for store in stores]
        plain = (
            isinstance(p, ast.Assign) and p.targets == [s]
            for p, s in zip(parents, stores, strict=True)
        )
        if all(plain) and all(_is_inert(parent.value) for parent in parents):
            yield from ((p, f"`{name}` is given a value that is never used") for p in parents)


def _is_inert(value: ast.AST) -> bool:
    """Whether computing it can neither do anything nor fail."""
    kinds = (ast.Constant, ast.List, ast.Dict, ast.Tuple, ast.Load)
    return all(isinstance(node, kinds) for node in ast.walk(value))


def _compared_to_constant(function: Function) -> Found:
    """`x == None`, `x == True` where x is no object with an equality of its own."""
    for node in ast.walk(function.node):
        if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
            continue
        value, operator = node.comparators[0], node.ops[0]
        if not isinstance(operator, (ast.Eq, ast.NotEq)) or not isinstance(value, ast.Constant):
            continue
        kind = function.kind(node.left)
        if value.value is None and kind:
            better = "is" if isinstance(operator, ast.Eq) else "is not"
            yield node, f"`{ast.unparse(node)}` should ask `{better} None`"
        elif isinstance(value.value, bool) and kind == "bool":
            yield (
                node,
                f"`{ast.unparse(node)}` compares a truth value with {value.value}; it can be used "
                "as it is",
            )


def _mutable_default(function: Function) -> Found:
    """A list, dict or set as default of a parameter that the function only looks at."""
    every = function.node.args
    positional = [*every.posonlyargs, *every.args]
    pairs = [
        *zip(positional[len(positional) - len(every.defaults) :], every.defaults, strict=True),
        *zip(every.kwonlyargs, every.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if isinstance(default, (ast.List, ast.Dict, ast.Set)) and argument.arg not in (
            function.stores
        ):
            loads = function.loads.get(argument.arg, [])
            if all(function.only_looks(load) for load in loads):
                yield (
                    default,
                    f"the default of `{argument.arg}` is one object shared by all calls; `None` or "
                    "a tuple cannot be changed by mistake",
                )


def _unreachable(function: Function) -> Found:
    """Statements after a `return`, `raise`, `break` or `continue` of the same block."""
    for owner in ast.walk(function.node):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(owner, field, None)
            if not isinstance(block, list):
                continue
            for before, after in pairwise(block):
                rest = block[block.index(after) :]
                if isinstance(before, _ENDS) and not any(map(_matters_unrun, rest)):
                    end = type(before).__name__.lower()
                    yield after, f"this never runs, it comes after a `{end}`"
                    break


def _matters_unrun(statement: ast.AST) -> bool:
    """Whether code that never runs still has an effect: a `yield`, or a name it makes local."""
    kinds = (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal, *FUNCTIONS, ast.ClassDef)
    imports = (ast.Import, ast.ImportFrom)
    return any(
        isinstance(node, (*kinds, *imports))
        or (isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load))
        for node in ast.walk(statement)
    )


def _branches_of_truth(function: Function) -> Found:
    """`if a < b: return True` `else: return False`, the condition being a truth value."""
    for node in ast.walk(function.node):
        if isinstance(node, ast.If) and len(node.body) == len(node.orelse) == 1:
            values = [_returned_truth(branch[0]) for branch in (node.body, node.orelse)]
            if values == [True, False] and function.kind(node.test) == "bool":
                yield node, "both branches only repeat the condition, which can be returned itself"


def _returned_truth(node: ast.AST) -> bool | None:
    is_constant = isinstance(node, ast.Return) and isinstance(node.value, ast.Constant)
    return node.value.value if is_constant and isinstance(node.value.value, bool) else None


def _unused_imports(tree: ast.Module, used_elsewhere: frozenset[str]) -> Found:
    """A module of the standard library that neither the solution nor its tests name."""
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | used_elsewhere
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    used |= {word for text in texts if isinstance(text, str) for word in re.findall(r"\w+", text)}
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        module = getattr(node, "module", None) or node.names[0].name
        is_plain = module.split(".")[0] in sys.stdlib_module_names - {"__future__", "antigravity"}
        names = [alias.asname or alias.name.split(".")[0] for alias in node.names]
        if is_plain and "*" not in names and not set(names) & used:
            yield node, f"`{', '.join(names)}` is imported and never used"


_RULES: dict[str, Callable[[Function], Found]] = {
    "membership in a list": membership_in_list,
    "text built in a loop": text_built_in_loop,
    "index-only loop": index_only_loop,
    "bare except": _bare_except,
    "unused variable": _unused_variable,
    "comparison to a constant": _compared_to_constant,
    "mutable default": _mutable_default,
    "repeated work": repeated_work,
    "unreachable": _unreachable,
    "branches of a truth value": _branches_of_truth,
    "queue in a list": queue_as_list,
}
