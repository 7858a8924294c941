"""From a table, its methods and a budget to the stages that make it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from text2grad.paper.benchmarks import OWN, Benchmark
from text2grad.paper.budgets import RESUME
from text2grad.paper.methods import METHODS, REWARD_MODELS, SCALAR, Method, choose_methods
from text2grad.paper.other_judges import (
    add_foreign_annotations,
    add_foreign_reward_model,
    add_people,
)
from text2grad.paper.shared_stages import SharedStages
from text2grad.paper.stages import Command, Stages, files_hash, flags
from text2grad.paper.variants import (
    CLEAN,
    Variant,
    choose_noisy_methods,
    noise_variants,
    policy_variants,
)

if TYPE_CHECKING:
    from text2grad.config import PaperRunConfig

MEASURES, JUDGE = "measures", "judge"
ROOT = Path(__file__).resolve().parents[2]


def plan(args: PaperRunConfig, folder: Path, root: Path = ROOT) -> Stages:
    """All stages that the flags ask for, in order; those that methods share are there once.

    Args:
        args: table, methods, seeds and what replaces settings of the budget.
        folder: where everything is written, absolute.
        root: where the project lies.

    Raises:
        UserError: a method does not exist for this table, a policy or a file is not what its flag
            asks for, or data or trees are missing.
    """
    shared = SharedStages(args, folder, root)
    others = policy_variants(args.policies, shared.model)
    reasons = shared.annotator == "openai"
    if args.reward_from:
        add_foreign_reward_model(shared, args.reward_from)
    if args.annotations_from:
        add_foreign_annotations(shared, args.annotations_from)
    choose = choose_noisy_methods if args.noise else choose_methods
    # several policies are compared by what each gains over its own start
    names = (*args.methods, args.start) if others and args.methods else args.methods
    wanted = names or others or not (args.reward_from or args.annotations_from)
    methods = choose(names, args.table, reasons) if wanted else {}
    for variant in noise_variants(args) or [CLEAN, *others]:
        runs = MethodRuns(shared, variant)
        for name, method in methods.items():
            for seed in range(1, args.seeds + 1) if method.is_trained else [0]:
                runs.add(name, method, seed)
    if args.human_spans:
        add_people(shared, args.human_spans)
    return shared.stages


def benchmark_command(
    shared: SharedStages, one: Benchmark, files: Mapping[str, str], model: str, folder: Path
) -> Command:
    """What measures a model on a benchmark.

    Args:
        shared: flags and places.
        one: which benchmark.
        files: given in place of downloads, {flag or variable: path}.
        model: the policy, merged, as an adapter, or as it came.
        folder: of the output.
    """
    args, script = shared.args, shared.evaluation / one.script
    samples, sizes = args.benchmark_samples or "", shared.budget.benchmark if one.generates else {}
    if script.suffix == ".sh":
        settings = {"POLICY": model, "OUTPUT_DIR": folder, "SAMPLE_SIZE": samples}
        settings |= {name.upper(): size for name, size in sizes.items()}
        settings |= {**one.settings, **files}
        return shared.shell(script, {key: str(value) for key, value in settings.items() if value})
    words = flags(model_path=model, output_file=folder / one.output, max_samples=samples, **files)
    words += flags(**sizes)
    if one.is_judged:
        server = args.judge_base_url or args.base_url
        words += flags(judge_model=args.judge_model, base_url=server)
    if one.environment:
        words += flags(environment=shared.root / one.environment)
    if files:
        words += one.on_own_files
    elif samples:
        words += one.on_some
    return shared.python(script, *words)


class MethodRuns:
    """Adds the runs of methods, with all that they need, to the stages of a table.

    Args:
        shared: the stages.
        variant: how the runs differ from the table's own.
    """

    def __init__(self, shared: SharedStages, variant: Variant = CLEAN) -> None:
        self.shared, self.budget, self.variant = shared, shared.budget, variant

    def add(self, name: str, method: Method, seed: int) -> None:
        """One method with one seed: training and answers, and apart from them their measures."""
        shared = self.shared
        started, model = self._start(method, seed)
        needs = [started, shared.prompts()]
        if method.reward_model == SCALAR:
            needs.append(shared.scalar_reward())
        elif method.reward_model:
            needs.append(shared.reward_model(method.reward_model, self.variant))
        name_of_run = f"{self.variant.runs}/{name}-{seed}"
        folder = shared.folder / name_of_run
        train = {"ppo": self._ppo, "grpo": self._grpo, "dpo": self._dpo}.get(method.training)
        commands: list[Command] = []
        measured = model
        passing: tuple[Path, ...] = ()
        if train:
            commands += [train(method, model, folder / "train", seed)]
            commands += [shared.merge(folder / "train")]
            model = str(folder / "train" / "final_merge")
            measured = str(folder / "train" / "final")  # the merged one is not kept
            passing = (Path(model),)
        commands += self._answer(method, model, folder, seed)
        facts = shared.facts() | {"method": name, "seed": seed, **self.variant.facts()}
        facts |= {"model": shared.policy_model(self.variant), "judge_model": shared.judge_model}
        run = shared.add(name_of_run, tuple(commands), tuple(needs), facts=facts, passing=passing)
        # stages of their own: another measure trains nothing again
        shared.add(f"{run}/{MEASURES}", (self._measure(folder),), (run,))
        if shared.compares and name != "base":
            exact = MethodRuns(shared, self.variant.exact)
            exact.add("base", METHODS["base"], 0)
            base = f"{exact.variant.runs}/base-0"
            shared.add(f"{run}/{JUDGE}", (self._judge(folder, base),), (run, base))
        if method.training != "reflect":  # which revises answers to prompts of its own
            self._benchmarks(run, folder, measured)

    def _start(self, method: Method, seed: int) -> tuple[str, str]:
        """The stage that makes the model a method starts from, and that model."""
        if (method.start or self.shared.args.start) == "base":
            start = self.shared.start_model(self.variant)
            return start, self.shared.policy_model(self.variant)
        name = self.shared.sft(seed, self.variant)
        return name, str(self.shared.folder / name / "train" / "final_merge")

    def _answer(self, method: Method, model: str, folder: Path, seed: int) -> list[Command]:
        """The answers to the validation prompts, and for reflection their revision."""
        revises = method.training == "reflect"
        written = "first_answers.json" if revises else "answers.json"
        prompts = self.shared.data / "validation.json"
        commands = [
            self.shared.python(
                self.shared.policy / "Evaluation" / "infer_val.py",
                *flags(model_path=model, input_path=prompts, seed=seed),
                *flags(output_dir=folder, output_name=written),
                *self.shared.task_flag,
                *self.budget.answer,
            )
        ]
        if revises:
            files = flags(input_file=folder / written, output_file=folder / "answers.json")
            place = flags(task=self.shared.task, model_path=model, seed=seed)
            script = self.shared.root / "paper" / "reflect.py"
            commands.append(self.shared.python(script, *place, *files, *self.budget.reflect))
        return commands

    def _measure(self, folder: Path) -> Command:
        out = folder / MEASURES / "evaluation.json"
        files = flags(input_file=folder / "answers.json", output_file=out)
        encoder = flags(bert_model=self.shared.args.bert_model)
        measures = self.shared.fill(self.budget.measure)
        script = self.shared.policy / "Evaluation" / "metrics.py"
        return self.shared.python(script, *files, *measures, *encoder, *self.shared.task_flag)

    def _judge(self, folder: Path, base: str) -> Command:
        """The answers beside those of the start model, the run `base`, before a chat model."""
        args = self.shared.args
        theirs = self.shared.folder / base / "answers.json"
        files = flags(input_file=folder / "answers.json", compare_file=theirs)
        asked = flags(judge_model=args.judge_model, base_url=args.judge_base_url or args.base_url)
        out = flags(output_file=folder / JUDGE / "judge.json")
        script = self.shared.policy / "Evaluation" / "llm_as_a_judge.py"
        return self.shared.python(script, *files, *out, *asked, *self.shared.task_flag)

    def _benchmarks(self, run: str, folder: Path, model: str) -> None:
        """The public benchmarks, each a stage of its own."""
        shared, own = self.shared, self.shared.benchmark_files
        for name, one in shared.benchmarks.items():
            files = {flag: own[key] for key, flag in one.files.items() if key in own}
            command = benchmark_command(shared, one, files, model, folder / name)
            read = files_hash([Path(path) for path in files.values() if path != OWN])
            shared.add(f"{run}/{name}", (command,), (run,), inputs=read)

    def _ppo(self, method: Method, model: str, folder: Path, seed: int) -> Command:
        judge = self.shared.reward_folder(method.reward_model, self.variant)
        data = self.shared.data
        name = "final" if method.reward_model == SCALAR else "final_merge"
        settings = {
            "POLICY": model,
            "REWARD_MODEL": str(judge / "train" / name),
            "RM_METRICS": str(judge / "metrics.json"),
            "DATA": str(data / "train.json"),
            "VALID": str(data / "validation.json"),
            "OUTPUT": str(folder),
            "SEED": str(seed),
            **self.budget.ppo_env,
        }
        shell = self.shared.policy / f"train_{self.shared.scripts}.sh"
        given = (*self.budget.ppo, *self._reply(method), *method.flags, *self.variant.flags())
        return self.shared.shell(shell, settings, *given, *self.shared.task_flag, *RESUME)

    def _grpo(self, method: Method, model: str, folder: Path, seed: int) -> Command:
        judge = self.shared.reward_folder(method.reward_model) / "train" / "final_merge"
        given = (*flags(reward_model_name=judge), *self._reply(method), *self.budget.grpo)
        return self._baseline("train_grpo.py", model, folder, seed, *given, *method.flags)

    def _dpo(self, method: Method, model: str, folder: Path, seed: int) -> Command:
        given = (*self.budget.dpo, *method.flags)
        return self._baseline("train_dpo.py", model, folder, seed, *given)

    def _baseline(self, name: str, model: str, folder: Path, seed: int, *given: str) -> Command:
        start = flags(task=self.shared.task, base_model_name=model, output_dir=folder, seed=seed)
        data = flags(data_path=self.shared.data / "train.json")
        return self.shared.python(self.shared.root / "paper" / name, *start, *data, *given)

    def _reply(self, method: Method) -> tuple[str, ...]:
        """Room for the critiques of a method's reward model."""
        if method.reward_model == SCALAR:
            return ()
        written = REWARD_MODELS[method.reward_model].target_format
        return flags(reward_max_new_tokens=self.budget.reply.get(written, ""))
