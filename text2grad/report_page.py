"""The page around a report: style, script and data in one file that allows nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from text2grad.charts import Chart
from text2grad.report_entries import Entry

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("page.js", "entries.js", "pairs.js")
STYLES = ("report.css",)


def render_page(
    template: str,
    payload: Mapping[str, Any],
    scripts: Sequence[str] = SCRIPTS,
    styles: Sequence[str] = STYLES,
    **context: Any,
) -> str:
    """The page as HTML.

    Args:
        template: a file of `templates`.
        payload: what the page's script reads, see `page_payload`.
        scripts: files of `templates`, in order.
        styles: likewise.
        context: what the template names.
    """
    style = "".join(map(_read_template, styles))
    script = "".join(map(_read_template, scripts))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(
        style=Markup(style),
        style_hash=_source_hash(style),
        script=Markup(script),
        script_hash=_source_hash(script),
        payload=embed_json(payload),
        **context,
    )


def page_payload(
    charts: Sequence[Chart],
    groups: Sequence[Sequence[Entry]],
    pairs: Mapping[str, Any],
    runs: Sequence[str] = (),
) -> dict[str, Any]:
    """What the page's script reads; prompts recur from step to step and are stored once.

    Args:
        charts: those of the page, in its order.
        groups: responses that are shown together: one of a run, or one of each run.
        pairs: `report_pairs`.
        runs: names of the runs, in the order of a group; () for a page about one.
    """
    prompts: dict[str, int] = {}
    numbered = [
        [
            {**entry, "prompt": prompts.setdefault(entry.get("prompt") or "", len(prompts))}
            for entry in group
        ]
        for group in groups
    ]
    return {
        "charts": [chart.points() for chart in charts],
        "prompts": list(prompts),
        "groups": numbered,
        "pairs": dict(pairs),
        "runs": list(runs),
    }


def embed_json(value: Any) -> Markup:
    """JSON for a script element of type application/json: no `<`, no number JSON cannot say."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _read_template(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "sha256-" + base64.b64encode(digest).decode("ascii")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
