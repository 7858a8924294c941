"""What the runner of the paper's tables would run."""

import shlex
from pathlib import Path

import pytest
from trees import PAPER, check_flags, dry_run, load_args

from text2grad.config import PaperRunConfig, parse
from text2grad.paper.budgets import BUDGETS
from text2grad.paper.methods import ANNOTATIONS, METHODS, REWARD_MODELS, SCALAR
from text2grad.paper.plan import plan
from text2grad.paper.runner import run_paper
from text2grad.paper.tables_data import (
    ANNOTATION_MEASURES,
    CONVERGENCE_MEASURES,
    SIGNAL_MEASURES,
    TABLES,
)
from text2grad.schema import UserError
from text2grad.tasks import TASKS


def planned(tmp_path, **given):
    stages = plan(PaperRunConfig(**{"seeds": 1, "annotator": "openai"} | given), tmp_path)
    return {stage.name: stage for stage in stages}


def started(command):
    """The script that a command starts in the end, with its words."""
    program, target, *words = command.words
    if program == "bash":
        settings = {key: value for key, value in command.settings.items() if key != "PYTHON"}
        return dry_run(Path(target), *words, **settings)
    return [] if target == "-m" else [(Path(target), words)]


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("table", TABLES)
def test_every_command_starts_a_script_with_flags_that_it_has(tmp_path, table, budget):
    seen = set()
    for stage in planned(tmp_path, table=table, budget=budget).values():
        for command in stage.commands:
            for script, words in started(command):
                assert script.exists()
                shape = (script, *sorted({word for word in words if word.startswith("--")}))
                if shape not in seen:
                    seen.add(shape)
                    check_flags(script, words)
                    if (table, budget) == ("slf5k", "small"):
                        parse(load_args(script), words)  # bounds too
    names = {script.name for script, *_ in seen}
    assert {"prepare_data.py", "3_metrics.py", "train_grpo.py", "reflect.py"} <= names
    assert ("train_dpo.py" in names) == (table == "ultrafeedback")


def test_the_data_about_methods_is_consistent():
    titles = [method.title for method in METHODS.values()]
    assert len(set(titles)) == len(titles)
    assert all(set(TABLES) == set(budgets) for budgets in BUDGETS.values())
    assert {name for name, table in TABLES.items() if not table.task_file} == set(TASKS)
    for method in METHODS.values():
        assert method.reward_model in {"", SCALAR, *REWARD_MODELS}
        assert bool(method.reward_model) == (method.training in ("ppo", "grpo"))
        assert bool(method.tables) == bool(method.why_not)
        assert set(method.tables) <= set(TABLES)
    for table in TABLES.values():
        runs = {one.name for one in (*table.measures, *CONVERGENCE_MEASURES, *SIGNAL_MEASURES)}
        labels = {one.name for one in ANNOTATION_MEASURES}
        for row, measure in table.published:
            assert (row in METHODS and measure in runs) or (
                row in ANNOTATIONS and measure in labels
            )


def test_what_methods_share_is_there_once_and_before_them(tmp_path):
    def stages(**given):
        return [name for name in planned(tmp_path, **given) if not name.endswith("/measures")]

    names = stages(methods=("text2grad", "scalar_ppo", "grpo"), seeds=2)
    assert names == [
        "model",
        "data",
        "own_answers",
        "annotation",
        "reward_model-spans",
        "runs/grpo-1",
        "runs/grpo-2",
        "runs/scalar_ppo-1",
        "runs/scalar_ppo-2",
        "runs/text2grad-1",
        "runs/text2grad-2",
    ]
    names = stages(methods=("sft_reflection", "sft", "base"), seeds=1)
    assert names == ["model", "data", "runs/base-0", "sft-1", "runs/sft-1", "runs/sft_reflection-1"]


def test_methods_run_on_equal_terms(tmp_path):
    """PPO with a scalar differs from Text2Grad in that flag, dense in its reward model alone."""
    stages = planned(tmp_path, table="kodcode")

    def shown(method):
        commands = stages[f"runs/{method}-1"].commands
        return [str(command).replace(f"/runs/{method}-1", "/RUN") for command in commands]

    ours = shown("text2grad")
    learned = planned(tmp_path, methods=("learned_scalar_ppo",))
    stage = learned["runs/learned_scalar_ppo-1"]
    assert stage.needs == ("model", "data", "scalar_reward_model")  # and no annotation
    model = stage.commands[0].settings["REWARD_MODEL"]
    assert model == str(tmp_path / "scalar_reward_model/train/final")
    scalar = [text.replace("--credit_assignment scalar ", "") for text in shown("scalar_ppo")]
    assert scalar == ours
    unmarked = [text.replace("--unmarked_score 0 ", "") for text in shown("text2grad_unmarked_0")]
    assert unmarked == ours
    for method, judge, reply in (
        ("text2grad_no_cot", "spans_no_cot", 256),
        ("dense", "word_scores", 899),
    ):
        other = shown(method)
        assert other != ours
        swapped = [
            text.replace(f"reward_model-{judge}/", "reward_model-spans/").replace(
                f"--reward_max_new_tokens {reply}", "--reward_max_new_tokens 256"
            )
            for text in other
        ]
        assert swapped == ours


SAME = """prompt_max_length output_max_length temperature batch_size learning_rate lr_scheduler_type
    gradient_accumulation_steps reward_prompt_max_length reward_max_new_tokens lora_r lora_alpha
    lora_target_modules lora_last_layers weight_decay max_grad_norm cliprange reward_batch_size"""


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("table", TABLES)
def test_grpo_has_the_rollouts_lengths_and_updates_of_ppo(tmp_path, table, budget):
    stages = planned(tmp_path, table=table, budget=budget, methods=("scalar_ppo", "grpo"))
    ((script, words),) = started(stages["runs/scalar_ppo-1"].commands[0])
    ppo = parse(load_args(script), words)
    ((script, words),) = started(stages["runs/grpo-1"].commands[0])
    grpo = parse(load_args(script), words)
    for name in SAME.split():
        assert getattr(grpo, name) == getattr(ppo, name), name
    assert grpo.num_iterations == ppo.ppo_epochs
    assert grpo.per_device_train_batch_size == ppo.mini_batch_size
    assert grpo.warmup_ratio == ppo.warmup_steps == 0
    if grpo.max_steps > 0:
        update = grpo.per_device_train_batch_size * grpo.gradient_accumulation_steps
        updates_of_a_batch = grpo.num_iterations * grpo.batch_size // update
        assert grpo.max_steps == ppo.steps * updates_of_a_batch
    else:  # as many responses to each prompt, in fewer passes
        assert grpo.num_train_epochs * grpo.num_generations == ppo.train_epochs


def test_no_cot_is_annotated_apart(tmp_path):
    stages = planned(tmp_path, methods=("text2grad", "text2grad_no_cot"))
    for command in stages["annotation_no_cot"].commands:
        assert command.words[command.words.index("--cot") + 1] == "false"
    assert all("--cot" not in command.words for command in stages["annotation"].commands)
    train = stages["reward_model-spans_no_cot"].commands[0].settings
    assert train["DATA"] == str(tmp_path / "annotation_no_cot" / "train_annotated.json")


def test_policies_can_start_from_sft(tmp_path):
    stages = planned(tmp_path, methods=("text2grad", "grpo"), start="sft", seeds=2)
    for seed in (1, 2):
        merged = str(tmp_path / f"sft-{seed}" / "train" / "final_merge")
        stage = stages[f"runs/text2grad-{seed}"]
        assert f"sft-{seed}" in stage.needs
        assert stage.commands[0].settings["POLICY"] == merged
        assert stage.commands[0].settings["SEED"] == str(seed)
        assert merged in stages[f"runs/grpo-{seed}"].commands[0].words


def test_a_judge_compares_with_the_start_model(tmp_path):
    stages = planned(
        tmp_path, methods=("sft",), judge_model="judge", base_url="http://localhost/v1"
    )
    stage = stages["runs/sft-1/judge"]
    assert stage.needs == ("runs/sft-1", "runs/base-0")
    words = stage.commands[0].words
    assert words[words.index("--compare_file") + 1].endswith("runs/base-0/answers.json")
    assert words[words.index("--base_url") + 1] == "http://localhost/v1"
    assert "runs/base-0/judge" not in stages
    with pytest.raises(UserError, match="--judge_model judge: table kodcode has no judge"):
        planned(tmp_path, table="kodcode", judge_model="judge")


def test_own_model_and_data_take_the_place_of_the_budgets(tmp_path):
    own = tmp_path / "posts.json"
    own.write_text("[]")
    stages = planned(
        tmp_path / "out", methods=("text2grad",), model=str(tmp_path), data_path=str(own)
    )
    assert stages["model"].commands == ()
    data = stages["data"].commands[0].words
    places = [place for place, word in enumerate(data) if word == "--data_path"]
    assert data[places[-1] + 1] == str(own)
    assert stages["annotation"].commands[0].settings["DATA_PATH"] == str(own)
    assert stages["reward_model-spans"].commands[0].settings["MODEL"] == str(tmp_path)
    before = stages["data"].inputs
    own.write_text("[1]")
    again = planned(tmp_path / "out", methods=("text2grad",), data_path=str(own))
    assert again["data"].inputs != before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": ("dpo",)}, r"--methods dpo: does not exist here: table slf5k: its data holds"),
        ({"methods": ("sft", "magic")}, "--methods magic: unknown, known are base, sft"),
        (
            {"methods": ("text2grad_no_cot",), "annotator": ""},
            "--methods text2grad_no_cot: .*never reasons.*--annotator openai",
        ),
        (
            {"methods": ("text2grad_unmarked_0",), "table": "ultrafeedback"},
            "table ultrafeedback: unmarked tokens earn 0",
        ),
        ({"data_path": "nowhere.json"}, "--data_path nowhere.json: no such file"),
    ],
)
def test_what_does_not_exist_is_an_error(tmp_path, given, said):
    with pytest.raises(UserError, match=said):
        planned(tmp_path, **given)


def test_all_methods_are_those_that_exist_here(tmp_path):
    def methods(**given):
        names = [name for name in planned(tmp_path, **given) if name.endswith("/measures")]
        names = [name.removesuffix("/measures") for name in names]
        return [name[len("runs/") :].rsplit("-", 1)[0] for name in names]

    all_but = set(METHODS)
    assert set(methods()) == all_but - {"dpo", "text2grad_unmarked_0"}
    assert set(methods(annotator="")) == all_but - {
        "dpo",
        "text2grad_unmarked_0",
        "text2grad_no_cot",
    }
    assert "learned_scalar_ppo" not in methods(table="kodcode")
    assert "dpo" in methods(table="ultrafeedback")


def test_a_change_before_a_stage_changes_its_key(tmp_path):
    def keys(**given):
        stages = plan(PaperRunConfig(seeds=1, methods=("text2grad", "sft"), **given), tmp_path)
        return stages.keys()

    first, other = keys(), keys(annotator="openai", annotator_model="other")
    assert first == keys()
    changed = {name for name in first if first[name] != other[name]}
    run = "runs/text2grad-1"
    assert changed == {"annotation", "reward_model-spans", run, f"{run}/measures"}
    measured = keys(bert_model="roberta-large")
    changed = {name for name in first if first[name] != measured[name]}
    assert changed == {"runs/text2grad-1/measures", "runs/sft-1/measures"}  # trains nothing again


def test_a_dry_run_prints_every_command_and_writes_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    run_paper(PaperRunConfig(methods=("sft",), seeds=1, output_dir=str(out), dry_run=True))
    lines = capsys.readouterr().out.splitlines()
    assert not out.exists()
    assert [line for line in lines if line.startswith("#")] == [
        "# model",
        "# data",
        "# sft-1",
        "# runs/sft-1",
        "# runs/sft-1/measures",
    ]
    scripts = [shlex.split(line)[1] for line in lines if not line.startswith("#")]
    assert [Path(script).name for script in scripts[1:]] == [
        "prepare_data.py",
        "train_sft.py",
        "merge_lora.py",
        "infer_val.py",
        "metrics.py",
    ]


def test_scripts_name_a_method_or_a_stage():
    names = {script.name for script in PAPER}
    assert {"run.py", "tables.py", "train_grpo.py", "train_dpo.py", "reflect.py"} <= names
