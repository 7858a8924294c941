"""The same replies give the same run, in this process and behind `--reward_base_url`."""

import annotated
import pytest
from chat_server import KEY, serve
from policy_runs import comparable, config, rows_of, write_posts

from text2grad.trainer import Text2GradTrainer

# what only a model in this process says of its decoding, and what a server leaves to be estimated
OWN = ("rejected_share", "removed_mass", "critique_tokens")


@pytest.fixture(autouse=True)
def _network(monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def shared(run):
    return [{k: v for k, v in row.items() if k not in OWN} for row in comparable(rows_of(run))]


@pytest.mark.parametrize("constrained", [True, False], ids=["readable", "unreadable"])
def test_a_server_with_the_same_replies_gives_the_same_run(tmp_path, constrained):
    """Two steps: scores, spans, advantages, losses, and what is sampled after the first update."""
    model = annotated.save_base(tmp_path / "model")
    posts = write_posts(tmp_path / "posts.json")
    flags = {
        "reward_model_name": model,
        "reward_model_metrics": "",
        "reward_max_new_tokens": 60,
        "reward_batch_size": 3,
        "constrained_decoding": constrained,
    }
    local = Text2GradTrainer(config(model, posts, tmp_path / "local", **flags))
    replies, annotate = {}, local.critic.annotate

    def listening(records):
        said = annotate(records)
        prompts, _, _ = local.critic._prompts.show(records)
        replies.update({prompts[i].text: local.critic.stats.raw[i] for i in prompts})
        return said

    local.critic.annotate = listening
    local.train()
    with serve(lambda prompt, body: (200, replies[prompt])) as server:
        args = config(model, posts, tmp_path / "served", reward_base_url=server.url, **flags)
        Text2GradTrainer(args).train()
    assert len(server.bodies) == len(replies) == 8

    rows = shared(tmp_path / "local")
    assert rows == shared(tmp_path / "served")
    samples = [rows_of(tmp_path / name, "samples.jsonl") for name in ("local", "served")]
    assert samples[0] == samples[1]
    assert [row["judged"] for row in rows] == ([4, 4] if constrained else [0, 0])
    if constrained:
        assert {score for one in samples[0] for score in one["scores"]} > {0.0}
        assert any(one["spans"] for one in samples[0])
