"""The architecture, checked on the source: imports point down, low modules stay light."""

import ast
import json
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "text2grad"

# From the bottom to the top; a module may import from its own level and from those before it.
LEVELS = {
    "types, files and mathematics": """
        schema missing files shapes conversations human_eval code_blocks folding token_bytes tables
        borders chart_axes charts wording process_tree sandbox_process sandbox_inside sandbox_calls
        sandbox_tiers sandbox sandbox_pool sandboxed sandboxed.slices sandboxed.rewrite
        sandboxed.values sandboxed.recorder sandboxed.guard sandboxed.cases
        sandboxed.pytest_cases sandboxed.harness evalplus_inside outcomes harness_report
        unit_tests ppo_math ppo_state dispatch ledger download timing micro_batches
        whole_folder student testbed testbed.language span_noise
        model_shapes query_blocks memory estimate estimate_time""",
    "flags and text": """
        config config.annotation config.backends config.checks config.deepspeed config.evaluation
        config.human
        config.launch
        config.policy config.reward_model config.server config.testing config.training tasks
        tasks.kodcode tasks.slf5k tasks.spec tasks.ultrafeedback locate word_scores replies
        parsing alignment places critique_grammar grammar word_grammar token_table targets
        target_formats records responses prompts chat turns text_metrics
        config.baselines config.noise config.paper config.testbed noisy_feedback
        config.benchmarks question_sets evalplus_problems evalplus_samples
        plans""",
    "faults of code": """
        localisation localisation.edits localisation.kinds localisation.loop_rules
        localisation.meanings localisation.observations localisation.ranking localisation.search
        localisation.spectrum localisation.statement_edits localisation.syntax
        localisation.trials""",
    "figures and the report": """
        agreement alignment_health baselines consensus pass_at_k quality reward_report
        reward_quality progress summary_quality verdicts report_entries report_data report_pairs
        report_page report_view trends report_compare report before_after gate
        ratings human_figures testbed.comparison testbed.critics testbed.plan testbed.table""",
    "models": """
        prefix_cache
        attention precision pretrained models quantisation devices run_folder rollout vllm_engine
        decoding checkpoint policy training_weights samplers stopping
        testbed.start_model""",
    "judges": """
        chat_errors chat_request resumable chat_client batch_client annotators annotators.answer
        annotators.answer_evidence annotators.answer_form annotators.answer_key
        annotators.answer_lists annotators.answer_quotes annotators.answer_signals
        annotators.answer_text annotators.answer_wording annotators.clauses
        annotators.contradiction annotators.evidence annotators.execution annotators.execution_case
        annotators.execution_wording annotators.human annotators.lexicon annotators.verdict
        annotators.open_text annotators.openai_server annotators.reference
        annotators.reward_prompts
        annotators.reward_model annotators.reward_server annotators.reward_vllm
        annotators.reward_backends annotators.scalar_model
        annotators.signals annotators.word_lists annotators.wording
        external judge_prompts""",
    "parts of a stage": """
        annotation_plan scoring update step_log trainer_states target_trainer supervised
        model_metrics test_runs solutions evalplus_metrics
        response_scores watch
        run_checkpoints chat_answers trl_policy pairs""",
    "stages": """
        candidates prepare test_cases annotate align embedded environment reward_model sft generate
        metrics judge trainer
        mt_bench arc_challenge alpaca_eval
        reflect grpo dpo scalar_reward
        human_alignment annotation_sheet""",
    "the paper's tables": """
        paper paper.benchmarks paper.methods paper.tables_data paper.budgets paper.stages
        paper.variants paper.shared_stages paper.other_judges paper.plan paper.runner paper.measured
        paper.training paper.annotation_costs paper.results paper.cells paper.training_tables
        paper.noise_table paper.models_table paper.claims paper.render paper.page paper.drawing
        paper.png paper.figures testbed.runs testbed.study""",
}
LEVEL_OF = {name: number for number, names in enumerate(LEVELS.values()) for name in names.split()}
HEAVY = ("torch", "transformers", "peft", "trl", "datasets", "accelerate", "deepspeed")
# Modules that may load one of HEAVY when they are imported; all the others must not.
MAY_BE_HEAVY = {
    *("ppo_math", "ppo_state", "text_metrics"),
    *(
        "attention",
        "precision",
        "pretrained",
        "models",
        "quantisation",
        "devices",
        "run_folder",
        "rollout",
        "vllm_engine",
        "samplers",
        "prefix_cache",
        "decoding",
        "checkpoint",
        "policy",
        "training_weights",
        "stopping",
    ),
    *("scoring", "update", "step_log", "trainer_states", "target_trainer", "supervised"),
    "model_metrics",
    *("annotators.reward_model", "annotators.reward_vllm", "annotators.scalar_model"),
    *("run_checkpoints", "chat_answers", "trl_policy", "pairs"),
    *("reward_model", "sft", "generate", "trainer", "reflect", "grpo", "dpo", "scalar_reward"),
    *("testbed.start_model", "testbed.runs", "testbed.study"),
}
MAX_FILE_LINES = 320
MAX_FUNCTION_LINES = 60


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
MODULES = [name for name in SOURCES if name]
FOLDERS = ("text2grad", "tests", "benchmarks", "paper", *(path.name for path in ROOT.glob("*_*")))
PYTHON_FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def imported(node: ast.AST) -> set[str]:
    """Modules of the package that an import statement names, without the leading `text2grad.`."""
    if isinstance(node, ast.Import):
        names = {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    else:
        return set()
    inside = {name.removeprefix("text2grad.") for name in names if name.startswith("text2grad.")}
    return inside & set(MODULES)


def all_imports(name: str) -> set[str]:
    return set().union(*(imported(node) for node in ast.walk(TREES[name]))) - {name}


def load_time_imports(name: str) -> set[str]:
    return set().union(*(imported(node) for node in TREES[name].body)) - {name}


def test_every_module_has_a_level():
    assert set(LEVEL_OF) == set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    above = {other for other in all_imports(name) if LEVEL_OF[other] > LEVEL_OF[name]}
    assert not above, f"{name} imports {above}, which lie above it"


def test_no_import_cycle():
    graph = {name: load_time_imports(name) for name in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert set(order) == set(MODULES)


def test_nothing_imports_a_script():
    scripts = {path.stem for path in PYTHON_FILES if path.is_relative_to(ROOT / "RM_Data_Anno")}
    scripts |= {path.stem for path in PYTHON_FILES if "NL_" in str(path.relative_to(ROOT))}
    for path in PYTHON_FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in scripts, path
            elif isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & scripts, path


def test_light_modules_load_nothing_heavy():
    """One process imports them one after the other and says which one first loaded what."""
    light = [name for name in MODULES if name not in MAY_BE_HEAVY]
    code = (
        "import importlib, json, sys\n"
        "found = {}\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module('text2grad.' + name)\n"
        f"    for heavy in {HEAVY!r}:\n"
        "        if heavy in sys.modules:\n"
        "            found.setdefault(heavy, name)\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}


def test_ppo_mathematics_needs_torch_only():
    code = (
        "import sys\nimport text2grad.ppo_math, text2grad.ppo_state\n"
        "print([name for name in ('transformers', 'peft', 'trl') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_only_models_and_checkpoint_know_peft():
    users = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        and re.search(r"\bpeft\b", ast.unparse(node))
    }
    assert users <= {"models", "checkpoint"}


@pytest.mark.parametrize("name", list(SOURCES))
def test_file_length(name):
    lines = len(SOURCES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{SOURCES[name]}: {lines} lines"


@pytest.mark.parametrize("name", list(SOURCES))
def test_function_length(name):
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(TREES[name]):
        if isinstance(node, functions):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{SOURCES[name]}: {node.name} has {lines} lines"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_bare_except_and_nothing_left_to_do(path):
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), path
    marks = re.findall(r"#.*\b(?:TO" "DO|FIX" r"ME)\b", text)
    assert not marks, f"{path}: {marks}"
