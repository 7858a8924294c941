"""From a model's text to one JSON object: a fixed ladder of repairs, the mildest first.

Strict JSON is read as it is. Whatever has to be repaired must have been whole: text that breaks
off inside its JSON is "truncated", for half a quote must never become a reward.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import json_repair

from text2grad.word_scores import Unreadable

RUNGS = ("none", "fence", "prose", "control characters", "json_repair")
"""the ladder; a reply is counted under the last rung it needed"""

_OPENING = re.compile(r"\{(?=\s*[\"'“‘}\w])")
_MAX_OPENINGS = 32


@dataclass(frozen=True)
class ReadObject:
    """What a reply holds.

    Attributes:
        fields: the object, keys as `plain_key` writes them, one level of nesting removed.
        repair: the rung of `RUNGS` that was needed.
        prose: the text before the object, where a model may have reasoned.
        source: the text that had to be repaired, "" if it was JSON already.
    """

    fields: dict[str, Any]
    repair: str
    prose: str
    source: str = ""


def plain_key(key: Any) -> str:
    """A key in the spelling that is compared: "Code Feedback" -> "code_feedback"."""
    return str(key).strip().lower().replace(" ", "_").replace("-", "_")


def plain_fields(value: Mapping[Any, Any], nested: Collection[str] | None = None) -> dict[str, Any]:
    """An object with plain keys, and those of the objects inside it where it has none itself.

    Args:
        value: the object.
        nested: plain keys of the inner objects that are opened, None for all.
    """
    own = {plain_key(key): item for key, item in value.items()}
    opened: dict[str, Any] = {}
    for key, item in own.items():
        if isinstance(item, Mapping) and (nested is None or key in nested):
            opened |= {plain_key(inner): content for inner, content in item.items()}
    return opened | own


def read_object(text: str, known: frozenset[str]) -> ReadObject:
    """The one object of a reply that has a known key.

    Args:
        text: what the model wrote.
        known: plain keys that tell feedback from any other object.

    Raises:
        Unreadable: there is none, it is cut short, or there are several.
    """
    body = text.strip()
    if not body:
        raise Unreadable("empty reply")
    thought, body = _split_thought(body)
    bare = _without_fence(body)
    openings = [found.start() for found in _OPENING.finditer(bare)][:_MAX_OPENINGS]
    if not openings:
        raise Unreadable("truncated" if bare.startswith("{") else "no JSON object")
    found = _decode(bare, openings, known) or _repair(bare, openings, known)
    start, end, fields, repair, source = found
    before = bare[:start].replace("```json", "").strip(" \n`[")
    if repair == "none" and (start > 0 or end < len(bare) or thought):
        repair = "prose"
    elif repair == "none" and bare != body:
        repair = "fence"
    return ReadObject(fields, repair, "\n".join(filter(None, (thought, before))), source)


_Found = tuple[int, int, dict[str, Any], str, str]


def _split_thought(text: str) -> tuple[str, str]:
    """What a reasoning model thought, and what it said then."""
    thought, tag, rest = "", "", text
    if not text.startswith(("{", "```")):
        thought, tag, rest = text.partition("</think>")
    if text.startswith("<think>") and not tag:
        raise Unreadable("truncated")
    return (thought.removeprefix("<think>").strip(), rest.strip()) if tag else ("", text)


def _without_fence(text: str) -> str:
    """The text inside a code fence that encloses all of it."""
    if not text.startswith("```"):
        return text
    inside = text[3:].removesuffix("```")
    if inside[:4].lower() == "json":
        inside = inside[4:]
    return inside.strip()


def _decode(text: str, openings: list[int], known: frozenset[str]) -> _Found | None:
    """The object as JSON, strictly or with raw control characters in its strings."""
    other = None
    for start in openings:
        decoded = _decode_at(text, start)
        if decoded is None:
            continue
        value, end, repair = decoded
        fields = plain_fields(value)
        if known.isdisjoint(fields):
            other = other or (start, end, fields, repair, "")
        elif _has_another(text, [opening for opening in openings if opening >= end], known):
            raise Unreadable("two objects")
        else:
            return start, end, fields, repair, ""
    whole = other and other[0] == openings[0] and not any(_breaks_off(text, o) for o in openings)
    return other if whole else None


def _decode_at(text: str, start: int) -> tuple[dict[str, Any], int, str] | None:
    for repair, decoder in (("none", _STRICT), ("control characters", _LENIENT)):
        try:
            value, end = decoder.raw_decode(text, start)
        except json.JSONDecodeError:
            continue
        return value, end, repair
    return None


def _has_another(text: str, openings: list[int], known: frozenset[str]) -> bool:
    for start in openings:
        decoded = _decode_at(text, start)
        if decoded is None and _breaks_off(text, start):
            return True
        if decoded is not None and not known.isdisjoint(plain_fields(decoded[0])):
            return True
    return False


def _breaks_off(text: str, start: int) -> bool:
    """Whether the text from `start` is the beginning of a JSON object, and no more."""
    try:
        _LENIENT.raw_decode(text, start)
    except json.JSONDecodeError as error:
        return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip())
    return False


def _repair(text: str, openings: list[int], known: frozenset[str]) -> _Found:
    """The object out of malformed JSON that is whole as far as its brackets tell."""
    quoted = (start for start in openings if text[start + 1 :].lstrip()[:1] in "\"'“‘")
    start, end = next(quoted, openings[0]), text.rfind("}") + 1
    segment = text[start:end]
    uneven = any(segment.count(a) != segment.count(b) for a, b in ("{}", "[]"))
    whole = segment and text[end : end + 1] in ("", "]", "\n", "`")
    if not whole or any(_breaks_off(text, opening) for opening in openings):
        raise Unreadable("truncated")
    if uneven:
        raise Unreadable("not JSON")
    try:
        value = json_repair.loads(segment, skip_json_loads=True)
    except ValueError:
        raise Unreadable("nested too deep") from None
    values = value if isinstance(value, list) else [value]
    objects = [plain_fields(item) for item in values if isinstance(item, Mapping)]
    feedback = [fields for fields in objects if not known.isdisjoint(fields)]
    if len(feedback) > 1 or any(_times_as_key(key, segment) > 1 for key in known):
        raise Unreadable("two objects")
    if not objects:
        raise Unreadable("not JSON")
    return start, end, (feedback or objects)[0], "json_repair", segment


def _times_as_key(key: str, text: str) -> int:
    """How often a known key (never a quote) stands before a colon."""
    quoted = (f"{mark}{key}{mark}" for mark in "\"'")
    return sum(
        part.lstrip().startswith(":") for name in quoted for part in text.lower().split(name)[1:]
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Unreadable("key given twice")
    return fields


# Integers become floats: Python refuses to read one of more than 4,300 digits.
_STRICT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=float)
_LENIENT = json.JSONDecoder(object_pairs_hook=_unique, parse_int=float, strict=False)
