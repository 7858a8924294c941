"""The shape of what `3_metrics.py` of the reward model writes, for those who read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from text2grad.shapes import NUMBER, TEXT, TRUTH, Maybe, check_shape

_INTERVAL = Maybe([NUMBER, NUMBER])
_SCORES = {"precision": Maybe(NUMBER), "recall": Maybe(NUMBER), "f1": Maybe(NUMBER)}
_TOKENS = {"macro_f1": Maybe(NUMBER), "sign_accuracy": Maybe(NUMBER), "*": _SCORES}
_SYSTEM = {"tokens": _TOKENS, "spans": {"*": _SCORES}}
_LEAD = {
    "macro_f1": NUMBER,
    "interval": _INTERVAL,
    "sign_accuracy?": Maybe(NUMBER),
    "sign_accuracy_interval?": _INTERVAL,
}
_PART = {
    "responses": NUMBER,
    "systems": {"reward_model": {"tokens": _TOKENS}, "*": {"tokens": _TOKENS}},
    "lead": {"*": _LEAD},
}
_UNCONSTRAINED = {
    "replies": NUMBER,
    "parse_rate": NUMBER,
    "quotes": NUMBER,
    "unmatched_rate": Maybe(NUMBER),
}
_DECODING = {
    "constrained?": TRUTH,
    "rejected_share?": NUMBER,
    "removed_mass?": NUMBER,
    "reward_model?": TEXT,
    "reward_model_sha256?": TEXT,
    "unconstrained?": _UNCONSTRAINED,
}
REWARD_MODEL_REPORT = {
    "responses": NUMBER,
    "posts": NUMBER,
    "unit": TEXT,
    "parse": {"rate": NUMBER, "unparseable": {"*": NUMBER}, "repairs": {"*": NUMBER}},
    "quotes": {"quotes": NUMBER, "unmatched_rate": Maybe(NUMBER)},
    "gold_quotes": {"quotes": NUMBER},
    "critique": {"*": {"*": Maybe(NUMBER)}},
    "systems": {"reward_model": _SYSTEM, "*": _SYSTEM},
    "macro_f1_interval": {"*": _INTERVAL},
    "lead": {"*": _LEAD},
    "human?": {"responses": NUMBER, "sign_accuracy": Maybe(NUMBER)},
    "decoding?": _DECODING,
    "parts?": {"*": _PART},
}


def check_reward_report(report: Mapping[str, Any], source: str) -> None:
    """Refuse a file that `3_metrics.py` of the reward model did not write as it is now.

    Args:
        report: what was read.
        source: flag and file, for the message.

    Raises:
        UserError: naming the first key that is missing or holds something else.
    """
    advice = "name what 3_metrics.py of the reward model wrote, or run it again"
    check_shape(report, REWARD_MODEL_REPORT, source, advice)
    decoding = report.get("decoding") or {}
    if decoding.get("constrained"):
        overruled = {"rejected_share": NUMBER, "removed_mass": NUMBER}
        check_shape({"decoding": decoding}, {"decoding": overruled}, source, advice)
