"""The gate before PPO: every check passes and fails on figures made for it."""

import json

import pytest
from policy_runs import config, trainer
from test_report import reward_report

from text2grad.config import PolicyConfig
from text2grad.gate import pass_gate, reward_model_checks
from text2grad.schema import UserError

MODEL = {"reward_model": "ckpt/rm", "reward_model_sha256": "abc"}


def lead(low, high, value=0.1):
    return {"macro_f1": value, "interval": [low, high]}


def measured(**changes):
    """The metrics of a reward model that passes everything."""
    metrics = {
        **reward_report(),
        "responses": 100,
        "parse": parsed(1.0),
        "quotes": {"quotes": 300, "unmatched_rate": 0.0},
        "lead": {
            name: lead(0.05, 0.15)
            for name in ("all_neutral", "all_good", "all_poor", "bag_of_words")
        },
        "human": {"responses": 40, "sign_accuracy": 0.85},
        "decoding": decoding(),
    }
    return metrics | changes


def parsed(rate):
    return reward_report()["parse"] | {"rate": rate}


def decoding(**changes):
    free = {"replies": 64, "parse_rate": 0.95, "quotes": 150, "unmatched_rate": 0.02}
    facts = {**MODEL, "constrained": True, "rejected_share": 0.1, "removed_mass": 0.05}
    return facts | {"unconstrained": free} | changes


def free(**changes):
    return decoding(unconstrained=decoding()["unconstrained"] | changes)


def without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def checks(metrics, **model):
    found = reward_model_checks(metrics, "m.json", **MODEL | model)
    return {check.name: check for check in found}


def failed(metrics, **model):
    return [name for name, check in checks(metrics, **model).items() if check.status != "PASS"]


def test_a_good_reward_model_passes_every_check():
    found = checks(measured())
    assert [check.status for check in found.values()] == ["PASS"] * 11
    line = str(found["unmatched quotes"])
    assert line == "PASS  unmatched quotes: 2.0% of 150 without the grammar (below 5%)"


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"responses": 49}, ["responses"]),
        ({"decoding": free(parse_rate=0.89)}, ["parse rate"]),
        ({"decoding": free(unmatched_rate=0.05)}, ["unmatched quotes"]),
        ({"decoding": free(quotes=0, unmatched_rate=0.0)}, ["unmatched quotes"]),
        ({"decoding": decoding(rejected_share=0.31)}, ["rejected share"]),
        ({"decoding": decoding(removed_mass=0.31)}, ["removed mass"]),
        ({"human": {"responses": 5, "sign_accuracy": 0.8}}, ["agreement with people"]),
        ({"human": {"responses": 0, "sign_accuracy": None}}, ["agreement with people"]),
        ({"decoding": decoding(reward_model_sha256="other")}, ["same model"]),
    ],
)
def test_each_check_fails_alone(changes, names):
    assert failed(measured(**changes)) == names


@pytest.mark.parametrize("name", ["all_neutral", "all_good", "all_poor", "bag_of_words"])
def test_a_baseline_that_is_not_clearly_beaten_is_named_with_its_interval(name):
    leads = measured()["lead"]
    check = checks(measured(lead=leads | {name: lead(0.0, 0.2)}))
    (warned,) = [one for one in check.values() if one.status == "WARN"]
    assert warned.finding == "macro-F1 +0.100 (+0.000 to +0.200, above 0)"
    assert failed(measured(lead=leads | {name: {"macro_f1": 0.1, "interval": None}}))


def test_a_bag_of_words_that_was_not_measured_is_no_pass():
    (name,) = failed(measured(lead=without(measured()["lead"], "bag_of_words")))
    assert name == "better than “Bag of words”"


def test_figures_of_constrained_replies_do_not_pass():
    """There parse rate 100 % and unmatched 0 are made by the grammar."""
    found = checks(measured(decoding=without(decoding(), "unconstrained")))
    for name in ("parse rate", "unmatched quotes"):
        assert found[name].status == "WARN"
        assert "constrained decoding only" in found[name].finding
        assert "--unconstrained_samples" in found[name].advice


def test_replies_without_the_grammar_speak_for_themselves():
    facts = {**MODEL, "constrained": False}
    assert failed(measured(decoding=facts)) == []
    metrics = measured(decoding=facts, parse=parsed(0.5))
    metrics["quotes"] = {"quotes": 10, "unmatched_rate": 0.5}
    assert failed(metrics) == ["parse rate", "unmatched quotes"]
    assert "rejected share" not in checks(metrics)


def test_metrics_that_do_not_say_whose_they_are_are_no_pass():
    assert failed(measured(decoding={})) == ["same model", "parse rate", "unmatched quotes"]


def test_without_human_labels_nothing_is_claimed():
    found = checks(measured(human={"responses": 0, "sign_accuracy": None}))["agreement with people"]
    assert str(found) == ("SKIP  agreement with people: no human labels in the measured records")


def test_a_model_without_weights_on_disk_is_known_by_its_name():
    same = measured(decoding=decoding(reward_model_sha256=""))
    assert failed(same, reward_model_sha256="") == []
    assert failed(same, reward_model="hub/other", reward_model_sha256="") == ["same model"]
    assert failed(same) == ["same model"]


# -- before a run


def write(path, metrics):
    path.write_text(json.dumps(metrics))
    return str(path)


def test_lines_are_printed_and_a_warning_refuses_if_asked_to(tmp_path, capsys):
    good = write(tmp_path / "good.json", measured())
    facts = {**MODEL, "reward_target_format": "spans"}  # as `critic_facts` tells them
    lines = pass_gate(PolicyConfig(reward_model_metrics=good, require_rm_gate=True), facts, True)
    assert capsys.readouterr().out.splitlines() == ["reward model:", *lines]
    poor = write(tmp_path / "poor.json", measured(responses=3))
    lines = pass_gate(PolicyConfig(reward_model_metrics=poor), MODEL, False)
    assert lines[1].startswith("WARN  responses: 3 measured (at least 50): ")
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"--require_rm_gate true: responses of .*poor.json"):
        pass_gate(PolicyConfig(reward_model_metrics=poor, require_rm_gate=True), MODEL, False)


def test_no_human_labels_do_not_refuse(tmp_path):
    path = write(tmp_path / "m.json", measured(human={"responses": 0, "sign_accuracy": None}))
    assert pass_gate(PolicyConfig(reward_model_metrics=path, require_rm_gate=True), MODEL, False)


def test_a_missing_file_is_one_line_that_says_how_to_make_it(tmp_path):
    path = tmp_path / "none.json"
    (line,) = pass_gate(PolicyConfig(reward_model_metrics=str(path)), MODEL, False)
    assert line.startswith(f"WARN  measured: no --reward_model_metrics {path}: ")
    assert "python 2_infer.py --model_path " in line
    assert f"python 3_metrics.py --output_file {path}" in line
    with pytest.raises(UserError, match="--require_rm_gate true: measured of"):
        pass_gate(PolicyConfig(reward_model_metrics=str(path), require_rm_gate=True), MODEL, False)


def test_no_gate_without_a_reward_model_or_by_request():
    reference = {"reward_model": "the reference annotator, directly"}
    assert pass_gate(PolicyConfig(require_rm_gate=True), reference, False) == []
    assert pass_gate(PolicyConfig(reward_model_metrics=""), MODEL, False) == []
    with pytest.raises(UserError, match="needs --reward_model_metrics"):
        PolicyConfig(reward_model_metrics="", require_rm_gate=True)


def test_other_figures_are_named(tmp_path):
    path = write(tmp_path / "m.json", {"n": 3})
    with pytest.raises(UserError, match=r'm.json: the key "responses" is missing; .*3_metrics.py'):
        pass_gate(PolicyConfig(reward_model_metrics=path), MODEL, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parse": {"n": 3}}, 'the key "parse.rate" is missing'),
        ({"quotes": [1]}, 'the key "quotes" holds [1], expected an object'),
        ({"lead": {"all_good": 0.1}}, 'the key "lead.all_good" holds 0.1, expected an object'),
        ({"decoding": {"constrained": True}}, 'the key "decoding.rejected_share" is missing'),
        ({"decoding": free(parse_rate="all")}, "expected a number; name what 3_metrics.py"),
        ({"human": {"responses": 3}}, 'the key "human.sign_accuracy" is missing'),
    ],
)
def test_an_older_format_is_one_line_that_names_file_and_key(tmp_path, changes, message):
    path = write(tmp_path / "m.json", measured(**changes))
    with pytest.raises(UserError) as raised:
        pass_gate(PolicyConfig(reward_model_metrics=path), MODEL, False)
    assert str(raised.value).startswith(f"--reward_model_metrics {path}: the key ")
    assert message in str(raised.value)


def test_a_run_is_refused_before_its_policy_is_loaded(policy_files, tmp_path):
    args = config(
        "/nowhere",
        policy_files[1],
        tmp_path / "run",
        reward_model_metrics=str(tmp_path / "none.json"),
        require_rm_gate=True,
    )
    with pytest.raises(UserError, match="--require_rm_gate true"):
        trainer(args)
