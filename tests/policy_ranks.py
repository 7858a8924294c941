"""One of several processes of small PPO runs; `test_policy_ranks.py` starts them.

    python -m deepspeed.launcher.runner --num_accelerators 2 policy_ranks.py SETTINGS.json
    python -m accelerate.commands.launch --num_processes 2 policy_ranks.py SETTINGS.json

Writes `rank_{i}.json` beside the settings: what it found, and a digest of its trained weights after
each of the runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from policy_runs import config, nudge, trainer

from text2grad.trainer import Text2GradTrainer


def fixed_responses(made: Text2GradTrainer) -> None:
    """Let every prompt have one response that only its id decides, so that ranks play no part."""
    vocabulary = len(made.tokenizer) - 1

    def collect(records: Any) -> tuple[list[list[int]], list[list[int]]]:
        prompts = [made.renderer.render(r.origin, prompt=r.prompt).ids for r in records]
        responses = []
        for record in records:
            draw = random.Random(record.prompt)
            responses.append([draw.randrange(3, vocabulary) for _ in range(draw.randint(3, 12))])
        return prompts, responses

    made.collect = collect


def move_second(made: Text2GradTrainer, log_ratio: float) -> None:
    """Let the policy seem to be so far from the sampled one, on the second of two processes alone.

    That is so in the first step, and for the same responses if one process has them all.
    """
    plain = made._token_stats
    process, processes = made.accelerator.process_index, made.accelerator.num_processes

    def moved(batches: Any, responses: list[list[int]]) -> Any:
        stats = plain(batches, responses)
        if made.step_number == 1:
            places = torch.arange(process, processes * len(responses), processes)
            stats.logp[places % 2 == 1] -= log_ratio
        return stats

    made._token_stats = moved


def build(
    settings: dict[str, Any],
    name: str,
    fixed: bool = True,
    unreadable: bool = False,
    log_ratio: float = 0.0,
    **flags: Any,
) -> Text2GradTrainer:
    """A run in the folder `name`; if `unreadable`, no critique of the second of two processes is.

    That is so in the first step, and for the same prompts if one process has them all; as is
    `log_ratio`, see `move_second`.
    """
    files = settings["model"], settings["posts"], Path(settings["folder"]) / name
    made = trainer(config(*files, **settings["flags"] | flags))
    if unreadable:
        second = {record.prompt for record in made.order.batch(0, 1, 2)}
        made.critic.fails = lambda record: record.prompt in second
    if fixed:
        fixed_responses(made)
    if log_ratio:
        move_second(made, log_ratio)
    if not made.args.resume_from_checkpoint:
        with made.weights.loading():
            nudge(made)  # gradients of weights that are 0 would agree by themselves
    return made


def digest(made: Text2GradTrainer) -> str:
    """A hash of the trained weights, whole."""
    found = hashlib.sha256()
    with made.weights.whole():
        for parameter in made.policy.parameters():
            if parameter.requires_grad:
                found.update(parameter.detach().float().contiguous().numpy().tobytes())
    return found.hexdigest()


def forget_launch() -> None:
    """A second accelerator in one process starts as the first one did."""
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)


class Fetches:
    """Counts, by phase of a step, how often ZeRO-3 brings weights together.

    "whole" are contexts that gather all weights, "modules" the calls before a module's forward or
    backward pass; what an update counts shows that such calls would be seen.
    """

    def __init__(self, made: Text2GradTrainer) -> None:
        from deepspeed.runtime.zero import GatheredParameters
        from deepspeed.runtime.zero.partitioned_param_coordinator import (
            PartitionedParameterCoordinator,
        )

        self.seen: dict[str, Counter[str]] = defaultdict(Counter)
        self._phase = ""
        self._count(GatheredParameters, "__enter__", "whole")
        self._count(PartitionedParameterCoordinator, "fetch_sub_module", "modules")
        for place, name in ((made, "collect"), (made, "_token_stats"), (made, "validate")):
            self._watch(place, name)
        self._watch(made.updater, "run")

    def _count(self, owner: type, name: str, kind: str) -> None:
        plain = getattr(owner, name)

        def counted(this: Any, *args: Any, **named: Any) -> Any:
            if getattr(this, "enabled", True):
                self.seen[self._phase][kind] += 1
            return plain(this, *args, **named)

        setattr(owner, name, counted)

    def _watch(self, owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def watched(*args: Any, **named: Any) -> Any:
            self._phase, before = name, self._phase
            self.seen[name]["calls"] += 1
            try:
                return plain(*args, **named)
            finally:
                self._phase = before

        setattr(owner, name, watched)


def watch_passes(made: Text2GradTrainer) -> tuple[list[list[int]], list[list[int]]]:
    """For each batch: passes per update that this process needs, and those it makes."""
    plain, needed, agreed = made.weights.most, [], []

    def most(counts: list[int]) -> list[int]:
        needed.append(counts)
        agreed.append(plain(counts))
        return agreed[-1]

    if made.args.max_tokens_per_microbatch:
        made.weights.most = most
    return needed, agreed


def facts(made: Text2GradTrainer) -> dict[str, Any]:
    """What this process is part of."""
    engine = made.weights.policy
    group = torch.distributed.distributed_c10d._get_default_group()
    patience = group._get_backend(torch.device("cpu")).options._timeout
    found = {
        "engine": type(engine).__name__,
        "processes": made.accelerator.num_processes,
        "training": engine.module.training,
        "patience_seconds": patience.total_seconds(),
    }
    if found["engine"] == "DeepSpeedEngine":
        found["stage"] = engine.zero_optimization_stage()
        found["accumulation"] = engine.gradient_accumulation_steps()
        found["clipping"] = engine.gradient_clipping()
    return found


def main(settings: dict[str, Any], folder: Path) -> None:
    """All runs of the settings, one after the other."""
    found: dict[str, Any] = {"digests": {}, "passes": {}}
    for name, flags in settings["runs"].items():
        forget_launch()
        made = build(settings, name, **flags)
        made.accelerator.end_training = lambda: None  # the next run needs the communication
        found |= facts(made)
        found["passes"][name] = watch_passes(made)
        fetches = Fetches(made) if settings["fetches"] == name else None
        made.train()
        found["digests"][name] = digest(made)
        if fetches:
            found["fetches"] = fetches.seen
    rank = made.accelerator.process_index
    (folder / f"rank_{rank}.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    file = Path(next(word for word in sys.argv[1:] if not word.startswith("--")))
    main(json.loads(file.read_text(encoding="utf-8")), file.parent)
