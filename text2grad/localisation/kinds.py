"""What an expression certainly is, as far as the text of one function tells; else nothing.

Annotations of parameters are taken at their word.
"""

from __future__ import annotations

import ast
from typing import Literal

from text2grad.localisation.syntax import FUNCTIONS, SCOPES, bound_names

Kind = Literal["int", "float", "str", "bool", "list", "tuple", "set", "dict", ""]

SEQUENCES = frozenset({"list", "tuple", "str"})
HASHABLE = frozenset({"int", "float", "str", "bool"})
_OF_CALL: dict[str, Kind] = {
    **dict.fromkeys(("len", "ord", "int", "round"), "int"),
    **dict.fromkeys(("str", "chr", "repr", "input", "bin", "hex", "format"), "str"),
    **dict.fromkeys(("list", "sorted"), "list"),
    **dict.fromkeys(("isinstance", "bool", "any", "all", "callable", "hasattr"), "bool"),
    **{"tuple": "tuple", "set": "set", "dict": "dict", "float": "float"},
}
_OF_STR_METHOD: dict[str, Kind] = {
    **dict.fromkeys(
        ["lower", "upper", "strip", "lstrip", "rstrip", "replace", "join", "title", "capitalize"],
        "str",
    ),
    **dict.fromkeys(
        ["isdigit", "isalpha", "isalnum", "isupper", "islower", "startswith", "endswith"], "bool"
    ),
    **dict.fromkeys(["split", "rsplit", "splitlines"], "list"),
    **dict.fromkeys(["count", "find", "index", "rfind"], "int"),
}
_DISPLAYS: dict[type, Kind] = {
    **{ast.List: "list", ast.ListComp: "list", ast.Dict: "dict", ast.DictComp: "dict"},
    **{ast.Set: "set", ast.SetComp: "set", ast.Tuple: "tuple", ast.JoinedStr: "str"},
}


class Function:
    """A function's own names and what they certainly hold.

    Attributes:
        node: the function.
        stores: every place at which a name is bound or deleted, by name.
        loads: every place at which a name is read, by name, inner functions included.
        shadowed: names of builtins that the module or the function gives another meaning.
    """

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef, shadowed: set[str]) -> None:
        self.node = node
        self.stores: dict[str, list[ast.Name]] = {}
        self.loads: dict[str, list[ast.Name]] = {}
        self.parents = {
            child: parent for parent in ast.walk(node) for child in ast.iter_child_nodes(parent)
        }
        for name in ast.walk(node):
            if isinstance(name, ast.Name):
                table = self.loads if isinstance(name.ctx, ast.Load) else self.stores
                table.setdefault(name.id, []).append(name)
        self.shadowed = shadowed | set(self.stores)
        every = node.args
        arguments = [*every.posonlyargs, *every.args, *every.kwonlyargs]
        self.annotations = {a.arg: a.annotation for a in arguments if a.annotation is not None}
        self.parameters = {a.arg for a in ast.walk(node) if isinstance(a, ast.arg)}
        self.declared = {
            name
            for statement in ast.walk(node)
            if isinstance(statement, (ast.Global, ast.Nonlocal))
            for name in statement.names
        }
        self._under_way: set[str] = set()

    def kind(self, node: ast.AST | None) -> Kind:
        """What an expression certainly is, "" if it is not certain."""
        if isinstance(node, ast.Constant):
            name = type(node.value).__name__
            return name if name in HASHABLE else ""  # type: ignore[return-value]
        if type(node) in _DISPLAYS:
            return _DISPLAYS[type(node)]
        if isinstance(node, ast.Call):
            return self._of_call(node)
        if isinstance(node, ast.Name):
            return self._of_name(node.id)
        if isinstance(node, ast.BinOp):
            return self._of_operation(node)
        if isinstance(node, ast.UnaryOp):
            return "bool" if isinstance(node.op, ast.Not) else self._of_sign(node)
        if isinstance(node, ast.Compare):
            sides = [self.kind(side) for side in (node.left, *node.comparators)]
            return "bool" if all(sides) or _asks_identity(node) else ""
        if isinstance(node, ast.Subscript) and self.kind(node.value) == "str":
            return "str"
        if isinstance(node, ast.Subscript):
            return self.item_kind(node.value) if not isinstance(node.slice, ast.Slice) else ""
        return ""

    def item_kind(self, iterable: ast.AST) -> Kind:
        """What every item of an iterable certainly is."""
        if self.kind(iterable) == "str":
            return "str"
        if isinstance(iterable, ast.Call) and self._is_builtin(iterable.func, "range"):
            return "int"
        if isinstance(iterable, (ast.List, ast.Tuple, ast.Set)) and iterable.elts:
            kinds = {self.kind(item) for item in iterable.elts}
            return kinds.pop() if len(kinds) == 1 else ""
        if isinstance(iterable, ast.Name) and iterable.id not in self.stores:
            return _item_of_annotation(self.annotations.get(iterable.id))
        return ""

    def is_builtin_call(self, node: ast.AST, *names: str) -> bool:
        """Whether it is a call of one of these builtins, not given another meaning here."""
        return isinstance(node, ast.Call) and any(self._is_builtin(node.func, n) for n in names)

    def _is_builtin(self, node: ast.AST, name: str) -> bool:
        known = self.shadowed | self.parameters
        return isinstance(node, ast.Name) and node.id == name and name not in known

    def _of_call(self, node: ast.Call) -> Kind:
        if isinstance(node.func, ast.Name):
            if node.func.id == "round" and len(node.args) != 1:
                return ""
            kind = _OF_CALL.get(node.func.id, "")
            return kind if self._is_builtin(node.func, node.func.id) else ""
        if isinstance(node.func, ast.Attribute) and self.kind(node.func.value) == "str":
            return _OF_STR_METHOD.get(node.func.attr, "")
        return ""

    def _of_name(self, name: str) -> Kind:
        if name in self._under_way or name in self.declared:
            return ""
        bound = self.stores.get(name, [])
        if name in self.parameters:
            return "" if bound else _of_annotation(self.annotations.get(name))
        self._under_way.add(name)
        kinds = {self._of_binding(store) for store in bound}
        self._under_way.discard(name)
        return kinds.pop() if len(kinds) == 1 else ""

    def _of_binding(self, store: ast.Name) -> Kind:
        parent = self.parents[store]
        if isinstance(parent, ast.Assign) and store in parent.targets:
            return self.kind(parent.value)
        if isinstance(parent, ast.AnnAssign) and parent.value is not None:
            return self.kind(parent.value)
        if isinstance(parent, (ast.For, ast.comprehension)) and parent.target is store:
            return self.item_kind(parent.iter)
        if isinstance(parent, ast.AugAssign):
            # `x += y` keeps the kind of x for text and lists, so it adds nothing to be known.
            kinds = {self._of_binding(s) for s in self.stores[store.id] if not self._augments(s)}
            kind = kinds.pop() if len(kinds) == 1 else ""
            return kind if kind in ("str", "list") and isinstance(parent.op, ast.Add) else ""
        return ""

    def _augments(self, store: ast.Name) -> bool:
        return isinstance(self.parents[store], ast.AugAssign)

    def _of_operation(self, node: ast.BinOp) -> Kind:
        left, right = self.kind(node.left), self.kind(node.right)
        if left == right == "int" and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Mod)):
            return "int"
        if left == right and left in ("str", "list") and isinstance(node.op, ast.Add):
            return left
        return ""

    def _of_sign(self, node: ast.UnaryOp) -> Kind:
        kind = self.kind(node.operand)
        return kind if kind in ("int", "float") else ""

    def is_constant(self, name: str, within: ast.AST) -> bool:
        """Whether nothing inside a node can rebind a name or change its object.

        The object may have been built with its own methods elsewhere in the function, but must have
        no second name through which it could change.
        """
        inside = set(ast.walk(within))
        if any(store in inside for store in self.stores.get(name, ())):
            return False
        for load in self.loads.get(name, ()):
            parent = self.parents[load]
            is_method = isinstance(parent, ast.Attribute) and load not in inside
            if not (self.only_looks(load) or is_method or isinstance(parent, ast.Return)):
                return False
        # Two parameters may be one object.
        changed = set(bound_names(inside)) & self.parameters
        return not (changed and name in self.parameters)

    def only_looks(self, load: ast.Name) -> bool:
        """Whether this reading of a name neither changes its object nor gives it another name."""
        parent = self.parents[load]
        if isinstance(parent, ast.Subscript) and parent.value is load:
            return isinstance(parent.ctx, ast.Load)
        if isinstance(parent, (ast.For, ast.comprehension)):
            return parent.iter is load
        if isinstance(parent, (ast.Compare, ast.If, ast.While)):
            return True
        if isinstance(parent, ast.UnaryOp):
            return isinstance(parent.op, ast.Not)
        if isinstance(parent, ast.Call) and load in parent.args:
            pure = (*_OF_CALL, "sum", "min", "max", "enumerate", "reversed", "zip", "range")
            return any(self._is_builtin(parent.func, name) for name in pure)
        if isinstance(parent, ast.Attribute) and isinstance(self.parents[parent], ast.Call):
            return parent.attr in ("count", "index", *_OF_STR_METHOD)
        return False


def functions_of(tree: ast.Module) -> list[Function]:
    """Every function of a module that holds no function, lambda or class of its own.

    Names that an inner function shares with its outer one would need more than this looks at.
    """
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not _is_load(n)}
    named = {n.name for n in ast.walk(tree) if isinstance(n, (*FUNCTIONS, ast.ClassDef))}
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    if "*" in imported:
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            inner = [n for n in ast.walk(node) if isinstance(n, SCOPES) and n is not node]
            looks_up = any(
                isinstance(n, ast.Name) and n.id in ("locals", "eval", "exec", "vars", "globals")
                for n in ast.walk(node)
            )
            if not inner and not looks_up:
                found.append(Function(node, stored | named | imported))
    return found


def _is_load(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Load)


def _asks_identity(node: ast.Compare) -> bool:
    return all(isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) for op in node.ops)


def _of_annotation(annotation: ast.AST | None) -> Kind:
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    name = getattr(annotation, "id", getattr(annotation, "attr", ""))
    kind = name.lower()
    known = (*HASHABLE, "list", "dict", "set", "tuple")
    return kind if kind in known else ""  # type: ignore[return-value]


def _item_of_annotation(annotation: ast.AST | None) -> Kind:
    if not isinstance(annotation, ast.Subscript):
        return ""
    if _of_annotation(annotation) not in ("list", "set"):
        return ""
    return _of_annotation(annotation.slice)
