"""What of working code could be better, found by rules that hold.

Every rule speaks only where the better code certainly does the same; where the text of the
function does not tell, it is silent.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from text2grad.localisation.kinds import HASHABLE, SEQUENCES, Function, functions_of
from text2grad.localisation.syntax import FUNCTIONS, LOOPS, Source, Statement

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


Found = Iterator[tuple[ast.AST, str]]


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


def _loops(function: Function) -> Iterator[ast.AST]:
    return (node for node in ast.walk(function.node) if isinstance(node, LOOPS))


def _repeated(loop: ast.AST) -> Iterator[ast.AST]:
    """Nodes that a loop runs in every round."""
    parts = [*loop.body] if not isinstance(loop, ast.While) else [loop.test, *loop.body]
    for part in parts:
        yield from ast.walk(part)


def _membership_in_list(function: Function) -> Found:
    """`x in items` in a loop, items being a list of hashable things that nothing else sees."""
    for loop in _loops(function):
        for node in _repeated(loop):
            if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
                continue
            items = node.comparators[0]
            is_asked = isinstance(node.ops[0], (ast.In, ast.NotIn)) and isinstance(items, ast.Name)
            if is_asked and function.kind(node.left) in HASHABLE and _holds_hashable(function, items):
                yield (
                    node,
                    f"`{ast.unparse(node)}` searches the list `{items.id}` from the start in every "
                    "round; a set answers in constant time",
                )


def _holds_hashable(function: Function, items: ast.Name) -> bool:
    """Whether a name is a local list, long enough to matter, with hashable items only."""
    name = items.id
    if name in function.parameters:
        return (
            name not in function.stores
            and function.kind(items) == "list"
            and function.item_kind(items) in HASHABLE
            and not function.is_changed(name, function.node)
        )
    if function.kind(items) != "list" or len(function.stores[name]) != 1:
        return False
    display = function.parents[function.stores[name][0]].value
    if not (isinstance(display, ast.List) and not display.elts):
        return False
    appended = False
    for load in function.loads[name]:
        method = function.parents[load]
        call = function.parents.get(method)
        if isinstance(method, ast.Attribute) and method.attr == "append":
            if not isinstance(call, ast.Call) or function.kind(call.args[0]) not in HASHABLE:
                return False
            appended = True
        elif not (function.only_looks(load) or isinstance(method, ast.Return)):
            return False
    return appended


def _text_built_in_loop(function: Function) -> Found:
    """`text += part` in a loop, text being a string that the loop does not read."""
    for loop in _loops(function):
        for node in _repeated(loop):
            if not (isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)):
                continue
            target = node.target
            if not isinstance(target, ast.Name) or function.kind(target) != "str":
                continue
            read = any(load.id == target.id for load in _names(loop))
            rebound = sum(store in set(ast.walk(loop)) for store in function.stores[target.id]) > 1
            if not read and not rebound:
                yield (
                    node,
                    f"`{target.id}` is copied with every `+=`; collecting the parts in a list and "
                    "joining them once takes linear time",
                )


def _index_only_loop(function: Function) -> Found:
    """`for i in range(len(items))` with i used for `items[i]` alone."""
    for loop in ast.walk(function.node):
        if not isinstance(loop, ast.For) or not isinstance(loop.target, ast.Name):
            continue
        items = _measured(function, loop.iter)
        if items is None or function.kind(items) not in SEQUENCES:
            continue
        index = loop.target.id
        loads = function.loads.get(index, [])
        inside = {n for part in loop.body for n in ast.walk(part)}
        only_index = all(load in inside and _is_item(function, load, items.id) for load in loads)
        if loads and only_index and len(function.stores[index]) == 1:
            if not any(function.is_changed(items.id, part) for part in loop.body):
                yield (
                    loop,
                    f"`{index}` only serves to look up `{items.id}[{index}]`; looping over "
                    f"`{items.id}` itself says so directly",
                )


def _measured(function: Function, iterated: ast.AST) -> ast.Name | None:
    """The name x of `range(len(x))`."""
    if not (function.is_builtin_call(iterated, "range") and len(iterated.args) == 1):
        return None
    length = iterated.args[0]
    if not (function.is_builtin_call(length, "len") and len(length.args) == 1):
        return None
    return length.args[0] if isinstance(length.args[0], ast.Name) else None


def _is_item(function: Function, load: ast.Name, items: str) -> bool:
    parent = function.parents[load]
    return (
        isinstance(parent, ast.Subscript)
        and parent.slice is load
        and isinstance(parent.ctx, ast.Load)
        and isinstance(parent.value, ast.Name)
        and parent.value.id == items
    )


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
        for store in stores:
            parent = function.parents[store]
            if isinstance(parent, ast.Assign) and parent.targets == [store]:
                if _is_inert(parent.value):
                    yield parent, f"`{name}` is given a value that is never used"


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


def _repeated_work(function: Function) -> Found:
    """`set(x)`, `sorted(x)`, `sum(x)` in a loop that never changes x."""
    for loop in _loops(function):
        inside = [*_repeated(loop)]
        for node in inside:
            if not function.is_builtin_call(node, "set", "sorted", "list", "sum", "tuple"):
                continue
            if len(node.args) != 1 or node.keywords or not isinstance(node.args[0], ast.Name):
                continue
            name = node.args[0]
            known = function.kind(name) in ("list", "tuple")
            same = not any(function.is_changed(name.id, part) for part in [loop])
            if known and same and _cannot_fail(function, node) and _is_read_only(function, node):
                yield (
                    node,
                    f"`{ast.unparse(node)}` gives the same in every round; once before the loop "
                    "is enough",
                )


def _cannot_fail(function: Function, call: ast.Call) -> bool:
    """Whether computing it before a loop that may run no round is safe too."""
    items = function.item_kind(call.args[0])
    if call.func.id == "sum":
        return items in ("int", "float", "bool")
    return items in HASHABLE


def _is_read_only(function: Function, call: ast.Call) -> bool:
    parent = function.parents[call]
    if isinstance(parent, ast.Subscript):
        return parent.value is call and isinstance(parent.ctx, ast.Load)
    return isinstance(parent, (ast.Compare, ast.BinOp)) or (
        isinstance(parent, ast.For) and parent.iter is call
    )


def _unreachable(function: Function) -> Found:
    """Statements after a `return`, `raise`, `break` or `continue` of the same block."""
    for owner in ast.walk(function.node):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(owner, field, None)
            if not isinstance(block, list):
                continue
            for before, after in zip(block, block[1:], strict=False):
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


def _queue_as_list(function: Function) -> Found:
    """`queue.pop(0)` in a loop, queue being a local list used as a queue and nothing else."""
    for loop in _loops(function):
        for node in _repeated(loop):
            if not (isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "pop"):
                continue
            owner, first = node.func.value, node.args[0] if len(node.args) == 1 else None
            takes_first = isinstance(first, ast.Constant) and first.value == 0
            if isinstance(owner, ast.Name) and takes_first and _is_queue(function, owner):
                yield (
                    node,
                    f"`{ast.unparse(node)}` moves every other item of the list; "
                    "`collections.deque` takes from its left end at once",
                )


def _is_queue(function: Function, queue: ast.Name) -> bool:
    name = queue.id
    stores = function.stores.get(name, [])
    if name in function.parameters or len(stores) != 1 or function.kind(queue) != "list":
        return False
    for load in function.loads[name]:
        parent = function.parents[load]
        if isinstance(parent, ast.Attribute):
            if parent.attr not in ("append", "pop", "extend"):
                return False
        elif not isinstance(parent, (ast.While, ast.If)) and not function.is_builtin_call(
            parent, "len"
        ):
            return False
    return True


def _names(loop: ast.AST) -> Iterator[ast.Name]:
    return (
        n for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    )


def _unused_imports(tree: ast.Module, used_elsewhere: frozenset[str]) -> Found:
    """A module of the standard library that neither the solution nor its tests name."""
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | used_elsewhere
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
    used |= {word for text in texts if isinstance(text, str) for word in text.split()}
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        module = getattr(node, "module", None) or node.names[0].name
        is_plain = module.split(".")[0] in sys.stdlib_module_names - {"__future__", "antigravity"}
        names = [alias.asname or alias.name.split(".")[0] for alias in node.names]
        if is_plain and "*" not in names and not set(names) & used:
            yield node, f"`{', '.join(names)}` is imported and never used"


_RULES: dict[str, Callable[[Function], Found]] = {
    "membership in a list": _membership_in_list,
    "text built in a loop": _text_built_in_loop,
    "index-only loop": _index_only_loop,
    "bare except": _bare_except,
    "unused variable": _unused_variable,
    "comparison to a constant": _compared_to_constant,
    "mutable default": _mutable_default,
    "repeated work": _repeated_work,
    "unreachable": _unreachable,
    "branches of a truth value": _branches_of_truth,
    "queue in a list": _queue_as_list,
}
