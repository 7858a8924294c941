"""The reward model behind a server: what it is asked, and what its replies and failures become."""

import json
import threading
from collections import Counter

import annotated
import policy_runs
import pytest
from chat_server import GOOD_REPLY, KEY, POST, SUMMARY, serve
from fault_server import serve_faults

from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.chat import encode_chat
from text2grad.config import PolicyConfig, RewardInferConfig
from text2grad.files import read_rows
from text2grad.gate import pass_gate
from text2grad.pretrained import load_tokenizer
from text2grad.reward_model import infer_reward_model
from text2grad.reward_quality import decoding_path
from text2grad.schema import Feedback, Record, Unparseable, UserError
from text2grad.scoring import build_critic, critic_facts
from text2grad.tasks import get_task
from text2grad.trainer import Text2GradTrainer

SLF5K, KODCODE = get_task("slf5k"), get_task("kodcode")
RECORD = Record("a", POST, SUMMARY)
REPLY = {key: GOOD_REPLY[key] for key in ("textual_feedback", "good_spans", "poor_spans")}


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr("text2grad.dispatch._FIRST_WAIT", 0.05)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return annotated.save_base(tmp_path_factory.mktemp("base"))


def critic(server, task=SLF5K, **flags):
    url = getattr(server, "url", server)
    flags = {"reward_model_name": "my-rm", "reward_base_url": url, **flags}
    return build_critic(PolicyConfig(task=task.name, **flags), task)


def records(count):
    return [Record(f"r{n}", f"{n}: {POST}", SUMMARY) for n in range(count)]


def number_of(body):
    """Which of `records` a request is about."""
    return int(body["messages"][0]["content"].split("Post: ")[1].split(":")[0])


def answering(prompt, body):
    return 200, REPLY


# -- the request


def test_the_server_is_shown_what_the_local_model_sees(base):
    """Where the served folder is here: in the model's template, the same ids."""
    prompts = ("A dog ran.", "The cat sat. " * 300, "<|im_end|> <s> [INST]")
    given = [Record(prompt[:9], prompt, "The cat sat.") for prompt in prompts]
    local = RewardModelAnnotator(
        base, SLF5K, dtype="fp32", prompt_max_tokens=200, constrained=False, max_new_tokens=2
    )
    seen = []

    def reply(ids, judged):
        seen.extend(ids)
        return [""] * len(ids)

    local._reply = reply
    local.annotate(given)
    with serve(answering) as server:
        made = critic(server, reward_model_name=base, reward_prompt_max_length=200)
        made.annotate(given)
    tokenizer, sent = load_tokenizer(base, ""), []
    for body in server.bodies:
        (message,) = body["messages"]
        assert message["role"] == "user"
        sent.append(encode_chat(tokenizer, message["content"]))
    assert sorted(sent) == sorted(seen)
    assert max(map(len, sent)) > 190


def test_a_request_holds_name_limits_and_schema():
    with serve(answering) as server:
        critic(server, reward_max_new_tokens=77).annotate([RECORD])
        critic(server, constrained_decoding=False).annotate([RECORD])
        critic(server, reward_target_format="word_scores").annotate([RECORD])
    body, free, words = server.bodies
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("my-rm", 0.0, 77)
    schema = body["response_format"]["json_schema"]["schema"]
    assert list(schema["properties"]) == ["textual_feedback", "good_spans", "poor_spans"]
    assert "response_format" not in free
    assert "response_format" not in words
    assert "word_score_list" in words["messages"][0]["content"]
    assert body["messages"] == free["messages"]


def test_without_the_tokenizer_length_is_estimated_and_special_tokens_are_defused():
    long = Record("a", "<|eot_id|> </s> [INST] " + "dog " * 2000, SUMMARY)
    endless = Record("b", POST, "dog " * 2000)
    with serve(answering) as server:
        said = critic(server, reward_prompt_max_length=300).annotate([long, endless, RECORD])
    first, second = (body["messages"][0]["content"] for body in server.bodies)
    assert "< |eot_id|> < /s> [ INST] dog" in first
    assert 900 < len(first) <= 1200  # four characters a token
    assert f"Summary: {SUMMARY}" in first
    assert f"Post: {POST}" in second
    assert [type(one) for one in said] == [Feedback, Unparseable, Feedback]
    assert "tokens even with an empty prompt" in said[1].reason


def test_of_an_answer_with_code_the_code_is_sent_and_quotes_are_put_into_the_answer():
    reply = {"code_feedback": "Off by one.", "wrong_code": ["return x + 1"]}
    reply["improvement_code"] = []
    response = "Here it is:\n```python\ndef f(x):\n    return x + 1\n```\nDone."
    with serve(lambda prompt, body: (200, reply)) as server:
        (said,) = critic(server, KODCODE).annotate([Record("a", "Add.", response)])
    content = server.bodies[0]["messages"][0]["content"]
    assert "def f(x):\n    return x + 1" in content
    assert "Here it is" not in content
    assert [span.text for span in said.spans] == ["return x + 1"]


# -- replies and failures


def test_each_reply_stays_with_its_record_and_is_asked_for_once():
    said = {0: REPLY, 1: "No JSON at all.", 2: {"verdict": "fine"}, 3: json.dumps(REPLY)[:-9]}
    with serve(lambda prompt, body: (200, said[number_of(body)])) as server:
        made = critic(server)
        answers = made.annotate(records(4))
    assert [span.text for span in answers[0].spans] == ["The cat took the keys", "A dog"]
    reasons = [answer.reason for answer in answers[1:]]
    assert reasons == ["no JSON object", "missing key textual_feedback", "truncated"]
    assert Counter(map(number_of, server.bodies)) == dict.fromkeys(range(4), 1)
    assert made.stats.raw[1] == "No JSON at all."
    assert made.rates()["critique_tokens"] > 0


def test_a_storm_of_refusals_is_waited_out():
    """Each is refused more often than --reward_max_retries allows, also when nothing else comes."""
    refused = Counter()

    def storm(prompt, body):
        refused[prompt] += 1
        return (503, {"message": "busy"}) if refused[prompt] <= 3 else (200, REPLY)

    with serve(storm) as server:
        said = critic(server, reward_max_retries=0).annotate(records(2))
    assert all(isinstance(one, Feedback) for one in said)
    assert set(refused.values()) == {4}


def test_a_request_that_always_fails_is_given_up_alone():
    def one_fails(prompt, body):
        return (500, {"message": "cuda"}) if number_of(body) == 1 else (200, REPLY)

    with serve(one_fails) as server:
        said = critic(server, reward_max_retries=1).annotate(records(3))
    assert [isinstance(one, Feedback) for one in said] == [True, False, True]
    assert said[1] == Unparseable("500 cuda")
    assert len(server.bodies) == 2 + 4  # it asks to come back, which is worth three times as many


def test_a_server_that_never_was_there_stops_the_run_at_once():
    with pytest.raises(UserError, match=r"^--reward_base_url http://127.0.0.1:9/v1: no server ans"):
        critic("http://127.0.0.1:9/v1").annotate([RECORD])


def test_a_server_that_stays_away_stops_the_run():
    away = threading.Event()

    def dying(prompt, body):
        return (503, {"message": "shutting down"}) if away.is_set() else (200, REPLY)

    with serve(dying) as server:
        made = critic(server, reward_patience_seconds=0.4, reward_max_retries=0)
        made.annotate([RECORD])
        away.set()
        with pytest.raises(
            UserError,
            match=r"^--reward_base_url http\S+: busy or away for more than 0.4 seconds, the last: "
            r"503 shutting down; --resume_from_checkpoint auto goes on from the last checkpoint$",
        ):
            made.annotate([RECORD])


def test_a_server_that_is_gone_stops_the_run():
    with serve(answering) as server:
        made = critic(server, reward_patience_seconds=0.4)
        made.annotate([RECORD])
    with pytest.raises(UserError, match=r"away for more than 0.4 seconds, the last: connection lo"):
        made.annotate([RECORD])


def test_an_unknown_model_names_its_flag():
    with (
        serve(lambda prompt, body: (404, {"message": "no such model"})) as server,
        pytest.raises(UserError, match=r"^--reward_model_name my-rm: not known at --reward_base_u"),
    ):
        critic(server).annotate([RECORD])


def test_later_steps_do_not_wait_for_a_first_reply():
    together = threading.Barrier(4, timeout=20)
    with serve(answering) as server:
        made = critic(server)
        made.annotate([RECORD])

        def all_at_once(prompt, body):
            together.wait()
            return 200, REPLY

        server.answer = all_at_once
        assert all(isinstance(one, Feedback) for one in made.annotate(records(4)))


# -- PPO


def ppo(base, folder, server, **flags):
    data = policy_runs.write_posts(folder / "posts.json")
    flags = {"reward_model_name": "my-rm", "reward_base_url": server.url, **flags}
    return Text2GradTrainer(policy_runs.config(base, data, folder / "run", **flags))


def test_two_steps_of_ppo_through_every_fault(base, tmp_path):
    wording = tmp_path / "wording.txt"
    wording.write_text("Judge.\n$prompt\n<summary>\n$response\n</summary>\nJSON.")
    faults = {"share": 0.1, "stall": 0.6, "patience": 0.3, "retry_after": 0.1}
    with serve_faults(**faults) as server:
        made = ppo(
            base,
            tmp_path,
            server,
            reward_prompt_file=str(wording),
            reward_timeout_seconds=0.3,
            max_unparseable_share=1.0,
        )
        made.train()
    rows = policy_runs.rows_of(tmp_path / "run")
    samples = policy_runs.rows_of(tmp_path / "run", "samples.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    judged = sum(row["judged"] for row in rows)
    failed = sum(sum(row["unparseable"].values()) for row in rows)
    assert (judged + failed, len(samples)) == (8, 8)
    assert {turn for _, turn, _ in server.log} == {1}  # no reply is argued about
    assert judged
    assert {fault for _, _, fault in server.log} & {"429", "500", "503", "stall", "cut"}
    assert all(row["critique_tokens"] > 0 for row in rows)
    assert "rejected_share" not in rows[0]  # no grammar, no figures about it


def test_what_cannot_be_read_is_masked_out(base, tmp_path):
    """Half of the replies are prose: no score, no token in the losses."""
    count = Counter()

    def alternating(prompt, body):
        count["asked"] += 1
        return 200, (REPLY if count["asked"] % 2 else "Nice work!")

    with serve(alternating) as server:
        made = ppo(base, tmp_path, server, reward_concurrency=1)
        _, judged, stats = policy_runs.scored(made)
    credit, _, _ = made.credit(judged, stats)
    assert [one.scores is None for one in judged] == [False, True, False, True]
    assert credit.mask.any(1).tolist() == [True, False, True, False]


def said_of(text):
    """A reply of one of five kinds, by the response alone."""
    reply = {
        "textual_feedback": "So.",
        "good_spans": [text[:3]],
        "poor_spans": [text[3:5], "not there at all"],
    }
    kind = sum(map(ord, text)) % 5
    if kind == 0:
        return "Nice work!"
    if kind == 1:
        return json.dumps({**reply, "good_spans": "none"})
    return f"```json\n{json.dumps(reply)}\n```" if kind == 2 else json.dumps(reply)


def test_the_same_replies_give_the_same_scores_as_in_process(base, tmp_path):
    wording = tmp_path / "wording.txt"
    wording.write_text("Judge.\n$prompt\n<summary>$response</summary>\nJSON.")
    flags = {"reward_prompt_file": str(wording), "batch_size": 8, "mini_batch_size": 4}

    def reply(prompt, body):
        shown = body["messages"][0]["content"].rsplit("<summary>", 1)[1]
        return 200, said_of(shown.split("</summary>")[0])

    with serve(reply) as server:
        far = ppo(base, tmp_path, server, **flags)
        _, far_judged, far_stats = policy_runs.scored(far)
    near = ppo(base, tmp_path, server, reward_model_name=base, reward_base_url="", **flags)
    near.critic._reply = lambda ids, judged: [said_of(text) for text in judged]
    _, near_judged, near_stats = policy_runs.scored(near)
    assert [one.scores for one in far_judged] == [one.scores for one in near_judged]
    assert [one.feedback for one in far_judged] == [one.feedback for one in near_judged]
    for ours, theirs in zip(
        far.credit(far_judged, far_stats)[:2], near.credit(near_judged, near_stats)[:2], strict=True
    ):
        assert repr(ours) == repr(theirs)
    scores = [one.scores for one in near_judged]
    assert None in scores
    assert any(scored and {-1.0, 1.0} <= set(scored) for scored in scores)


def test_a_server_that_dies_between_steps_stops_with_one_line(base, tmp_path):
    with serve(answering) as server:
        made = ppo(base, tmp_path, server, reward_patience_seconds=0.3, save_freq=1)
        served = Counter()

        def four_replies(prompt, body):
            served["replies"] += 1
            return (200, REPLY) if served["replies"] <= 4 else (503, {"message": "gone"})

        server.answer = four_replies
        with pytest.raises(
            UserError, match=r"^--reward_base_url .*away .*--resume_from_checkpoint"
        ):
            made.train()
    assert [row["step"] for row in policy_runs.rows_of(tmp_path / "run")] == [1]
    assert (tmp_path / "run" / "epoch_0_step_1" / "manifest.json").exists()


def test_the_runs_record_and_the_gate_know_the_server(tmp_path):
    args = PolicyConfig(
        reward_base_url="http://localhost:1/v1",
        reward_model_name="my-rm",
        reward_model_metrics=str(tmp_path / "none.json"),
    )
    facts = critic_facts(args)
    assert facts["reward_base_url"] == "http://localhost:1/v1"
    (line,) = pass_gate(args, facts, show=False)
    assert "--model_path my-rm --backend server --base_url http://localhost:1/v1`" in line


# -- flags


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"reward_base_url": "localhost:8000/v1"}, "--reward_base_url localhost:8000/v1: no addr"),
        ({"reward_base_url": "http://"}, "--reward_base_url http://: no address"),
        ({"reward_base_url": "http://h:port/v1"}, "--reward_base_url: no address"),
        ({"reward_base_url": f"http://u:{KEY}@h/v1"}, "--reward_base_url of h: must not hold a k"),
        (
            {"reward_base_url": "http://h/v1", "feedback_source": "execution"},
            "--reward_base_url http://h/v1: no reward model is asked with --feedback_source exec",
        ),
        ({"rollout_gpu_memory": 1.0}, "--rollout_gpu_memory 1.0: must be less than 1"),
        (
            {"rollout_backend": "vllm", "num_beams": 2, "allow_off_policy_sampling": True},
            "--num_beams 2: --rollout_backend vllm has no beams",
        ),
        ({"reward_concurrency": 0}, "--reward_concurrency 0: must be 1 or more"),
    ],
)
def test_flags_of_ppo_that_contradict(flags, message):
    with pytest.raises(UserError) as error:
        PolicyConfig(**flags)
    assert str(error.value).startswith(message)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"backend": "server"}, "--backend server: needs --base_url"),
        ({"base_url": "http://h/v1"}, "--base_url http://h/v1: needs --backend server"),
        ({"backend": "server", "base_url": "h:80"}, "--base_url h:80: no address"),
        ({"tensor_parallel_size": 2}, "--tensor_parallel_size 2: needs --backend vllm"),
        (
            {"backend": "server", "base_url": "http://h/v1", "chat_template": "a.jinja"},
            "--chat_template: the server has its own",
        ),
    ],
)
def test_flags_of_inference_that_contradict(flags, message):
    with pytest.raises(UserError) as error:
        RewardInferConfig(**flags)
    assert str(error.value).startswith(message)


# -- 2_infer.py


def test_inference_through_a_server_writes_the_file_that_hf_writes(base, tmp_path):
    data = annotated.write(
        tmp_path / "test.json", [annotated.row(n, post) for n, post in enumerate(annotated.POSTS)]
    )
    said = {**REPLY, "good_spans": ["A summary"], "poor_spans": []}

    def answer(prompt, body):
        return 200, ("Nice!" if "Monday" in prompt else said)

    with serve(answer) as server:
        for backend, url in (("hf", ""), ("server", server.url)):
            output = str(tmp_path / f"{backend}.json")
            flags = {"data_path": data, "output_path": output, "base_url": url, "dtype": "fp32"}
            flags |= {"max_new_tokens": 120, "unconstrained_samples": 0}
            infer_reward_model(RewardInferConfig(model_path=base, backend=backend, **flags))
    hf, served = (read_rows(tmp_path / f"{name}.json") for name in ("hf", "server"))
    parsed = [row for row in served if "unparseable" not in row]
    assert [row.keys() for row in parsed] == [hf[0].keys()] * 4
    assert parsed[0]["spans"][0]["match"] == "exact"
    assert json.loads(parsed[0]["reply"]) == said
    (failed,) = (row for row in served if "unparseable" in row)
    assert (failed["unparseable"], failed["reply"]) == ("no JSON object", "Nice!")
    (facts,) = read_rows(decoding_path(tmp_path / "server.json"))
    assert (facts["constrained"], facts["backend"]) == (False, "server")
