"""Values and errors of tested code as bounded text, whatever their own methods do."""

from __future__ import annotations

import reprlib

MAX_VALUE_CHARS = 400
MAX_TEXT_CHARS = 600
MAX_TRACE_LINES = 20

_brief = reprlib.Repr()
_brief.maxlist = _brief.maxtuple = _brief.maxdict = _brief.maxset = 40
_brief.maxstring = _brief.maxother = MAX_VALUE_CHARS


def trace_lines(trace: object, filename: str) -> list[int]:
    """Lines of a file in a traceback, each once, innermost last."""
    lines: list[int] = []
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            line = trace.tb_lineno
            if line in lines:
                lines.remove(line)
            lines.append(line)
        trace = trace.tb_next
    return lines[-MAX_TRACE_LINES:]


def show(value: object) -> str:
    """A bounded repr, whatever the object's own does."""
    try:
        is_long = isinstance(value, (list, tuple, dict, set, str, bytes)) and len(value) > 200
        text = _brief.repr(value) if is_long else repr(value)
        text = str.__str__(text)
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return _cut(text, MAX_VALUE_CHARS)


def text_of(error: object) -> str:
    """The bounded text of an error or message, whatever its own `__str__` does."""
    try:
        text = str.__str__(str(error))
    except Exception as other:
        text = f"<no text: {type(other).__name__}>"
    return _cut(text, MAX_TEXT_CHARS)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
