"""The DeepSpeed file and the reward model's flags agree; what a resumed run takes of a state."""

import json
from pathlib import Path

import pytest
from trees import ROOT

from text2grad.config import PolicyConfig, RewardTrainConfig, SFTConfig
from text2grad.config.deepspeed import read_deepspeed
from text2grad.schema import UserError
from text2grad.supervised import check_resume
from text2grad.whole_folder import write_manifest

SHIPPED = sorted((ROOT / "NL_Reward_Model").glob("*/deepspeed.json"))


def flags(path, kind=RewardTrainConfig, **changes):
    given = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3}
    return kind(deepspeed=str(path), **given | {"max_grad_norm": 0.7} | changes)


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


def test_all_shells_have_the_same_file():
    policies = sorted((ROOT / "NL_Gradient_Policy_Optimization").glob("*/deepspeed.json"))
    assert len(SHIPPED) == len(policies) == 3
    assert len({path.read_text(encoding="utf-8") for path in (*SHIPPED, *policies)}) == 1


@pytest.mark.parametrize("kind", [RewardTrainConfig, SFTConfig])
def test_the_flags_decide_what_the_shipped_file_leaves_open(kind):
    config = read_deepspeed(flags(SHIPPED[0], kind), processes=4)
    assert config["train_micro_batch_size_per_gpu"] == 2
    assert config["gradient_accumulation_steps"] == 3
    assert config["train_batch_size"] == 2 * 3 * 4
    assert config["gradient_clipping"] == 0.7
    assert config["bf16"] == {"enabled": False}
    assert config["zero_optimization"]["stage"] == 2
    assert "auto" not in json.dumps(config)
    assert "offload" not in json.dumps(config)


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
            "--per_device_train_batch_size 2",
        ),
        (
            {"train_batch_size": 64},
            '"train_batch_size" is 64',
            "--per_device_train_batch_size 2 times --gradient_accumulation_steps 3 times 1 proc",
        ),
        ({"bf16.enabled": True}, '"bf16.enabled" is true', "--dtype"),
        ({"fp16.enabled": True}, '"fp16.enabled" is true', "--dtype"),
        (
            {"optimizer.params": {"lr": 1e-3}},
            '"optimizer" contradicts --learning_rate and --weight_decay; remove it',
            "--learning_rate",
        ),
        (
            {"scheduler.type": "WarmupLR"},
            '"scheduler" contradicts --lr_scheduler_type and --warmup_ratio; remove it',
            "--warmup_ratio",
        ),
        (
            {"zero_force_ds_cpu_optimizer": True},
            '"zero_force_ds_cpu_optimizer" is true',
            "--learning_rate and --lr_scheduler_type",
        ),
        ({"zero_optimization.stage": 0}, '"zero_optimization.stage" is 0', "--deepspeed"),
    ],
)
def test_a_contradiction_stops_the_run_before_it_writes(file, tmp_path, changes, key, flag):
    path = file(**changes)
    with pytest.raises(UserError) as raised:
        check_resume(flags(path, output_dir=str(tmp_path / "run")))
    message = str(raised.value)
    assert message.startswith(f"--deepspeed {path}: {key}")
    assert flag in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


def test_the_optimiser_of_the_flags_may_be_offloaded(file):
    offload = {"device": "cpu"}
    config = read_deepspeed(flags(file(**{"zero_optimization.offload_optimizer": offload})), 1)
    assert config["zero_optimization"]["offload_optimizer"] == offload
    assert config["zero_force_ds_cpu_optimizer"] is False


@pytest.mark.parametrize(("said", "value"), [(None, 0), ("auto", 0), (100, 100)])
def test_weights_of_two_precisions_are_not_gathered_together(file, said, value):
    key = "zero_optimization.stage3_param_persistence_threshold"
    config = read_deepspeed(flags(file(**{key: said} if said else {})), 1)
    assert config["zero_optimization"]["stage3_param_persistence_threshold"] == value


@pytest.mark.parametrize("stage", [2, 3])
def test_packed_weights_are_not_cut(file, stage):
    path = file(**{"zero_optimization.stage": stage})
    for args in (flags(path), PolicyConfig(deepspeed=str(path), adafactor=False)):
        object.__setattr__(args, "load_in_4bit", True)
        if stage == 2:
            read_deepspeed(args, 1)
            continue
        with pytest.raises(UserError, match=r'stage" is 3, .* --load_in_4bit true: .* set 2'):
            read_deepspeed(args, 1)


def test_a_launcher_that_contradicts_is_named(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    with pytest.raises(UserError, match="use_cpu: true of the launcher contradicts --deepspeed"):
        check_resume(flags(SHIPPED[0]))


# -- resuming


@pytest.fixture
def state(tmp_path):
    """Makes a checkpoint of the trainer as so many processes under a stage leave it."""

    def write(processes, stage):
        folder = tmp_path / "run/trainer/checkpoint-2"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text("{}")
        (tmp_path / "run/config.json").write_text('{"flags": {}}')
        model = "zero_pp_rank_0_mp_rank_00" if stage == 3 else "mp_rank_00"
        names = [f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(processes)]
        for name in (*names, f"{model}_model_states.pt") if stage else ("optimizer.pt",):
            place = folder / "global_step2" if stage else folder
            place.mkdir(exist_ok=True)
            (place / name).touch()
        write_manifest(folder, 2, processes)
        return str(folder)

    return write


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ((2, 2), (2, 2), ""),
        ((2, 2), (2, 1), ""),
        ((2, 3), (2, 3), ""),
        ((1, 0), (4, 0), ""),
        (
            (2, 2),
            (4, 2),
            "2 processes under DeepSpeed below ZeRO-3, and this is 4 processes under ",
        ),
        ((2, 2), (2, 0), "2 processes under DeepSpeed below ZeRO-3, and this is a run without Dee"),
        ((1, 0), (2, 2), "a run without DeepSpeed, and this is 2 processes under DeepSpeed below "),
        (
            (2, 2),
            (2, 3),
            "2 processes under DeepSpeed below ZeRO-3, and this is 2 processes under ",
        ),
        ((2, 3), (2, 1), "2 processes under DeepSpeed with ZeRO-3, and this is 2 processes under "),
    ],
)
def test_an_optimiser_that_is_cut_in_another_way_starts_anew(
    file, state, monkeypatch, capsys, before, now, message
):
    written = state(*before)
    processes, stage = now
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    path = file(**{"zero_optimization.stage": stage}) if stage else ""
    assert check_resume(flags(path, resume_from_checkpoint=written)) == written
    said = [line for line in capsys.readouterr().out.splitlines() if "its optimiser" in line]
    assert len(said) == bool(message)
    for line in said:
        assert line.startswith(f"{written}: its optimiser is that of {message}")
        assert line.endswith(": adapter, step and schedule go on, the optimiser starts anew")


def test_other_processes_keep_the_records_of_an_update(state, monkeypatch):
    written = state(2, 0)
    write_manifest(Path(written), 2, 2, records=12)
    monkeypatch.setenv("WORLD_SIZE", "4")
    same = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 3}
    assert check_resume(flags("", resume_from_checkpoint=written, **same)) == written
    with pytest.raises(UserError, match=r"times 4 processes: updates of 24 records, .* had 12, "):
        check_resume(flags("", resume_from_checkpoint=written))
