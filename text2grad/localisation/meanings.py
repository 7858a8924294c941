"""What may have been meant by an operator, a name or a constant."""

from __future__ import annotations

import ast

from text2grad.localisation.syntax import Source

_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "**")
_NEAR_OPERATORS = {
    "+": "-*",
    "-": "+*",
    "*": ("+", "-", "//", "/"),
    "/": ("//", "*"),
    "//": ("/", "%"),
    "%": ("//",),
    "**": ("*",),
}
_BITS = {
    **{"&": ("|", "^"), "|": ("&", "^"), "^": ("|", "&")},
    **{"<<": (">>",), ">>": ("<<",)},
}
ORDER = ("<", "<=", ">", ">=", "==", "!=")
NEAR = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
MEMBER = {"in": "not in", "not in": "in", "is": "is not", "is not": "is"}
SYMBOL = {
    **{ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//"},
    **{ast.Mod: "%", ast.Pow: "**", ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^"},
    **{ast.LShift: "<<", ast.RShift: ">>", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">"},
    **{ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.In: "in", ast.NotIn: "not in"},
    **{ast.Is: "is", ast.IsNot: "is not", ast.And: "and", ast.Or: "or"},
}
_ROTATED = (
    *(("min", "max"), ("any", "all"), ("append", "extend"), ("lower", "upper", "swapcase")),
    *(("startswith", "endswith"), ("lstrip", "rstrip", "strip"), ("find", "rfind")),
    *(("floor", "ceil"), ("add", "discard"), ("union", "intersection"), ("int", "round", "float")),
    *(("isalpha", "isdigit", "isalnum"), ("isupper", "islower"), ("keys", "values")),
    *(("popleft", "pop"), ("appendleft", "append"), ("sum", "max", "len"), ("set", "list")),
)
SIBLINGS = {
    name: [n for g in _ROTATED if name in g for n in g if n != name]
    for name in {name for group in _ROTATED for name in group}
}


def other_operators(symbol: str) -> list[tuple[str, float]]:
    """What may have been meant by an operator, the likely ones first."""
    if symbol in _BITS:
        return [(other, 1.0) for other in _BITS[symbol]]
    if symbol not in _ARITHMETIC:
        return []
    near = tuple(_NEAR_OPERATORS[symbol])
    far = [other for other in _ARITHMETIC if other != symbol and other not in near]
    return [(other, 1.0) for other in near] + [(other, 0.85) for other in far]


def constants(source: Source, kind: type) -> list:
    """The short constants of the solution: a wrong one is often another one of them."""
    values = [
        node.value
        for statement in source.statements
        for node in statement.own_nodes
        if isinstance(node, ast.Constant) and type(node.value) is kind
    ]
    return [value for value in dict.fromkeys(values) if len(str(value)) <= 20][:6]
