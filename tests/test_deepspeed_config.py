"""The DeepSpeed file, the launcher's settings and the flags of the policy agree."""

import json

import pytest
from trees import ROOT

from text2grad.config import PolicyConfig
from text2grad.config.deepspeed import check_launcher, check_launcher_values, read_deepspeed
from text2grad.schema import UserError

SHIPPED = sorted((ROOT / "NL_Gradient_Policy_Optimization").glob("*/deepspeed.json"))


def flags(path="", **changes):
    given = {"adafactor": False, "batch_size": 24, "mini_batch_size": 2, "max_grad_norm": 0.7}
    accumulation = {"gradient_accumulation_steps": 3}
    return PolicyConfig(deepspeed=str(path), **given | accumulation | changes)


@pytest.fixture
def file(tmp_path):
    """Writes the shipped file with other values; keys are dotted."""

    def write(**changes):
        config = json.loads(SHIPPED[0].read_text(encoding="utf-8"))
        for key, value in changes.items():
            *sections, last = key.split(".")
            part = config
            for section in sections:
                part = part.setdefault(section, {})
            part[last] = value
        path = tmp_path / "ds.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_the_flags_decide_what_the_shipped_file_leaves_open(path):
    config = read_deepspeed(flags(path), processes=4)
    assert config["train_micro_batch_size_per_gpu"] == 2
    assert config["gradient_accumulation_steps"] == 3
    assert config["train_batch_size"] == 2 * 3 * 4  # of an update
    assert config["gradient_clipping"] == 0.7
    assert config["bf16"] == {"enabled": False}
    assert config["zero_optimization"]["stage"] == 2
    assert "auto" not in json.dumps(config)
    assert "offload" not in json.dumps(config)


def test_what_the_file_leaves_out_is_clipping_all_the_same(tmp_path):
    path = tmp_path / "short.json"
    path.write_text('{"zero_optimization": {"stage": 3}}', encoding="utf-8")
    assert read_deepspeed(flags(path), 1)["gradient_clipping"] == 0.7


def test_values_that_agree_are_left_as_they_are(file):
    path = file(gradient_clipping=0.7, gradient_accumulation_steps=3, train_batch_size=12)
    assert read_deepspeed(flags(path), 2)["train_batch_size"] == 12


@pytest.mark.parametrize(
    ("changes", "key", "flag"),
    [
        ({"gradient_clipping": 1.0}, '"gradient_clipping" is 1.0', "--max_grad_norm 0.7"),
        (
            {"gradient_accumulation_steps": 8},
            '"gradient_accumulation_steps" is 8',
            "--gradient_accumulation_steps 3",
        ),
        (
            {"train_micro_batch_size_per_gpu": 1},
            '"train_micro_batch_size_per_gpu" is 1',
            "--mini_batch_size 2",
        ),
        (
            {"train_batch_size": 64},
            '"train_batch_size" is 64',
            "--mini_batch_size 2 times --gradient_accumulation_steps 3 times 4 processes",
        ),
        ({"bf16.enabled": True}, '"bf16.enabled" is true', "--dtype"),
        ({"fp16.enabled": True}, '"fp16.enabled" is true', "--dtype"),
        ({"torch_autocast.enabled": True}, '"torch_autocast.enabled" is true', "--dtype"),
        ({"optimizer.type": "AdamW"}, '"optimizer"', "--learning_rate"),
        ({"scheduler.type": "WarmupLR"}, '"scheduler"', "--lr_scheduler_type"),
        ({"zero_optimization.stage": 0}, '"zero_optimization.stage" is 0', "--deepspeed"),
        ({"zero_optimization": None}, '"zero_optimization.stage" is None', "--deepspeed"),
    ],
)
def test_a_contradiction_names_the_file_its_key_and_the_flag(file, changes, key, flag):
    path = file(**changes)
    with pytest.raises(UserError) as raised:
        read_deepspeed(flags(path), 4)
    message = str(raised.value)
    assert message.startswith(f"--deepspeed {path}: {key}")
    assert flag in message
    assert "\n" not in message


def test_an_optimiser_that_cannot_be_sharded_is_refused(file):
    with pytest.raises(UserError, match=r"--deepspeed .* contradicts --adafactor true: .*false"):
        read_deepspeed(flags(file(), adafactor=True), 1)


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_a_file_that_is_none_is_named(tmp_path, text):
    path = tmp_path / "ds.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"^--deepspeed .*ds.json: "):
        read_deepspeed(flags(path), 1)


LAUNCHED = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_MIXED_PRECISION": "no"}


@pytest.mark.parametrize(
    ("environ", "deepspeed", "message"),
    [
        (
            {"ACCELERATE_MIXED_PRECISION": "bf16"},
            "",
            "mixed_precision: bf16 of the launcher contradicts --dtype auto",
        ),
        (
            {"ACCELERATE_USE_CPU": "True"},
            "ds.json",
            "use_cpu: true of the launcher contradicts --deepspeed ds.json",
        ),
        (
            {"ACCELERATE_USE_FSDP": "true"},
            "",
            "distributed_type: FSDP of the launcher contradicts no --deepspeed: only DeepSpeed ",
        ),
        (
            {"ACCELERATE_USE_MEGATRON_LM": "true"},
            "ds.json",
            "distributed_type: MEGATRON_LM of the launcher contradicts --deepspeed ds.json: only ",
        ),
        (
            LAUNCHED,
            "ds.json",
            "distributed_type: DEEPSPEED of the launcher contradicts --deepspeed ds.json: set",
        ),
        (
            LAUNCHED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "other.json"},
            "ds.json",
            "deepspeed_config_file: other.json of the launcher contradicts --deepspeed ds.json: "
            "pass --deepspeed other.json",
        ),
        (
            LAUNCHED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "other.json"},
            "",
            "deepspeed_config_file: other.json of the launcher contradicts no --deepspeed: pass",
        ),
    ],
)
def test_a_launcher_that_contradicts_names_its_setting_and_the_flag(environ, deepspeed, message):
    with pytest.raises(UserError) as raised:
        check_launcher(flags(deepspeed), environ)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("environ", "deepspeed"),
    [
        ({}, ""),
        ({}, "ds.json"),
        ({"ACCELERATE_USE_CPU": "True"}, ""),
        ({"ACCELERATE_USE_DEEPSPEED": "false", "ACCELERATE_MIXED_PRECISION": "no"}, "ds.json"),
        (LAUNCHED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "./ds.json"}, "ds.json"),
    ],
)
def test_a_launcher_that_agrees_is_let_be(environ, deepspeed):
    check_launcher(flags(deepspeed), environ)


@pytest.mark.parametrize(
    ("key", "said", "message"),
    [
        (
            "DEEPSPEED_ZERO_STAGE",
            "3",
            'zero_stage: 3 of the launcher contradicts "zero_optimization',
        ),
        (
            "DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
            "cpu",
            'offload_optimizer_device: cpu of the launcher contradicts "zero_optimization.offload',
        ),
        (
            "DEEPSPEED_OFFLOAD_PARAM_DEVICE",
            "nvme",
            'offload_param_device: nvme of the launcher contradicts "zero_optimization.offload_pa',
        ),
        (
            "GRADIENT_ACCUMULATION_STEPS",
            "8",
            'gradient_accumulation_steps: 8 of the launcher contradicts "gradient_accumulation_s',
        ),
        (
            "GRADIENT_CLIPPING",
            "1.0",
            'gradient_clipping: 1.0 of the launcher contradicts "gradient_clipping" of --deepspeed',
        ),
    ],
)
def test_what_the_launcher_says_beside_the_file_contradicts_it(file, key, said, message):
    path = file()
    with pytest.raises(UserError) as raised:
        launched(path, **{key: said})
    assert str(raised.value).startswith(message)
    assert f"--deepspeed {path}" in str(raised.value)


def test_what_the_launcher_says_as_the_file_is_let_be(file):
    launched(file())
    launched(
        file(**{"zero_optimization.offload_param": {"device": "cpu"}}),
        DEEPSPEED_ZERO_STAGE="2",
        DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE="none",
        DEEPSPEED_OFFLOAD_PARAM_DEVICE="cpu",
        GRADIENT_ACCUMULATION_STEPS="3",
        GRADIENT_CLIPPING="0.7",
    )
    launched(file(), GRADIENT_CLIPPING="1.0", max_grad_norm=1)


def launched(path, max_grad_norm=0.7, **environ):
    """Read the file as a run does that `accelerate launch` started."""
    config = read_deepspeed(flags(path, max_grad_norm=max_grad_norm), 4)
    named = {f"ACCELERATE_{key}": said for key, said in environ.items()}
    check_launcher_values(config, f"--deepspeed {path}", named)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_the_shipped_launch_asks_for_nothing_that_the_flags_decide(path):
    lines = (path.parent / "accelerate_config.yaml").read_text(encoding="utf-8").splitlines()
    assert 'mixed_precision: "no"' in lines
    assert "distributed_type: MULTI_GPU" in lines
    assert not [
        line
        for line in lines
        if line.startswith(("deepspeed", "num_", "machine_rank", "main_process", "use_cpu"))
    ]
