"""A few annotated records, and a tiny model to train on them."""

import json
from pathlib import Path

from tiny import byte_level_tokenizer, tiny_llama

POSTS = (
    "The dog ran to the park.",
    "My boss told me that I was late.",
    "Is it wrong to ask?",
    "The meeting was on Monday.",
    "I do not know what to do.",
)


def row(number: int, post: str, **changes: object) -> dict:
    return {
        "id": f"r{number}",
        "post": post,
        "generated_summary": f"A summary: {post}",
        "textual_feedback": "It keeps the main point.",
        "good_spans": [post.split(" ", 1)[1]],
        "poor_spans": ["A summary"],
    } | changes


def write(path: Path, rows: list) -> str:
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def save_base(folder: Path) -> str:
    tokenizer = byte_level_tokenizer()
    tiny_llama(tokenizer, initializer_range=0.2).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
