"""The face of the project: scripts and shells of the three trees."""

import ast
import json
import re
import resource
import shlex
import subprocess
import sys
from collections import defaultdict
from dataclasses import fields

import pytest
from trees import (
    LAUNCH,
    PAPER,
    ROOT,
    SCRIPTS,
    SHELLS,
    TREES,
    check_flags,
    dry_run,
    flag_names,
    load_args,
    relative,
)

from text2grad.config import parse
from text2grad.tasks import TASKS

MAX_SCRIPT_LINES = 60
HELP_CPU_SECONDS = 2.0

every_script = pytest.mark.parametrize("script", [*SCRIPTS, *PAPER], ids=relative)
every_shell = pytest.mark.parametrize("shell", SHELLS, ids=relative)

# Flags of the published scripts, of any task, that do something here (gone are those that had no
# effect there and have no meaning here).
PUBLISHED = {
    "dual_feedback_annotation_RM.py": "input_file output_file batch_size data_path",
    "test_case.py": """train_samples target_total_size easy_samples medium_samples hard_samples
        output_file""",
    "train_rm.py": "deepspeed local_rank",
    "1_merge_lora.py": "base_model lora_model save_dir merge_and_save gpu_ids",
    "2_infer.py": """model_path data_path dataset_path valid_dataset_file output_path output_file
        batch_size max_samples num_samples prompt_max_length max_length max_new_tokens gpu_ids
        gpu_memory tensor_parallel_size""",
    "3_metrics.py": "results_path output_path data_path input_file output_file input output",
    "train_TASK.py": """base_model_name base_model_adapter_model reward_model_name log_with
        learning_rate lr_scheduler_type mini_batch_size batch_size ppo_epochs
        gradient_accumulation_steps adafactor early_stopping target_kl save_freq output_dir seed
        train_epochs steps init_kl_coef adap_kl_ctrl project_name data_file_path tracker_kwargs
        prompt_max_length kl_penalty mask_loss output_max_length valid_data_file_path""",
    "merge_lora.py": "base_model lora_model save_dir merge_and_save gpu_ids",
    "infer_val.py": "model_path input_path output_dir sample_size batch_size",
    "metrics.py": "results_path input_file output_file input output",
    "llm_as_a_judge.py": "input_file compare_file output_file base_url annotator_model",
}
ONE_TASK = {"llm_as_a_judge.py", "test_case.py"}


def scripts_named(name):
    """The scripts of that name in all tasks; TASK in it stands for the task's name."""
    names = {name.replace("TASK", task) for task in TASKS}
    return [script for script in SCRIPTS if script.name in names]


def script_named(name):
    return next(script for script in SCRIPTS if script.name == name)


def run_script(script, *arguments):
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


@every_script
def test_help_is_quick_and_loads_no_model_library(script):
    code = (
        "import json, runpy, sys\n"
        f"sys.argv = [{str(script)!r}, '--help']\n"
        "try:\n"
        "    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    heavy = [n for n in ('torch', 'transformers', 'peft') if n in sys.modules]\n"
        "    print(json.dumps([stop.code, heavy]), file=sys.stderr)\n"
    )
    # Time of the processor, not of the clock: other processes do not count.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stderr) == [0, []]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < HELP_CPU_SECONDS
    for field in fields(load_args(script)):
        assert f"--{field.name}" in done.stdout


@every_script
def test_every_default_can_be_parsed(script):
    args_type = load_args(script)
    assert parse(args_type, []) == args_type()


@every_script
def test_script_is_flags_and_one_call(script):
    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_SCRIPT_LINES
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "says what goes in, what comes out, and one command"
    kinds = [type(node).__name__ for node in tree.body]
    assert kinds == ["Expr", "ImportFrom", "ImportFrom", "ClassDef", "If"]


def shape(script):
    """The source without its constants and without the task's name."""
    tree = ast.parse(script.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.value = None
        # A task may change the default of another flag than its siblings do.
        if isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if not isinstance(part, ast.AnnAssign)]
    return ast.dump(tree)


def test_scripts_of_the_same_name_differ_only_in_constants():
    same = defaultdict(list)
    for script in SCRIPTS:
        tree, task = script.relative_to(ROOT).parts[:2]
        name = script.name.replace(f"_{task.lower()}.py", "_TASK.py")
        same[tree, script.parent.name.replace(task, ""), name].append(script)
    for scripts in same.values():
        assert len({shape(script) for script in scripts}) == 1, scripts


@every_shell
def test_shell_parses_and_stops_at_the_first_failure(shell):
    subprocess.run(["bash", "-n", str(shell)], check=True)
    assert "set -euo pipefail" in shell.read_text(encoding="utf-8")


@every_shell
@pytest.mark.parametrize("gpus", ["0", "2"])
def test_shell_passes_flags_that_exist(shell, gpus):
    started = dry_run(shell, "--seed", "7", GPUS=gpus)
    assert started
    for script, words in started:
        check_flags(script, words)
        task = shell.relative_to(ROOT).parts[1].lower()
        # a benchmark is about no task
        assert getattr(parse(load_args(script), words), "task", task) == task
    assert parse(load_args(started[-1][0]), started[-1][1]).seed == 7, "flags given go through"


@every_shell
def test_every_variable_of_the_shell_reaches_a_script(shell):
    text = shell.read_text(encoding="utf-8")
    names = set(re.findall(r"^([A-Z_]+)=\$\{\1:-", text, re.M)) - LAUNCH
    given = {name: f"value-of-{name}" for name in names}
    words = {word for _, words in dry_run(shell, **given) for word in words}
    missing = {name for name, value in given.items() if not any(value in w for w in words)}
    assert names
    assert not missing


@pytest.mark.parametrize("tree", [path.name for path in sorted((ROOT / TREES[0]).iterdir())])
def test_quickstart_passes_flags_that_exist(tree):
    text = (ROOT / "quickstart.sh").read_text(encoding="utf-8")
    assert f"TREE={tree} " in text
    text = text.replace("$TREE", tree).replace("${TASK}", tree.lower())
    text = text.replace("$TASK.sh", f"{tree.lower()}.sh")
    subprocess.run(["bash", "-n", str(ROOT / "quickstart.sh")], check=True)
    folders = dict(re.findall(r"^(ANNO|RM|POLICY)=\$PWD/(\S+)", text, re.M))
    commands = re.findall(r'"\$(ANNO|RM|POLICY)/(\S+)\.(py|sh)"(.*)', text.replace("\\\n", " "))
    assert len(commands) == 11
    for folder, name, kind, rest in commands:
        target = ROOT / folders[folder] / f"{name}.{kind}"
        script = target if kind == "py" else dry_run(target)[-1][0]
        check_flags(script, shlex.split(rest.partition(";")[0]))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_spellings_are_flags(name):
    scripts = scripts_named(name)
    assert len(scripts) == (1 if name in ONE_TASK else len(TASKS))
    for script in scripts:
        missing = set(PUBLISHED[name].split()) - flag_names(load_args(script))
        assert not missing, script


@every_script
def test_aliases_name_a_flag_and_hide_none(script):
    args_type = load_args(script)
    aliases = getattr(args_type, "ALIASES", {})
    flags = {field.name for field in fields(args_type)}
    assert set(aliases.values()) <= flags
    assert not set(aliases) & flags


def test_promised_commands_parse():
    """The commands that the published README gives, with its quoting and spellings."""
    merge = parse(
        load_args(script_named("1_merge_lora.py")),
        shlex.split(
            '--base_model "m" --lora_model "../ckpt/a/0_4400" --save_dir "../ckpt/a/0_4400_merge" '
            "--merge_and_save True"
        ),
    )
    assert (merge.lora_model, merge.merge_and_save) == ("../ckpt/a/0_4400", True)
    infer = parse(
        load_args(script_named("2_infer.py")),
        shlex.split(
            '--model_path a --dataset_path d.json --output_file "o.json" --batch_size 40 '
            "--prompt_max_length 1000 --max_length 1600 --max_new_tokens 350 --gpu_ids 0,1 "
            '--gpu_memory "30GiB"'
        ),
    )
    assert (infer.data_path, infer.output_path, infer.gpu_ids) == ("d.json", "o.json", "0,1")
    words = ["--input_file", "i.json", "--output_file", "o.json"]
    measure = parse(load_args(script_named("3_metrics.py")), words)
    assert (measure.input_file, measure.output_file) == ("i.json", "o.json")


def test_annotator_takes_its_files_without_flags():
    args_type = load_args(script_named("dual_feedback_annotation_RM.py"))
    args = parse(args_type, ["in.json", "out.json", "--batch_size", "10"])
    assert (args.data_path, args.output_path, args.concurrency) == ("in.json", "out.json", 10)
    assert parse(args_type, ["--input_file", "i", "--output_file=o"]).data_path == "i"


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ([], True),
        (["--adafactor"], True),
        (["--adafactor", "True"], True),
        (["--adafactor", "true"], True),
        (["--adafactor=TRUE"], True),
        (["--adafactor", "False"], False),
        (["--adafactor=false"], False),
        (["--adafactor", "--seed", "1"], True),
    ],
)
def test_spellings_of_a_boolean(words, value):
    assert parse(load_args(script_named("train_slf5k.py")), words).adafactor is value


def test_dashes_and_underscores_are_the_same():
    args = parse(load_args(script_named("train_slf5k.py")), ["--kl-target", "3"])
    assert args.kl_target == 3


@pytest.mark.parametrize("words", [["--no_such_flag", "1"], ["--adafactor", "maybe"], ["--seed"]])
def test_a_flag_that_is_not_understood_ends_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(load_args(script_named("train_slf5k.py")), words)
    assert stop.value.code == 2
    assert words[0].lstrip("-").replace("_", "-") in capsys.readouterr().err.replace("_", "-")


def test_a_mistake_in_a_script_is_one_line_and_status_2():
    done = run_script(script_named("train_slf5k.py"), "--batch_size", "5")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: --batch_size 5 is not a multiple of")
    assert done.stderr.count("\n") == 1
