"""Rules on loops: work that a loop need not repeat, and data that suit it badly."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from text2grad.localisation.kinds import HASHABLE, SEQUENCES, Function
from text2grad.localisation.syntax import LOOPS

Found = Iterator[tuple[ast.AST, str]]
"""places with what is to be said of each"""


def _loops(function: Function) -> Iterator[ast.AST]:
    return (node for node in ast.walk(function.node) if isinstance(node, LOOPS))


def _repeated(loop: ast.AST) -> Iterator[ast.AST]:
    """Nodes that a loop runs in every round."""
    parts = [*loop.body] if not isinstance(loop, ast.While) else [loop.test, *loop.body]
    for part in parts:
        yield from ast.walk(part)


def membership_in_list(function: Function) -> Found:
    """`x in items` in a loop, items being a list of hashable things that nothing else sees."""
    for loop in _loops(function):
        for node in _repeated(loop):
            if not (isinstance(node, ast.Compare) and len(node.ops) == 1):
                continue
            items = node.comparators[0]
            is_asked = isinstance(node.ops[0], (ast.In, ast.NotIn)) and isinstance(items, ast.Name)
            if (
                is_asked
                and function.kind(node.left) in HASHABLE
                and _holds_hashable(function, items)
            ):
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
            and function.is_constant(name, function.node)
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


def text_built_in_loop(function: Function) -> Found:
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


def index_only_loop(function: Function) -> Found:
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
        changed = not function.is_constant(items.id, loop)
        if loads and only_index and not changed and len(function.stores[index]) == 1:
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


def repeated_work(function: Function) -> Found:
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
            same = function.is_constant(name.id, loop)
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


def queue_as_list(function: Function) -> Found:
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
    return (n for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))
