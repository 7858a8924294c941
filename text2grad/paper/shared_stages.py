"""The stages that methods of a table share: data, answers, annotations, reward models, SFT."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from text2grad.paper.benchmarks import benchmark_files, choose_benchmarks
from text2grad.paper.budgets import BUDGETS, EMBEDDED, RESUME, Budget
from text2grad.paper.methods import ANNOTATIONS, REWARD_MODELS, SCALAR
from text2grad.paper.stages import Command, Stage, Stages, files_hash, flags, whole_path
from text2grad.paper.tables_data import TABLES
from text2grad.paper.variants import CLEAN, Variant
from text2grad.schema import UserError

if TYPE_CHECKING:
    from text2grad.config import PaperRunConfig

SPLITS = ("train", "validation")
JUDGES = ("reward_", "annotations_from-")  # stages with a metrics.json begin with one of these


@dataclass(frozen=True)
class Judge:
    """A reward model whose stage is planned.

    Attributes:
        model: its folder, merged.
        target_format: of its critiques.
    """

    model: Path
    target_format: str


class SharedStages:
    """Builds the stages of one table.

    Args:
        args: all flags.
        folder: where everything is written, absolute.
        root: where the project lies.

    Attributes:
        stages: all that were added.
        judges: the reward models among them, by the name of the stage, those of noise left out.

    Raises:
        UserError: data or trees are missing.
    """

    def __init__(self, args: PaperRunConfig, folder: Path, root: Path) -> None:
        self.args, self.folder, self.root = args, folder, root
        self.table = TABLES[args.table]
        self.scripts = self.table.tree.lower()
        self.task = self.table.task_name(root)
        self.task_flag = flags(task=self.task if self.table.task_file else "")
        self.budget: Budget = BUDGETS[args.budget][args.table]
        self.annotator = args.annotator or self.budget.annotator
        trees = ("RM_Data_Anno", "NL_Reward_Model", "NL_Gradient_Policy_Optimization")
        self.annotation, self.judging, self.policy = (root / t / self.table.tree for t in trees)
        if not self.policy.is_dir():
            raise UserError(f"{self.policy}: missing; run paper/run.py of a whole checkout")
        self.evaluation = self.policy / "Evaluation"
        self.benchmarks = choose_benchmarks(args)
        self.benchmark_files = benchmark_files(args, self.benchmarks)
        judge = self.evaluation / "llm_as_a_judge.py"
        self.compares = bool(args.judge_model) and judge.exists()
        asked = self.compares or any(one.is_judged for one in self.benchmarks.values())
        if args.judge_model and not asked:
            raise UserError(f"--judge_model {args.judge_model}: table {args.table} has no judge")
        self.data = folder / "data"
        self.own = folder / "own_answers"
        self.data_path = str(Path(args.data_path).resolve()) if args.data_path else ""
        if self.data_path and not Path(self.data_path).exists():
            raise UserError(f"--data_path {args.data_path}: no such file or folder")
        named = args.model or self.budget.model
        embedded = root / "models" / EMBEDDED
        self.model = whole_path(named) if named else str(embedded)
        self.judge_model = whole_path(args.model or self.budget.judge_model or self.model)
        self.is_embedded = not named
        self.stages = Stages()
        self.judges: dict[str, Judge] = {}

    def start_model(self, variant: Variant = CLEAN) -> str:
        """The model that everything starts from, but for the runs of another policy."""
        command = self.python("-m", "text2grad.embedded", "--output_path", self.model)
        made = self.is_embedded and not variant.policy
        return self.add(f"{variant.place}model", (command,) if made else ())

    def policy_model(self, variant: Variant) -> str:
        """What policies start from."""
        return variant.policy.model if variant.policy else self.model

    def prompts(self) -> str:
        """The records, and the prompts of training and evaluation."""
        prepare = self.fill(self.budget.prepare)
        if self.data_path:  # the later of two values of a flag counts
            prepare += flags(data_path=self.data_path)
        script = self.annotation / "prepare_data.py"
        command = self.python(script, *prepare, *flags(output_dir=self.data), *self.task_flag)
        read = [Path(word) for word in prepare if Path(word).is_absolute()]
        read += [Path(self.task).parent] if self.table.task_file else []
        return self.add("data", (command,), inputs=files_hash(read))

    def own_answers(self) -> str:
        """Answers of the start model, which the reward model learns to judge too."""
        needs = (self.start_model(), self.prompts())
        script = self.policy / "Evaluation" / "infer_val.py"
        commands = [
            self.python(
                script,
                *flags(model_path=self.model, input_path=self.data / f"{split}.json"),
                *flags(output_dir=self.own, output_name=f"{split}.json"),
                *self.budget.own_answers,
                *self.task_flag,
            )
            for split in SPLITS
        ]
        return self.add("own_answers", tuple(commands), needs)

    def annotations(self, name: str) -> str:
        """Critiques with quotes of the records, and of the start model's answers."""
        who, asked = self._annotator(), ANNOTATIONS[name]
        learns = self.budget.learns_from
        commands, needs = [], [self.prompts()]
        if learns != "own":
            shell = self.annotation / f"annotate_{self.scripts}.sh"
            settings = {"OUTPUT_DIR": str(self.folder / name), **self._data_settings()}
            settings |= {key.upper(): value for key, value in who.items()}
            settings |= {"TASK": self.task} if self.table.task_file else {}
            commands.append(self.shell(shell, settings, *asked))
        if learns != "records":
            needs.append(self.own_answers())
            script = self.annotation / "dual_feedback_annotation_RM.py"
            for split in SPLITS:
                files = flags(
                    data_path=self.own / f"{split}.json",
                    output_path=self.folder / name / f"{split}_own_annotated.json",
                )
                given = (*files, *flags(**who), *asked, *self.budget.annotate, *self.task_flag)
                commands.append(self.python(script, *given))
        return self.add(name, tuple(commands), tuple(needs))

    def noisy_annotations(self, name: str, variant: Variant) -> str:
        """A copy of what reward models learn from, with errors; they are measured without."""
        own, kinds = f"{variant.runs}/{name}", ["annotated"]
        if self.budget.learns_from != "records":
            kinds = ["own_annotated", *(kinds if self.budget.learns_from == "both" else ())]
        script = self.root / "paper" / "noise.py"
        commands = []
        for kind in kinds:
            file = f"{SPLITS[0]}_{kind}.json"
            files = flags(data_path=self.folder / name / file, output_path=self.folder / own / file)
            how = flags(task=self.task, noise=variant.labels.flag)
            commands.append(self.python(script, *files, *how))
        return self.add(own, tuple(commands), (self.annotations(name),))

    def reward_model(self, name: str, variant: Variant = CLEAN) -> str:
        """A reward model, merged and measured; `variant` may spoil what it learns from."""
        kind, budget = REWARD_MODELS[name], self.budget
        annotation = self.annotations(kind.annotation)
        tested = self.folder / annotation
        if variant.labels:
            annotation = self.noisy_annotations(annotation, variant)
        learned = self.folder / annotation
        own = [str(learned / "train_own_annotated.json")]
        own += [str(tested / "validation_own_annotated.json")]
        files = [str(learned / "train_annotated.json"), str(tested / "validation_annotated.json")]
        more: tuple[str, ...] = ()
        if budget.learns_from == "own":
            files = own
        elif budget.learns_from == "both":
            more = flags(more_data_path=own[0], more_valid_data_path=own[1])
        folder = self.reward_folder(name, variant)
        train = self.shell(
            self.judging / f"deepspeed_train_{self.scripts}.sh",
            {"MODEL": self.judge_model, "DATA": files[0], "VALID": files[1]}
            | {"OUTPUT": str(folder / "train"), **budget.reward_env},
            *flags(data_dir=folder / "data", target_format=kind.target_format),
            *budget.reward,
            *budget.reward_by_format.get(kind.target_format, ()),
            *more,
            *self.task_flag,
            *RESUME,
        )
        merging = self.judging / "Evaluation" / "1_merge_lora.py"
        merge = self.python(merging, *flags(lora_model=folder / "train" / "final"), *budget.merge)
        judge = Judge(folder / "train" / "final_merge", kind.target_format)
        commands = (train, merge, *self.judgement(judge, folder, folder))
        facts = self.facts() | {"reward_model": name, "model": self.judge_model}
        stage = str(folder.relative_to(self.folder))
        if not variant.labels:
            self.judges[stage] = judge
        needs = (self.start_model(), annotation)
        return self.add(stage, commands, needs, facts=facts | variant.facts())

    def judgement(self, judge: Judge, folder: Path, measured_on: Path) -> tuple[Command, ...]:
        """A reward model's critiques of annotated responses, and what they are worth."""
        judgements = folder / "inference.json"
        records = measured_on / "data" / f"{self.table.task}_test.json"
        train_file = measured_on / "data" / f"{self.table.task}_train.json"
        measured = flags(input_file=judgements, train_file=train_file, tokenizer=judge.model)
        written = flags(output_file=folder / "metrics.json")
        script = self.judging / "Evaluation" / "3_metrics.py"
        return (
            self.critiques(judge, records, judgements),
            self.python(script, *measured, *written, *self.task_flag),
        )

    def critiques(self, judge: Judge, records: Path, output: Path, *more: str) -> Command:
        """What a reward model says of the responses of a file; `more` are further flags."""
        room = self.budget.judge_by_format.get(judge.target_format, ())
        files = flags(model_path=judge.model, data_path=records, output_path=output)
        given = (*files, *room, *self.budget.judge, *more)
        return self.python(self.judging / "Evaluation" / "2_infer.py", *given, *self.task_flag)

    def scalar_reward(self) -> str:
        """A reward model with one score for a response."""
        name = "scalar_reward_model"
        command = self.python(
            self.root / "paper" / "train_scalar_reward.py",
            *flags(task=self.task, base_model_name=self.judge_model),
            *flags(data_path=self.data / "train.json", output_dir=self.folder / name / "train"),
            *self.budget.scalar,
        )
        return self.add(name, (command,), (self.start_model(), self.prompts()))

    def sft(self, seed: int, variant: Variant = CLEAN) -> str:
        """The start model of policies after SFT."""
        name = f"{variant.place}sft-{seed}"
        folder = self.folder / name / "train"
        command = self.python(
            self.policy / "train_sft.py",
            *flags(base_model_name=self.policy_model(variant)),
            *flags(data_path=self.data / "train.json", output_dir=folder, seed=seed),
            *self.budget.sft,
            *self.task_flag,
        )
        commands = (command, self.merge(folder))
        return self.add(name, commands, (self.start_model(variant), self.prompts()))

    def reward_folder(self, name: str, variant: Variant = CLEAN) -> Path:
        """Where a reward model lies."""
        own = "scalar_reward_model" if name == SCALAR else f"reward_model-{name}"
        return (self.folder / variant.runs if variant.labels else self.folder) / own

    def merge(self, folder: Path) -> Command:
        """A policy's adapter merged into the model it was trained on."""
        script = self.policy / "Evaluation" / "merge_lora.py"
        return self.python(script, *flags(lora_model=folder / "final"), *self.budget.merge)

    def facts(self) -> dict[str, object]:
        """What every folder says of the settings it was made with."""
        args = self.args
        named = {"table": args.table, "budget": args.budget, "start": args.start}
        return {**named, "annotator": self._annotator(), "data_path": self.data_path}

    # -- small parts

    def add(self, name: str, commands: tuple[Command, ...], needs: tuple = (), **more: Any) -> str:
        """Add a stage unless it is there; returns its name."""
        if name not in self.stages:
            self.stages.add(Stage(name, commands, needs, **more))
        return name

    def python(self, *words: str | Path) -> Command:
        """A script or a module, run by this interpreter."""
        return Command((sys.executable, *map(str, words)))

    def shell(self, path: Path, settings: Mapping[str, str], *words: str) -> Command:
        """A shell, with the settings it reads from its variables and further flags."""
        return Command(("bash", str(path), *words), {"PYTHON": sys.executable, **settings})

    def fill(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words with {root}, {tree} and {model} in them filled in."""
        known = {"root": self.root, "tree": self.table.tree, "model": self.model}
        return tuple(word.format(**known) for word in words)

    def _annotator(self) -> dict[str, str]:
        if self.annotator != "openai":
            return {"annotator": self.annotator}
        asked = {"annotator_model": self.args.annotator_model, "base_url": self.args.base_url}
        return {"annotator": "openai", **asked}

    def _data_settings(self) -> dict[str, str]:
        """The variables by which an annotation's shell finds the records."""
        values = self.fill(list(self.budget.data.values()))
        settings = dict(zip(self.budget.data, values, strict=True))
        return settings | ({"DATA_PATH": self.data_path} if self.data_path else {})
