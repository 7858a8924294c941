"""The code of a response: what stands in its fenced blocks, or all of it where it is bare code.

Nothing is parsed as Python, for the text is a model's: a line is looked at, never compiled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Block = tuple[int, int]
"""Half-open interval of characters of the response."""

Scope = Literal["response", "code"]
"""What of a response is judged: all of it, or its code."""

_BOM = "\ufeff"  # editors on Windows put it before a file's text; Python reads over it there alone
_FENCE = re.compile(rf"^{_BOM}?([ \t]*)(`{{3,}}|~{{3,}})([^\n]*)(?:\n|\Z)", re.M)
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_PYTHON = re.compile(r"(?:python|py)[\d.]*\b", re.I)
_CLOSING_SHIFT = 3  # more spaces than this before a fence put it inside the block

_STRING_BLOCK = re.compile(r'("""|\'\'\').*?(?:\1|\Z)', re.S)
_LINE_CHARS = 400  # of a line, to see whether it is a statement
_SENTENCE = re.compile(r"[\w'’-]+,?(?: [\w'’-]+[,;]?){3,}[.:!?]?")
_STATEMENT = re.compile(
    r"(?:(?:async[ \t]+)?def[ \t]+\w+[ \t]*\(|class[ \t]+\w+[ \t]*[:(]|@\w|#"
    r"|import[ \t]+[\w.]+(?:[ \t]*,|[ \t]+as\b|[ \t]*$)|from[ \t]+[\w.]+[ \t]+import\b"
    r"|(?:if|elif|while|with|except|match|case)\b.*:|for\b.*\bin\b.*:|(?:else|try|finally)[ \t]*:"
    r"|(?:return|yield|raise|assert|del|global|nonlocal)\b(?![ \t]+\w+[ \t]+\w)"
    r"|(?:pass|break|continue)[ \t]*$"
    r"|[\w.\[\]'\", \t]+?(?:[-+*/%&|^@]|//|\*\*|<<|>>)?=(?!=)"
    r"|[\w.]+\(.*|[)\]}]+[ \t]*[,:]?[ \t]*$)"
)


@dataclass(frozen=True)
class Code:
    """The code of a response as one text.

    Attributes:
        text: its blocks one after the other, without the indentation of their fences.
        origins: for each character of `text`, its place in the response.
    """

    text: str
    origins: list[int]

    def place(self, start: int, end: int) -> Block:
        """The interval of the response behind a non-empty interval of `text`."""
        return self.origins[start], self.origins[end - 1] + 1


def code_blocks(response: str) -> list[Block]:
    r"""Where the code of a response is.

    Fenced blocks, without their fences, in backticks or tildes; those marked as Python if there
    are any, else those of every language. A fence that is not closed reaches to the end. Without
    fences the whole response, if it is code, else nothing.

    Example: "So:\n```py\nx = 1\n```\nDone." -> [(10, 16)], the text "x = 1\n"
    """
    return [block for block, _ in _indented_blocks(response)]


def extract_code(response: str) -> Code:
    """The code of a response as one text that can be run, and the way back to the response."""
    characters: list[str] = []
    origins: list[int] = []
    for (start, end), indent in _indented_blocks(response):
        if characters and characters[-1] != "\n":
            characters.append("\n")
            origins.append(origins[-1])
        at = start
        for line in _LINE.findall(response, start, end):
            shift = 0
            while shift < min(indent, len(line)) and line[shift] in " \t":
                shift += 1
            characters += line[shift:]
            origins += range(at + shift, at + len(line))
            at += len(line)
    return Code("".join(characters), origins)


def in_scope(response: str, scope: Scope) -> list[Block]:
    """The intervals of the response that are judged."""
    return code_blocks(response) if scope == "code" else [(0, len(response))]


def judged_code(response: str, scope: Scope) -> Code:
    """What a reward model is shown of a response and may quote: its code, or all of it."""
    return extract_code(response) if scope == "code" else Code(response, [*range(len(response))])


def mask_outside(response: str, scope: Scope) -> str:
    """The response with a line break for each character that is not judged, so of equal length."""
    if scope == "response":
        return response
    parts, done = [], 0
    for start, end in code_blocks(response):
        parts += ["\n" * (start - done), response[start:end]]
        done = end
    return "".join([*parts, "\n" * (len(response) - done)])


def _indented_blocks(response: str) -> list[tuple[Block, int]]:
    """Each block of code, and the width of its fence's indentation."""
    fenced = _fenced_blocks(response)
    if fenced is None:
        start = _after_bom(response, 0)
        return [((start, len(response)), 0)] if _is_code(response[start:]) else []
    python = [(block, indent) for block, indent, is_python in fenced if is_python]
    chosen = python or [(block, indent) for block, indent, _ in fenced]
    read = [((_after_bom(response, start), end), indent) for (start, end), indent in chosen]
    return [(block, indent) for block, indent in read if block[0] < block[1]]


def _after_bom(text: str, start: int) -> int:
    return start + len(_BOM) if text.startswith(_BOM, start) else start


def _fenced_blocks(response: str) -> list[tuple[Block, int, bool]] | None:
    """(block, width of the fence's indentation, whether it is Python); None without a fence."""
    blocks: list[tuple[Block, int, bool]] = []
    opened: re.Match[str] | None = None
    seen = False
    for fence in _FENCE.finditer(response):
        if opened is None:
            if fence[2][0] == "`" and "`" in fence[3]:  # `code` within a line of text
                continue
            opened, seen = fence, True
        elif _closes(fence, opened):
            blocks.append(_block(opened, fence.start()))
            opened = None
    if opened is not None:
        blocks.append(_block(opened, len(response)))
    return blocks if seen else None


def _closes(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return (
        fence[2].startswith(opened[2])
        and not fence[3].strip()
        and len(fence[1]) <= len(opened[1]) + _CLOSING_SHIFT
    )


def _block(opened: re.Match[str], end: int) -> tuple[Block, int, bool]:
    return (opened.end(), end), len(opened[1]), _PYTHON.match(opened[3].strip()) is not None


def _is_code(text: str) -> bool:
    """Whether a text without fences begins as Python and reads like it in most of its lines."""
    lines = [line for line in _STRING_BLOCK.sub("0 = 0", text).splitlines() if line.strip()]
    found = [_is_code_line(line[:_LINE_CHARS]) for line in lines]
    begins = bool(lines) and _STATEMENT.match(lines[0].strip()[:_LINE_CHARS]) is not None
    return begins and 2 * sum(found) > len(found)


def _is_code_line(line: str) -> bool:
    """A statement, or an indented line that is no sentence: it may go on with a statement."""
    bare = line.strip()
    continues = line[0] in " \t" and not _SENTENCE.fullmatch(bare)
    return continues or _STATEMENT.match(bare) is not None
