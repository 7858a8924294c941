"""The gate before PPO: what the measured reward model is fit for, one line for each check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from text2grad.report_data import read_object
from text2grad.reward_report import check_reward_report
from text2grad.schema import UserError
from text2grad.trends import (
    HIGH_REJECTED_SHARE,
    HIGH_REMOVED_MASS,
    HIGH_UNMATCHED_RATE,
    LOW_PARSE_RATE,
)
from text2grad.wording import pretty, signed

if TYPE_CHECKING:
    from text2grad.config import PolicyConfig

Metrics = Mapping[str, Any]
MIN_RESPONSES = 50  # a share measured on fewer is uncertain by more than 14 points
MIN_AGREEMENT = 0.8
BAG_OF_WORDS = "bag_of_words"  # the one baseline that can be left out of the metrics
LONGER = "train the reward model longer, or on more and better annotations"


@dataclass(frozen=True)
class Check:
    """One line of the gate.

    Attributes:
        status: SKIP where there is nothing to check, which is no fault.
        name: what is checked.
        finding: the figure and its bound.
        advice: what to do about a WARN.
    """

    status: Literal["PASS", "WARN", "SKIP"]
    name: str
    finding: str
    advice: str = ""

    def __str__(self) -> str:
        advice = f": {self.advice}" if self.status == "WARN" else ""
        return f"{self.status}  {self.name}: {self.finding}{advice}"


def pass_gate(args: PolicyConfig, reward_model: Mapping[str, str], show: bool) -> list[str]:
    """Check the reward model that a run is about to optimise against.

    Args:
        args: `reward_model_metrics` ("" for no gate) and `require_rm_gate`.
        reward_model: "reward_model", its name, "reward_model_sha256" and, where it is behind one,
            "reward_base_url", its server, among what `critic_facts` tells; without a hash, as
            another kind of critic, there is no gate.
        show: whether to print the lines.

    Returns:
        The lines.

    Raises:
        UserError: the metrics are not those of a reward model, or `--require_rm_gate true` and not
            all is well.
    """
    if not args.reward_model_metrics or "reward_model_sha256" not in reward_model:
        return []
    path = Path(args.reward_model_metrics)
    server = reward_model.get("reward_base_url", "")
    checks = [_unmeasured(path, args.reward_model_name, server)]
    if path.exists():
        metrics = read_object(path, "--reward_model_metrics")
        name, weights = reward_model["reward_model"], reward_model["reward_model_sha256"]
        checks = reward_model_checks(metrics, path, name, weights, server)
    lines = [str(check) for check in checks]
    if show:
        print("\n".join(["reward model:", *lines]))
    failed = [check.name for check in checks if check.status == "WARN"]
    if failed and args.require_rm_gate:
        raise UserError(
            f"--require_rm_gate true: {', '.join(failed)} of {args.reward_model_name} did not pass "
            f"(--reward_model_metrics {path}); mend that, or start with --require_rm_gate false"
        )
    return lines


def reward_model_checks(
    metrics: Metrics, path: Path, reward_model: str, reward_model_sha256: str, server: str = ""
) -> list[Check]:
    """All checks of what `3_metrics.py` wrote to `path`.

    Raises:
        UserError: these are other figures, or of an older format.
    """
    check_reward_report(metrics, f"--reward_model_metrics {path}")
    decoding = metrics.get("decoding") or {}
    return [
        _identity(decoding, reward_model, reward_model_sha256, server),
        _responses(metrics["responses"]),
        *_reply_checks(metrics, decoding),
        *_overruled(decoding),
        *_leads(metrics["lead"]),
        _agreement(metrics.get("human") or {}),
    ]


def _unmeasured(path: Path, reward_model: str, server: str) -> Check:
    finding = f"no --reward_model_metrics {path}"
    advice = _how_to_measure(reward_model, server, path.resolve())
    return Check("WARN", "measured", finding, advice)


def _how_to_measure(reward_model: str, server: str, output: Path | None = None) -> str:
    if server:
        reward_model = f"{reward_model} --backend server --base_url {server}"
    model = Path(reward_model).resolve() if Path(reward_model).exists() else reward_model
    to = f" --output_file {output}" if output else ""
    return (
        "in Evaluation of the task under NL_Reward_Model run `python 2_infer.py --model_path "
        f"{model}` and `python 3_metrics.py{to}`"
    )


def _identity(decoding: Metrics, name: str, sha256: str, server: str) -> Check:
    measured, measured_sha = decoding.get("reward_model"), decoding.get("reward_model_sha256")
    if not measured:
        finding = "the metrics do not say whose they are"
        return Check("WARN", "same model", finding, _how_to_measure(name, server))
    # a model that is loaded by a hub's name has no folder to hash
    same = measured_sha == sha256 if measured_sha or sha256 else measured == name
    if same:
        return Check("PASS", "same model", f"the metrics are those of {name}")
    finding = f"the metrics are of other weights ({measured}) than those of {name}"
    return Check("WARN", "same model", finding, _how_to_measure(name, server))


def _responses(count: int) -> Check:
    finding = f"{count} measured (at least {MIN_RESPONSES})"
    advice = "the figures below are uncertain; give 2_infer.py more records (--max_samples)"
    return Check(_status(count >= MIN_RESPONSES), "responses", finding, advice)


def _reply_checks(metrics: Metrics, decoding: Metrics) -> list[Check]:
    """Parse and unmatched rate of replies that no grammar made right."""
    names = ("parse rate", "unmatched quotes")
    if "constrained" not in decoding:
        finding = "the metrics do not say how the replies were decoded"
        return [Check("WARN", name, finding, "run 2_infer.py and 3_metrics.py") for name in names]
    if not decoding["constrained"]:
        found = {"parse_rate": metrics["parse"]["rate"], "replies": metrics["responses"]}
        found |= {key: metrics["quotes"][key] for key in ("quotes", "unmatched_rate")}
    elif "unconstrained" in decoding:
        found = decoding["unconstrained"]
    else:
        finding = "known under constrained decoding only, which makes every reply right"
        advice = "run 2_infer.py with --unconstrained_samples 64, and 3_metrics.py"
        return [Check("WARN", name, finding, advice) for name in names]
    rate, quotes = found["parse_rate"], found["quotes"]
    parse = Check(
        _status(rate >= LOW_PARSE_RATE),
        names[0],
        f"{rate:.1%} of {found['replies']} replies without the grammar "
        f"(at least {LOW_PARSE_RATE:.0%})",
        f'{LONGER}; look at "unparseable" in the output of 2_infer.py --constrained_decoding false',
    )
    unmatched = found["unmatched_rate"] if quotes else None
    share = "there are none" if unmatched is None else f"{unmatched:.1%} of {quotes}"
    return [
        parse,
        Check(
            _status(unmatched is not None and unmatched < HIGH_UNMATCHED_RATE),
            names[1],
            f"{share} without the grammar (below {HIGH_UNMATCHED_RATE:.0%})",
            f"{LONGER}; what is quoted but not in the response earns nothing",
        ),
    ]


def _overruled(decoding: Metrics) -> list[Check]:
    if not decoding.get("constrained"):
        return []
    checks = []
    for key, bound in (
        ("rejected_share", HIGH_REJECTED_SHARE),
        ("removed_mass", HIGH_REMOVED_MASS),
    ):
        value = decoding[key]
        finding = f"{value:.1%} (at most {bound:.0%})"
        advice = f"{LONGER}; its quotes are forced by the grammar more than chosen"
        checks.append(Check(_status(value <= bound), key.replace("_", " "), finding, advice))
    return checks


def _leads(leads: Metrics) -> list[Check]:
    """Macro-F1 against each baseline, with the bootstrap's interval."""
    checks = []
    for baseline in dict.fromkeys((*leads, BAG_OF_WORDS)):
        name = f"better than “{pretty(baseline)}”"
        if baseline not in leads:
            advice = "give 3_metrics.py the training records (--train_file)"
            checks.append(Check("WARN", name, "not measured", advice))
            continue
        value, interval = leads[baseline]["macro_f1"], leads[baseline]["interval"]
        between = "no interval from one post"
        if interval:
            between = f"{signed(interval[0])} to {signed(interval[1])}"
        passed = bool(interval) and interval[0] > 0
        finding = f"macro-F1 {signed(value)} ({between}, above 0)"
        advice = f"its scores say no more than that; {LONGER}"
        checks.append(Check(_status(passed), name, finding, advice))
    return checks


def _agreement(human: Metrics) -> Check:
    name, value = "agreement with people", human.get("sign_accuracy")
    if value is None:
        return Check("SKIP", name, "no human labels in the measured records")
    finding = (
        f"{value:.1%} of the words marked in {human['responses']} responses have the same sign "
        f"(above {MIN_AGREEMENT:.0%})"
    )
    return Check(_status(value > MIN_AGREEMENT), name, finding, LONGER)


def _status(passed: bool) -> Literal["PASS", "WARN"]:
    return "PASS" if passed else "WARN"
