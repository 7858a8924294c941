"""A reward model that scores words, through all stages; its folder says what it writes."""

import json
from pathlib import Path

import pytest
from annotated import POSTS, row, save_base, write
from policy_runs import config, rows_of, write_posts
from tiny import byte_level_tokenizer

from text2grad.annotators.reward_model import NO_ROOM, RewardModelAnnotator
from text2grad.config import (
    MergeConfig,
    PolicyMetricsConfig,
    RewardInferConfig,
    RewardMetricsConfig,
    RewardTrainConfig,
)
from text2grad.metrics import evaluate_reward_model
from text2grad.models import merge_lora
from text2grad.response_scores import with_scores
from text2grad.reward_model import ExampleMaker, infer_reward_model, train_reward_model
from text2grad.schema import Feedback, Record, Span, Unparseable, UserError
from text2grad.supervised import Dropped
from text2grad.target_formats import resolve_format
from text2grad.tasks import TASKS, get_task
from text2grad.trainer import train_policy
from text2grad.word_scores import words_of

SLF5K = get_task("slf5k")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


def train_flags(base, folder, **changes):
    rows = [row(number, post) for number, post in enumerate(POSTS)]
    flags = {
        "base_model": base,
        "data_path": write(folder / "annotated.json", rows),
        "valid_data_path": "",
        "data_dir": str(folder / "data"),
        "output_dir": str(folder / "rm"),
        "target_format": "word_scores",
        "dtype": "fp32",
        "max_steps": 2,
        "save_steps": 1,
        "per_device_train_batch_size": 2,
        "eval_steps": 0,
    }
    return RewardTrainConfig(**flags | changes)


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """The run's folder of a reward model after two updates, with its merged model."""
    folder = tmp_path_factory.mktemp("run")
    train_reward_model(train_flags(base, folder))
    merge_lora(MergeConfig(lora_model=str(folder / "rm/final")))
    return folder / "rm"


# -- targets


def make(base, tmp_path, response, spans, **changes):
    maker = ExampleMaker(train_flags(base, tmp_path, **changes), SLF5K, byte_level_tokenizer())
    record = Record("r1", POSTS[0], response, feedback=Feedback("Short.", tuple(spans)))
    return maker.make(record), maker


def test_the_target_scores_every_word(base, tmp_path):
    # Four quotes, of which a reply with quotes could hold only two, and one from nowhere.
    spans = [Span(word, "good") for word in ("one", "three", "five", "six")]
    spans += [Span("two", "poor"), Span("not there at all", "poor")]
    example, maker = make(base, tmp_path, "one two, three four five six.", spans)
    tokenizer = maker.tokenizer
    assert tokenizer.decode(example.target_ids[:-1]) == (
        '{"textual_feedback": "Short.", "word_score_list": [["one", 1], ["two", -1], '
        '["three", 1], ["four", 0], ["five", 1], ["six", 1]]}'
    )
    assert example.target_ids[-1] == tokenizer.eos_token_id
    prompt = tokenizer.decode(example.prompt_ids)
    assert '"word_score_list"' in prompt
    assert "good_spans" not in prompt
    assert "Summary: one two, three four five six." in prompt
    assert maker.trimmer.summary() == "1 quotes not in the response left out"


def test_a_target_that_is_too_long_is_dropped_with_its_reason(base, tmp_path):
    made, _ = make(base, tmp_path, "word " * 40, (), answer_max_length=100)
    assert isinstance(made, Dropped)
    assert made.reason.endswith("tokens, over --answer_max_length 100")
    made, _ = make(base, tmp_path, "word " * 4, (), answer_max_length=100)
    assert not isinstance(made, Dropped)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_both_prompts_of_a_task_have_the_same_slots(task):
    slots = task.prompt_template("reward_model").slots
    assert task.prompt_template("reward_model_word_scores").slots == slots


# -- a run goes on in the format it was begun with


@pytest.mark.parametrize("folder", ["its own", "another"])
def test_a_run_cannot_go_on_in_another_format(base, trained, tmp_path, folder):
    own, state = folder == "its own", trained / "trainer" / "checkpoint-2"
    args = train_flags(
        base,
        tmp_path,
        target_format="spans",
        output_dir=str(trained if own else tmp_path / "other"),
        resume_from_checkpoint="auto" if own else str(state),
    )
    with pytest.raises(
        UserError, match=f"^--target_format spans: {trained} was written with word_scores, which a"
    ):
        train_reward_model(args)


# -- the folder says what the model writes


def test_every_folder_of_the_model_names_the_format(trained):
    for name in ("0_1", "0_2", "final", "final_merge"):
        facts = json.loads((trained / name / "reward_model.json").read_text())
        assert facts == {"target_format": "word_scores"}


def resolve(folder, wanted=""):
    return resolve_format(str(folder), "--model_path", wanted, "--target_format").name


def test_a_folder_goes_before_the_default_and_must_agree_with_the_flag(trained, base, tmp_path):
    assert resolve(trained / "final_merge") == "word_scores"
    assert resolve(trained / "final", "word_scores") == "word_scores"
    assert resolve(base) == resolve("someone/hub-model") == "spans"
    assert resolve(base, "word_scores") == "word_scores"
    message = (
        r"--target_format spans: --model_path .*/final was trained with "
        r"--target_format word_scores, as its reward_model.json says"
    )
    with pytest.raises(UserError, match=message):
        resolve(trained / "final", "spans")
    for text, fault in [
        ("{", "not JSON"),
        ('{"target_format": "tags"}', "'tags', known are spans"),
    ]:
        (tmp_path / "reward_model.json").write_text(text)
        with pytest.raises(UserError, match=f"--model_path .*reward_model.json: .*{fault}"):
            resolve(tmp_path)


def test_flags_that_contradict_the_folder_stop_inference_and_ppo(trained, base, tmp_path):
    args = infer_flags(trained, tmp_path, target_format="spans")
    with pytest.raises(UserError, match="--target_format spans: --model_path"):
        infer_reward_model(args)
    args = policy_flags(trained, base, tmp_path, reward_target_format="spans")
    with pytest.raises(UserError, match="--reward_target_format spans: --reward_model_name"):
        train_policy(args)


# -- the stages


def infer_flags(trained, folder, **changes):
    flags = {
        "model_path": str(trained / "final_merge"),
        "data_path": str(trained.parent / "data/slf5k_train.json"),
        "output_path": str(folder / "judged.json"),
        "dtype": "fp32",
        "max_new_tokens": 220,
    }
    return RewardInferConfig(**flags | changes)


def policy_flags(trained, base, folder, **changes):
    flags = {"reward_model_name": str(trained / "final_merge"), "reward_max_new_tokens": 220}
    return config(base, write_posts(folder / "posts.json"), folder / "policy", **flags | changes)


def test_inference_and_its_measurement(trained, tmp_path, capsys):
    infer_reward_model(infer_flags(trained, tmp_path, unconstrained_samples=1))
    judged = json.loads((tmp_path / "judged.json").read_text())
    assert len(judged) == 4
    for one in judged:
        reply = json.loads(one["reply"])
        assert reply["textual_feedback"].strip() == one["textual_feedback"]
        words = [word for word, _ in reply["word_score_list"]]
        assert words == words_of(one["generated_summary"])
        assert {score for _, score in reply["word_score_list"]} <= {-1, 0, 1}
        assert {span["match"] for span in one["spans"]} <= {"exact"}
        assert one["gold"]["good_spans"]
    assert "4 of 4 replies parsed" in capsys.readouterr().out
    measure = RewardMetricsConfig(
        input_file=str(tmp_path / "judged.json"),
        output_file=str(tmp_path / "metrics.json"),
        train_file="",
    )
    evaluate_reward_model(measure)
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["parse"]["rate"] == 1.0
    assert report["systems"]["reward_model"]["tokens"]["macro_f1"] is not None


def test_it_is_the_critic_of_two_ppo_steps(trained, base, tmp_path):
    train_policy(policy_flags(trained, base, tmp_path, temperature=0.7))
    steps = rows_of(tmp_path / "policy")
    assert [one["step"] for one in steps] == [1, 2]
    assert [one["parse_rate"] for one in steps] == [1.0, 1.0]
    assert [one["unmatched_rate"] for one in steps] == [0.0, 0.0]
    assert sum(one["coverage"] for one in steps) > 0
    run = json.loads((tmp_path / "policy/config.json").read_text())
    assert run["reward_target_format"] == "word_scores"


def test_answers_are_scored_by_it(trained):
    args = PolicyMetricsConfig(reward_model_name=str(trained / "final_merge"))
    record = Record("r1", POSTS[0], "The dog ran.", "A dog ran.")
    (scored,), _ = with_scores([record], args, SLF5K)
    assert scored.fields["scores"]["reward_model_parsed"] == 1.0


def test_a_response_too_long_for_the_reply_is_unparseable_and_the_others_are_not(trained):
    judge = RewardModelAnnotator(
        str(trained / "final"), SLF5K, dtype="fp32", batch_size=2, max_new_tokens=90
    )
    texts = ["The dog ran.", "word " * 60, "", "A cat."]
    said = judge.annotate([Record(str(n), POSTS[0], text) for n, text in enumerate(texts)])
    assert [isinstance(one, Feedback) for one in said] == [True, False, True, True]
    assert said[1] == Unparseable(NO_ROOM)
    assert judge.stats.replies == 3
    judge.max_new_tokens = 10
    with pytest.raises(UserError, match="--max_new_tokens 10: the shortest reply takes"):
        judge.annotate([Record("r", POSTS[0], "A cat.")])


def test_a_file_can_be_measured_whose_gold_is_a_word_list(tmp_path):
    gold = {"textual_feedback": "So.", "word_score_list": [["dog", 1], ["May", -1]]}
    listed = {"id": "r1", "post": POSTS[0], "generated_summary": "My dog ran. It was May."}
    judged = listed | {"textual_feedback": "So.", "good_spans": ["dog"], "poor_spans": []}
    measure = RewardMetricsConfig(
        input_file=write(tmp_path / "judged.json", [judged]),
        data_path=write(tmp_path / "gold.json", [listed | gold]),
        output_file=str(tmp_path / "metrics.json"),
        train_file="",
    )
    evaluate_reward_model(measure)
    found = json.loads(Path(measure.output_file).read_text())["systems"]["reward_model"]["tokens"]
    assert (found["good"]["f1"], found["poor"]["recall"]) == (1.0, 0.0)
