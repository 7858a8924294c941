"""Responses, and feedback on them, for the tests of constrained decoding."""

from dataclasses import replace

from tiny import byte_fallback_tokenizer, byte_level_tokenizer

from text2grad.schema import Feedback, Span
from text2grad.tasks import get_task

TASK = replace(get_task("slf5k"), max_critique_chars=120)
TOKENIZERS = {"byte_level": byte_level_tokenizer, "byte_fallback": byte_fallback_tokenizer}
RESPONSES = [
    "The dog ran to the park and saw a cat.",
    'def add(a, b):\n\treturn a + b  # "sum"\n',
    "去公园吧👩🏽‍🚀🇩🇪 ok é e\u0301",
    'a "quoted" C:\\path\\n with \x01 and \x7f',
    "",
    " \n",
]


def feedback(critique, good=(), poor=()):
    spans = [Span(text, "good") for text in good] + [Span(text, "poor") for text in poor]
    return Feedback(critique, tuple(spans))


TARGETS = [
    (RESPONSES[0], feedback("It is short.", ["The dog", "a cat."], ["ran to the park"])),
    (RESPONSES[1], feedback('Adds "two"\nnumbers \\o/.', ["return a + b"])),
    (RESPONSES[2], feedback("好的 👩🏽‍🚀", [], ["公园", "🇩🇪 ok"])),
]
