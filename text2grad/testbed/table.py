"""The testbed's figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from text2grad.tables import cell_text, interval_text, markdown_table
from text2grad.testbed.plan import BASELINE

Results = Mapping[str, Any]

CAPTION = """\
A language of 48 phrases, 12 of them good and 12 poor. Quality is good minus poor phrases per
response, counted exactly, for one sampled response to each of {eval_samples} prompts that are never
trained on. Every run is {steps} PPO steps of {batch_size} responses by the project's trainer from
one start model; runs of one seed share the adapter's first weights, the order of prompts and the
draws of the measurements. A point of a curve is the mean of {window} measurements, {eval_steps}
steps apart. `span` pays each quoted word its own score, `scalar` the sum of the same scores on the
last token, `spread` an equal share of that sum on every token; `dense` has every word labelled,
those that decide nothing like the response as a whole. Intervals are of 95 %: Student's over seeds
or over differences of pairs; for the share of steps saved a bootstrap over pairs.
"""
CENSORED = """\
Steps are those until the score with which `{baseline}` of the same seed ends. A run that does not
get there within its {steps} steps is counted with {steps}, which flatters it; how many there are is
in the column "not reached". "Sooner, same, later" and the sign test's p need no such bound.
"""
NOISE = """\
Both methods get critiques with the same errors, and keep the learning rates tuned without noise.
The share is that of spans, for `irrelevant` that of critiques.
"""


def testbed_markdown(results: Results) -> str:
    """The tables of what `Testbed` has so far."""
    settings = results["settings"]
    parts = ["# Controlled testbed\n", CAPTION.format(**settings)]
    if not results["complete"]:
        parts.append("Not complete: runs are missing.\n")
    if results["tuning"]:
        parts += ["## Learning rate\n", _tuning(results["tuning"])]
    parts += ["## Quality\n", _quality(results["methods"])]
    compared = {m: facts for m, facts in results["methods"].items() if m != BASELINE}
    if compared:
        title = f"## Steps to the score with which `{BASELINE}` ends\n"
        parts += [title, CENSORED.format(baseline=BASELINE, **settings), _steps(compared)]
    if results["noise"]:
        parts += ["## Noise\n", NOISE, _noise(results["noise"]), _limits(results["noise"])]
    return "\n".join(parts)


def _tuning(tuning: Results) -> str:
    rates = list(next(iter(tuning.values()))["final"])
    rows = [
        [method, *facts["final"].values(), f"{facts['chosen']:g}{' (end)' * facts['at_end']}"]
        for method, facts in tuning.items()
    ]
    text = "Final quality by learning rate, mean over tuning seeds; (end): of the range tried.\n\n"
    return text + markdown_table(["credit", *rates, "chosen"], rows)


def _quality(methods: Results) -> str:
    header = ["credit", "seeds", "at the start", "at the end", "interval", "mean over the run"]
    header += [f"end, against {BASELINE}", "interval"]
    rows = []
    for method, facts in methods.items():
        row = [method, len(facts["seeds"]), facts["start"], facts["final"]]
        row += [interval_text(facts["final_interval"]), facts["average"]]
        against = facts.get(f"against_{BASELINE}")
        rows.append([*row, *(_difference(against["final"]) if against else ("", ""))])
    return markdown_table(header, rows)


def _steps(methods: Results) -> str:
    header = ["credit", "steps", "not reached", f"steps of {BASELINE}", "difference", "interval"]
    header += ["steps saved", "interval", "sooner, same, later", "p"]
    rows = []
    for method, facts in methods.items():
        found = facts[f"against_{BASELINE}"]["steps"]
        row = [method, f"{found['ours']:.1f}", found["censored_ours"], f"{found['theirs']:.1f}"]
        row += [*_difference(found["difference"]), *_saved(found)]
        split = f"{found['wins']}, {found['ties']}, {found['losses']}"
        rows.append([*row, split, found["p_value"]])
    return markdown_table(header, rows)


def _noise(noise: Sequence[Results]) -> str:
    header = ["noise", "share", "seeds", "span at the end", f"{BASELINE} at the end"]
    header += ["difference", "interval", "steps saved", "interval", "not reached"]
    rows = []
    for one in noise:
        steps, final = one["comparison"]["steps"], one["comparison"]["final"]
        row = [one["kind"], _percent(one["rate"]), len(one["span"]["seeds"])]
        row += [one["span"]["final"], one[BASELINE]["final"], *_difference(final)]
        rows.append([*row, *_saved(steps), steps["censored_ours"]])
    return markdown_table(header, rows)


def _limits(noise: Sequence[Results]) -> str:
    """From which share on span credit is no longer clearly better, by kind of noise."""
    lines = []
    for kind in dict.fromkeys(one["kind"] for one in noise):
        own = [one for one in noise if one["kind"] == kind]
        level = [one["rate"] for one in own if not _is_clearly_better(one["comparison"]["final"])]
        most = _percent(max(one["rate"] for one in own))
        at = f"not clearly better from {_percent(min(level))} on" if level else ""
        lines.append(f"- {kind}: {at or f'clearly better at every share, up to {most}'}")
    text = (
        f"Where span credit stops beating `{BASELINE}` in final quality (the interval of the "
        "difference is no longer above 0):\n\n"
    )
    return text + "\n".join(lines) + "\n"


def _is_clearly_better(final: Results) -> bool:
    return final["interval"] is not None and final["interval"][0] > 0


def _difference(difference: Results) -> tuple[str, str]:
    return f"{difference['mean']:+.3f}", interval_text(difference["interval"], signed=True)


def _saved(steps: Results) -> tuple[str, str]:
    interval = steps["saved_interval"]
    shown = f"[{_percent(interval[0])}, {_percent(interval[1])}]" if interval else ""
    return cell_text(None) if steps["saved"] is None else _percent(steps["saved"]), shown


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
