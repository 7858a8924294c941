"""The syntax trees: a test file split into its assertions, a solution that marks its lines.

`@t` (the recorder) and `@cov` (the marks) are names that no source text can spell.
"""

from __future__ import annotations

import ast
import re

from text2grad.sandboxed.slices import Step, link_steps, names_in

MAX_SOURCE_CHARS = 400
_RAISING = re.compile(r"raises|warns|suppress|Raises|Warns|Logs|deprecated_call")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_LOOPS = (ast.For, ast.AsyncFor, ast.While)
_WITHS = (ast.With, ast.AsyncWith)
_OPERATORS = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip


class TestFile:
    """A test file, ready to be run.

    Every assertion of a function becomes a check of its own: its outcome is recorded and the
    function goes on. A `try` with handlers and a `with pytest.raises(...)` are one check each;
    inside them an assertion raises as it always did, since there the error itself may be awaited.

    Attributes:
        code: compiled.
        steps: checks and the statements between them, by number.
        tests: names of the module's test functions, in order.
        is_plain: nothing but functions without arguments: they can be called without pytest.
        imports: top-level names of the modules it imports.
        assigned: attribute names that it assigns to (it may patch what the solution may not).

    Raises:
        SyntaxError, ValueError: it does not parse.
    """

    __test__ = False

    def __init__(self, source: str, filename: str) -> None:
        tree = ast.parse(source, filename)
        self.lines = source.split("\n")
        self.steps: list[Step] = [Step(0, 0, "")]  # step 0: what runs before the test function
        self.functions = 0
        self.tests = [
            node.name
            for node in tree.body
            if isinstance(node, _FUNCTIONS) and node.name.startswith("test")
        ]
        self.is_plain = _is_plain(tree)
        self.imports = _imports(tree)
        self.assigned = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        }
        self._scope(tree)
        ast.fix_missing_locations(tree)
        self.code = compile(tree, filename, "exec", dont_inherit=True)

    def _scope(self, node: ast.AST) -> None:
        """Rewrite the functions that lie in a module or class, at any depth of `if` and `try`."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _FUNCTIONS):
                self._function(child)
            elif not isinstance(child, ast.expr):
                self._scope(child)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions += 1
        number, first = self.functions, len(self.steps)
        bound = names_in(node, ast.Store) | {a.arg for a in ast.walk(node.args) if _is_arg(a)}
        node.body = self._block(node.body, number, (), True)
        own = [step for step in self.steps[first:] if step.function == number]
        link_steps(own, bound)

    def _block(self, body: list[ast.stmt], function: int, path: tuple, resets: bool) -> list:
        path = (*path, len(self.steps))  # unique: a block begins before its first step exists
        out: list[ast.stmt] = []
        for statement in body:
            out += self._statement(statement, function, path, resets)
        return out

    def _statement(self, node: ast.stmt, function: int, path: tuple, resets: bool) -> list:
        if _is_check(node):
            return [self._check(node, function, path, resets)]
        step = self._step(node, function, path, resets)
        here = _at(node, _call("at", ast.Constant(step.number)))
        if isinstance(node, _FUNCTIONS):
            self._function(node)
            return [here, node]
        if isinstance(node, ast.ClassDef):
            self._scope(node)
            return [here, node]
        if isinstance(node, _LOOPS):
            resets = any(_is_check(inner) for inner in ast.walk(node))
        self._rewrite_blocks(node, function, path, resets)
        return [here, node]

    def _rewrite_blocks(self, node: ast.stmt, function: int, path: tuple, resets: bool) -> None:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if block:
                setattr(node, field, self._block(block, function, path, resets))
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            part.body = self._block(part.body, function, path, resets)

    def _step(self, node: ast.stmt, function: int, path: tuple, resets: bool) -> Step:
        last = getattr(node, "end_lineno", node.lineno)
        text = "\n".join(self.lines[node.lineno - 1 : last]).strip()
        step = Step(len(self.steps), node.lineno, text[:MAX_SOURCE_CHARS], function, path, resets)
        step.read(node)
        self.steps.append(step)
        return step

    def _check(self, node: ast.stmt, function: int, path: tuple, resets: bool) -> ast.stmt:
        step = self._step(node, function, path, resets)
        step.is_check = True
        if isinstance(node, ast.Assert):
            inner = _split_assert(node, step)
        elif isinstance(node, ast.Expr):
            inner = _split_call(node, step)
        else:
            self._rewrite_blocks(node, function, path, resets)
            inner = [node]
        number = ast.Constant(step.number)
        handler = ast.ExceptHandler(None, None, [ast.Expr(_call("raised", number))])
        guarded = ast.Try(inner, [handler], [], [ast.Expr(_call("ended", number))])
        return _locate(ast.If(_call("begin", number), [guarded], []), node)


def _is_arg(node: ast.AST) -> bool:
    return isinstance(node, ast.arg)


def _is_check(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if isinstance(node, ast.Try):
        return bool(node.handlers)
    if isinstance(node, _WITHS):
        return any(_RAISING.search(ast.unparse(item.context_expr)) for item in node.items)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        owner = called.value if isinstance(called, ast.Attribute) else None
        return isinstance(owner, ast.Name) and owner.id == "self" and "assert" in called.attr
    return False


def _split_assert(node: ast.Assert, step: Step) -> list[ast.stmt]:
    """The two sides of a comparison kept, so that they can be shown."""
    test, right = node.test, ast.Constant(None)
    out = []
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        step.operator = _OPERATORS[type(test.ops[0])]
        step.flipped = _is_expectation(test.left) and not _is_expectation(test.comparators[0])
        out = [_assign("@left", test.left), _assign("@right", test.comparators[0])]
        right = _load("@right")
        condition = ast.Compare(_load("@left"), test.ops, [right])
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        step.operator = "not"
        out = [_assign("@left", test.operand)]
        condition = ast.UnaryOp(ast.Not(), _load("@left"))
    else:
        step.operator = "true"
        out = [_assign("@left", test)]
        condition = _load("@left")
    sides = [ast.Constant(step.number), _load("@left"), right]
    held = [ast.Expr(_call("equal", *sides))] if step.operator == "==" else [ast.Pass()]
    failed = ast.Expr(_call("failed", *sides, *([node.msg] if node.msg else [])))
    out.append(ast.If(condition, held, [failed]))
    return [_locate(part, node) for part in out]


def _split_call(node: ast.Expr, step: Step) -> list[ast.stmt]:
    """`self.assertEqual(a, b)` with a and b kept."""
    call = node.value
    first, second = [*call.args, None, None][:2]
    if first is None or second is None or any(isinstance(a, ast.Starred) for a in (first, second)):
        return [node]
    step.operator = "==" if "Equal" in call.func.attr and "Not" not in call.func.attr else ""
    step.flipped = _is_expectation(first) and not _is_expectation(second)
    call.args[:2] = [_load("@left"), _load("@right")]
    keep = ast.Expr(_call("keep", ast.Constant(step.number), _load("@left"), _load("@right")))
    parts = [_assign("@left", first), _assign("@right", second), keep, node]
    return [_locate(part, node) for part in parts]


def _is_expectation(node: ast.expr) -> bool:
    """Whether an operand reads like the value that is expected, rather than a result."""
    if isinstance(node, ast.Name):
        return "expect" in node.id.lower() or "answer" in node.id.lower()
    return not any(isinstance(part, (ast.Call, ast.Name)) for part in ast.walk(node))


def _is_plain(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = " ".join(ast.unparse(base) for base in node.bases)
            if node.name.startswith("Test") or "TestCase" in bases:
                return False
        elif isinstance(node, _FUNCTIONS) and not _is_plain_function(node):
            return False
    top = {id(node) for node in tree.body}
    tests = [n for n in ast.walk(tree) if isinstance(n, _FUNCTIONS) and n.name.startswith("test")]
    assigned = {name for node in tree.body for name in names_in(node, ast.Store)}
    return all(id(node) in top for node in tests) and "pytestmark" not in assigned


def _is_plain_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    if any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list):
        return False
    if node.name in ("setup_module", "setup_function", "teardown_module", "teardown_function"):
        return False
    if not node.name.startswith("test"):
        return True
    arguments = node.args
    needed = len(arguments.posonlyargs + arguments.args) - len(arguments.defaults)
    yields = any(isinstance(part, (ast.Yield, ast.YieldFrom)) for part in ast.walk(node))
    plain = isinstance(node, ast.FunctionDef) and not (node.decorator_list or needed or yields)
    return plain and None not in arguments.kw_defaults


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def mark_lines(tree: ast.Module) -> list[tuple[int, int]]:
    """Make every statement of a solution's functions mark its first line in `@cov`, in place.

    A mark is one store into a bytearray: some 30 nanoseconds, where a trace function costs ten
    times as much, and a loop of any length is covered whole.

    Returns:
        First and last line of each marked statement; of a compound one, those of its header.
    """
    marked: list[tuple[int, int]] = []
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            _mark_block(node, "body", marked)
    ast.fix_missing_locations(tree)
    return marked


def _mark_block(owner: ast.AST, field: str, marked: list[tuple[int, int]]) -> None:
    out: list[ast.stmt] = []
    body = getattr(owner, field)
    for place, node in enumerate(body):
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not (is_docstring and place == 0):
            marks = ast.Subscript(_load("@cov"), ast.Constant(node.lineno), ast.Store())
            out.append(_locate(ast.Assign([marks], ast.Constant(1)), node))
            marked.append((node.lineno, _header_end(node)))
        out.append(node)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            continue  # its functions are walked by themselves
        for inner in ("body", "orelse", "finalbody"):
            if getattr(node, inner, None):
                _mark_block(node, inner, marked)
        for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            _mark_block(part, "body", marked)
    setattr(owner, field, out)


def _header_end(node: ast.stmt) -> int:
    body = getattr(node, "body", None) or getattr(node, "cases", None)
    if not body:
        return node.end_lineno or node.lineno
    first = body[0] if isinstance(body[0], ast.stmt) else body[0].body[0]
    return max(node.lineno, first.lineno - 1)


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _call(method: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Attribute(_load("@t"), method, ast.Load()), list(arguments), [])


def _at(node: ast.stmt, call: ast.Call) -> ast.stmt:
    return _locate(ast.Expr(call), node)


def _locate(new: ast.stmt, old: ast.stmt) -> ast.stmt:
    """The new statement on the old one's lines, so that tracebacks name them."""
    ast.copy_location(new, old)
    return ast.fix_missing_locations(new)
