"""Rules on working code: each speaks where it must, and not where the better code would differ."""

import textwrap

import pytest

from text2grad.localisation.observations import observe
from text2grad.localisation.syntax import Source

SPEAKS = {
    "membership in a list": [
        """
        def f(text: str):
            seen = []
            for c in text:
                if c in seen:
                    return c
                seen.append(c)
        """,
        """
        def f(words: list[str], n: int):
            for i in range(n):
                if str(i) not in words:
                    return i
        """,
    ],
    "text built in a loop": [
        """
        def f(items):
            out = ""
            for item in items:
                out += str(item)
            return out
        """,
    ],
    "index-only loop": [
        """
        def f(xs: list[int]):
            total = 0
            for i in range(len(xs)):
                total += xs[i]
            return total
        """,
    ],
    "bare except": [
        """
        def f(text):
            try:
                return int(text)
            except:
                return 0
        """,
    ],
    "unused variable": [
        """
        def f(xs):
            n = 0
            return xs
        """,
    ],
    "comparison to a constant": [
        """
        def f(text: str):
            return text == None
        """,
        """
        def f(text: str):
            if text.isdigit() == True:
                return 1
        """,
    ],
    "mutable default": [
        """
        def f(x, known=[]):
            return x in known
        """,
    ],
    "repeated work": [
        """
        def f(xs: list[int], ys: list[int]):
            out = []
            for y in ys:
                if y in set(xs):
                    out.append(y)
            return out
        """,
    ],
    "unreachable": [
        """
        def f(x):
            return x
            print(x)
        """,
    ],
    "branches of a truth value": [
        """
        def f(a: int, b: int):
            if a < b:
                return True
            else:
                return False
        """,
    ],
    "queue in a list": [
        """
        def f(start):
            queue = [start]
            while queue:
                node = queue.pop(0)
                queue.append(node)
        """,
    ],
    "unused import": [
        """
        import math

        def f(x):
            return x
        """,
    ],
}

# What each rule must leave alone, because the better code would do something else somewhere.
SILENT = {
    "items may be unhashable": """
        def f(items):
            seen = []
            for x in items:
                if x in seen:
                    return x
                seen.append(x)
        """,
    "what is asked for may be unhashable": """
        def f(xs: list[int], ys):
            for y in ys:
                if y in xs:
                    return y
        """,
    "the list is changed otherwise": """
        def f(text: str):
            seen = []
            for c in text:
                if c in seen:
                    seen.remove(c)
                seen.append(c)
        """,
    "the list is handed on": """
        def f(text: str):
            seen = []
            for c in text:
                if c in seen:
                    g(seen)
                seen.append(c)
        """,
    "no loop": """
        def f(x: int, xs: list[int]):
            return x in xs
        """,
    "maybe a number": """
        def f(xs):
            total = 0
            for x in xs:
                total += x
            return total
        """,
    "maybe not text": """
        def f(out, xs):
            for x in xs:
                out += x
            return out
        """,
    "the text is read in the loop": """
        def f(xs):
            out = ""
            for x in xs:
                out += str(x)
                if len(out) > 3:
                    break
            return out
        """,
    "the index is used elsewhere": """
        def f(xs: list[int]):
            for i in range(len(xs)):
                print(i, xs[i])
        """,
    "maybe a dict": """
        def f(xs):
            for i in range(len(xs)):
                print(xs[i])
        """,
    "the list shrinks in the loop": """
        def f(xs: list[int]):
            for i in range(len(xs)):
                xs.append(xs[i])
        """,
    "the item is assigned": """
        def f(xs: list[int]):
            for i in range(len(xs)):
                xs[i] = 0
        """,
    "the index is used after the loop": """
        def f(xs: list[int]):
            for i in range(len(xs)):
                print(xs[i])
            return i
        """,
    "the exception is named": """
        def f(text):
            try:
                return int(text)
            except ValueError:
                return 0
        """,
    "what is tried may exit": """
        def f(g):
            try:
                return g()
            except:
                return 0
        """,
    "the value may do something": """
        def f(xs):
            n = xs.pop()
            return xs
        """,
    "the value may fail": """
        def f(a, b):
            n = a / b
            return a
        """,
    "counted although nothing reads it": """
        def f(xs):
            n = 0
            for x in xs:
                n += 1
        """,
    "the list has a second name": """
        def f(xs: list[int]):
            ys = xs
            for i in range(len(xs)):
                ys.append(xs[i])
        """,
    "two parameters may be one list": """
        def f(xs: list[int], ys: list[int]):
            for i in range(len(xs)):
                ys.append(xs[i])
        """,
    "read by an inner function": """
        def f(x):
            n = 1
            def g():
                return n
            return g
        """,
    "global": """
        def f(x):
            global n
            n = 1
            return x
        """,
    "looked up by name": """
        def f(x):
            n = 1
            return locals()
        """,
    "an equality of its own": """
        def f(x):
            return x == None or x == True
        """,
    "one is not a truth value": """
        def f(x: int):
            return x == True
        """,
    "the default is changed": """
        def f(x, known=[]):
            known.append(x)
            return len(known)
        """,
    "the default gets out": """
        def f(x, known=[]):
            return known
        """,
    "the list is changed in the loop": """
        def f(xs: list[int], ys: list[int]):
            for y in ys:
                if y in set(xs):
                    xs.append(y)
        """,
    "items that may not be hashable": """
        def f(xs: list, ys: list[int]):
            for y in ys:
                if y in set(xs):
                    return y
        """,
    "the result is changed": """
        def f(xs: list[int], ys: list[int]):
            for y in ys:
                zs = sorted(xs)
                zs.append(y)
            return zs
        """,
    "another sorted": """
        def sorted(xs):
            return next(xs)

        def f(xs: list[int], ys: list[int]):
            for y in ys:
                if y in sorted(xs):
                    return y
        """,
    "a yield that is never reached": """
        def f(x):
            return x
            yield
        """,
    "an unreachable name": """
        def f(x):
            return n
            n = 1
        """,
    "an elif": """
        def f(a, b):
            if a:
                return 1
            elif b:
                return 2
            return 3
        """,
    "maybe no truth value": """
        def f(a, b):
            if a < b:
                return True
            else:
                return False
        """,
    "just truthy": """
        def f(text: str):
            if text:
                return True
            else:
                return False
        """,
    "the other way round": """
        def f(a: int, b: int):
            if a < b:
                return False
            else:
                return True
        """,
    "also used as a list": """
        def f(start):
            queue = [start]
            while queue:
                node = queue.pop(0)
                print(queue[1:])
        """,
    "pops from the right": """
        def f(start):
            stack = [start]
            while stack:
                stack.pop()
        """,
    "imported for its tests": """
        import json

        def f(x):
            return x
        """,
    "not of the standard library": """
        import numpy

        def f(x):
            return x
        """,
    "an import that does something": """
        from __future__ import annotations

        def f(x):
            return x
        """,
    "used in an annotation": """
        from typing import List

        def f(x: List) -> "List[int]":
            return x
        """,
}


def rules(text):
    source = Source(textwrap.dedent(text))
    return [observation.rule for observation in observe(source, frozenset({"json"}))]


@pytest.mark.parametrize("rule", SPEAKS)
def test_speaks(rule):
    for text in SPEAKS[rule]:
        assert rules(text) == [rule], text


@pytest.mark.parametrize("case", SILENT)
def test_is_silent(case):
    assert rules(SILENT[case]) == []


def test_observations_name_their_statement_and_come_in_order():
    text = SPEAKS["unused import"][0] + SPEAKS["unreachable"][0].replace("f(x)", "g(x)")
    source = Source(textwrap.dedent(text))
    found = observe(source)
    assert [o.rule for o in found] == ["unused import", "unreachable"]
    shown = [source.text[o.statement.start : o.statement.end] for o in found]
    assert shown == ["import math", "print(x)"]
    assert all(o.advice and not o.advice.endswith(".") for o in found)
