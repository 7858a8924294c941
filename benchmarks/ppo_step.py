"""The optimisation step of PPO against TRL 0.11.3's, of which the published trainer is a copy.

    python benchmarks/ppo_step.py [--model DIR] [--prompt_tokens 128 512] [--budgets 2048 384]
        [--rounds 3] [--json] [--output_path benchmarks/results/ppo_step.md]

Both programs stay alive and make a step in turn, on the same model, prompts and responses, with the
same LoRA, epochs, responses per update and precision: a forward pass with the adapter and one
without, rewards, advantages, all epochs of updates. TRL runs in an environment of its own, which
the first start sets up (`--environment`); it has no token budget, so `--mini_batch_size` decides
for it, and for the row of ours without a budget. Peak memory is the most that the process had
resident after its model was loaded, Python and libraries included. "products" is what our matrix
products with the frozen weights alone take here, nothing padded: no step can be faster.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tqdm import tqdm

from text2grad.embedded import export_embedded_model
from text2grad.external import Program, ready
from text2grad.files import write_text
from text2grad.precision import cpu_dtype
from text2grad.schema import UserError
from text2grad.tables import markdown_table, text_table

HERE = Path(__file__).resolve().parent
MODEL = HERE.parent / "models/smollm2-135m-instruct"
TRL = Program(
    "TRL",
    "trl",
    (
        *("trl==0.11.3", "transformers==4.45.2", "peft==0.13.2", "accelerate==0.34.2", "rich"),
        *("--extra-index-url", "https://download.pytorch.org/whl/cpu"),
        f"torch=={torch.__version__}",
    ),
    shared=False,
)
COLUMNS = {
    "prompt_tokens": "prompt tokens",
    "variant": "tokens per pass",
    "seconds": "seconds",
    "peer_seconds": "TRL, seconds",
    "products_seconds": "products",
    "speedup": "speedup",
    "speedup_range": "its range",
    "peak_mib": "peak MiB",
    "peer_peak_mib": "TRL, peak MiB",
    "memory_ratio": "memory ratio",
}
SAME = "as TRL"
OWN_SCRIPT, PEER_SCRIPT = "ppo_step_own.py", "ppo_step_peer.py"


class Worker:
    """A program that waits to be told to take a step.

    Args:
        python: its interpreter.
        script: beside this file.
        settings: see `ppo_step_worker.Settings`.
        log: file for what it and its libraries say otherwise.
    """

    def __init__(self, python: str, script: str, settings: dict[str, Any], log: Path) -> None:
        self._name, self._log = script, log
        threads = str(settings["threads"])
        with open(log, "w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                [python, str(HERE / script), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"},
            )
        self.facts = self._answer()
        self.seconds: list[float] = []
        self.peak_mib = 0.0

    def step(self, counted: bool = True) -> None:
        """Take a step and note its time, if it counts, and the memory used so far."""
        self._process.stdin.write("step\n")
        self._process.stdin.flush()
        said = self._answer()
        self.peak_mib = said["peak_mib"]
        if counted:
            self.seconds.append(said["seconds"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            last = self._log.read_text(encoding="utf-8").strip().split("\n")[-1]
            raise UserError(f"{self._name} ended with status {self._process.returncode}: {last}")
        return json.loads(line)


@contextmanager
def workers(args: argparse.Namespace, prompt_tokens: int, peer: str) -> Iterator[dict[str, Worker]]:
    """TRL as "peer", and ours by variant, all with their models loaded."""
    names = ("dtype", "response_tokens", "batch_size", "mini_batch_size", "ppo_epochs", "lora_r")
    common = {name: getattr(args, name) for name in (*names, "kl_penalty", "threads")}
    common |= {"model": args.model, "prompt_tokens": prompt_tokens, "learning_rate": 1e-5}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made: dict[str, Worker] = {}

        def start(name: str, python: str, script: str, **own: Any) -> None:
            place = folder / name.replace(" ", "_")
            place.mkdir()
            settings = {**common, "folder": str(place), "own": own}
            made[name] = Worker(python, script, settings, folder / f"{place.name}.log")
            stack.callback(made[name].close)

        start("peer", peer, PEER_SCRIPT)
        start(SAME, sys.executable, OWN_SCRIPT)
        for budget in args.budgets:
            flags = {"max_tokens_per_microbatch": budget}
            start(str(budget), sys.executable, OWN_SCRIPT, **flags)
        yield made


def measure(args: argparse.Namespace, prompt_tokens: int, peer: str) -> list[dict[str, Any]]:
    """One row for each variant of ours, with the peer's figures beside it."""
    with workers(args, prompt_tokens, peer) as made:
        for number in tqdm(range(args.rounds + 1), desc=f"{prompt_tokens}-token prompts"):
            for worker in made.values():
                worker.step(counted=number > 0)
        trl = made.pop("peer")
        return [_row(args, prompt_tokens, name, own, trl) for name, own in made.items()]


def _row(
    args: argparse.Namespace, prompt_tokens: int, variant: str, own: Worker, trl: Worker
) -> dict[str, Any]:
    ratios = [theirs / ours for ours, theirs in zip(own.seconds, trl.seconds, strict=True)]
    return {
        "prompt_tokens": prompt_tokens,
        "variant": variant,
        "seconds": median(own.seconds),
        "peer_seconds": median(trl.seconds),
        "speedup": median(ratios),
        "speedup_range": [min(ratios), max(ratios)],
        "peak_mib": own.peak_mib,
        "peer_peak_mib": trl.peak_mib,
        "memory_ratio": own.peak_mib / trl.peak_mib,
        "loaded_mib": own.facts["loaded_mib"],
        "peer_loaded_mib": trl.facts["loaded_mib"],
        "products_seconds": own.facts["products_seconds"],
        "attention": own.facts["attention"],
        "dtype": own.facts["dtype"],
        "peer": {
            **{key: trl.facts[key] for key in ("trl", "transformers", "peft", "torch")},
            **{key: trl.facts[key] for key in ("attention", "dtype", "threads")},
            "mini_batch": args.mini_batch_size,
            "epochs": args.ppo_epochs,
        },
    }


def summary(args: argparse.Namespace, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All figures; speedup and memory ratio are those of the first prompt length and budget."""
    first = rows[1] if args.budgets else rows[0]
    names = ("response_tokens", "batch_size", "mini_batch_size", "ppo_epochs", "lora_r")
    return {
        "speedup": first["speedup"],
        "memory_ratio": first["memory_ratio"],
        "model": Path(args.model).name,
        "cpu_has_amx": torch.cpu._is_amx_tile_supported(),
        **{name: getattr(args, name) for name in (*names, "kl_penalty", "threads", "rounds")},
        "rows": rows,
    }


def table_rows(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """The figures of `COLUMNS`."""
    shown = []
    for row in rows:
        low, high = row["speedup_range"]
        rounded = {key: round(row[key]) for key in ("peak_mib", "peer_peak_mib")}
        shown.append(row | rounded | {"speedup_range": f"{low:.2f} to {high:.2f}"})
    return [[row[key] for key in COLUMNS] for row in shown]


def markdown(found: dict[str, Any]) -> str:
    """The table with what is needed to read it."""
    peer = found["rows"][0]["peer"]
    return (
        f"{found['model']} in {found['rows'][0]['dtype']} on {found['threads']} threads, LoRA r "
        f"{found['lora_r']}, {found['batch_size']} responses of {found['response_tokens']} tokens, "
        f"{found['ppo_epochs']} epochs of one update, KL penalty `{found['kl_penalty']}`. TRL "
        f"{peer['trl']} with transformers {peer['transformers']}, torch {peer['torch']}, attention "
        f"{peer['attention']}, {peer['mini_batch']} responses per pass; ours with attention "
        f"{found['rows'][0]['attention']} and as many, or as fit the tokens per pass "
        f"(`--max_tokens_per_microbatch`). {found['rounds']} rounds after one to warm up, in each "
        "all programs take a step in turn; seconds and speedup are medians. Peak memory is the "
        "most that a process had resident after its model was loaded, Python and libraries "
        'included. "products" is what our matrix products with the frozen weights alone take '
        "here, nothing padded.\n\n"
        + markdown_table(list(COLUMNS.values()), table_rows(found["rows"]))
    )


def run(args: argparse.Namespace) -> None:
    """Measure, print the figures and write them.

    Raises:
        UserError: TRL cannot be set up, a program fails, or bf16 is asked for where it is slow.
    """
    if args.dtype == "bf16" and cpu_dtype() != "bf16":
        raise UserError("--dtype bf16: this processor is not fast at it, by measurement; pass fp32")
    if args.batch_size % args.mini_batch_size:
        raise UserError(
            f"--batch_size {args.batch_size} is not a multiple of --mini_batch_size "
            f"{args.mini_batch_size}"
        )
    if args.dtype == "auto":
        args.dtype = cpu_dtype()
    if args.model == str(MODEL):
        export_embedded_model(MODEL)
    peer = ready(TRL, args.environment, HERE)
    rows = [row for tokens in args.prompt_tokens for row in measure(args, tokens, peer)]
    found = summary(args, rows)
    if args.json:
        print(json.dumps(found, indent=1))
    else:
        print(text_table(list(COLUMNS.values()), table_rows(rows)))
    if args.output_path:
        write_text(args.output_path, markdown(found), "--output_path")


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default=str(MODEL), help="policy, the embedded one by default")
    parser.add_argument("--environment", default=str(HERE.parent / ".venv-trl"), help="TRL's")
    parser.add_argument("--prompt_tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--response_tokens", type=int, default=48)
    parser.add_argument("--budgets", type=int, nargs="*", default=[2048, 384])
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--mini_batch_size", type=int, default=1, help="responses per pass of TRL")
    parser.add_argument("--ppo_epochs", type=int, default=4)
    parser.add_argument("--lora_r", type=int, default=16)
    parser.add_argument("--kl_penalty", default="full", choices=("full", "kl", "abs", "mse"))
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--output_path", default="", help="Markdown table to write")
    args = parser.parse_args()
    try:
        run(args)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
