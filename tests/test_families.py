"""Policy and reward model of any families: each with its own tokenizer and chat template."""

import json
import math
from unittest.mock import patch

import pytest
import torch
from annotated import POSTS, row, write
from families import FAMILIES, PLAIN, family_tokenizer, save_family
from policy_runs import config, rows_of, write_posts

from text2grad.alignment import byte_pieces, locate_spans, score_tokens, token_offsets
from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.chat import encode_chat
from text2grad.config import RewardTrainConfig, SFTConfig
from text2grad.decoding import Reply
from text2grad.parsing import target_json
from text2grad.pretrained import load_tokenizer
from text2grad.reward_model import train_reward_model
from text2grad.schema import Feedback, Span, UserError
from text2grad.sft import train_sft
from text2grad.tasks import get_task
from text2grad.trainer import Text2GradTrainer

TASK = get_task("slf5k")
every_family = pytest.mark.parametrize("name", FAMILIES)
# each family is policy once and reward model once
PAIRS = list(zip(FAMILIES, (*FAMILIES[1:], FAMILIES[0]), strict=True))


class Trained:
    """Models of all families, and what a little supervised training made of them."""

    def __init__(self, folder):
        self.folder = folder
        self.model = {name: save_family(name, folder / name) for name in FAMILIES}
        self.template = folder / "plain.jinja"
        self.template.write_text(PLAIN, encoding="utf-8")
        self.posts = write_posts(folder / "posts.json")
        self.annotated = write(folder / "train.json", [row(n, p) for n, p in enumerate(POSTS)])
        self.done = {}

    def flags(self, name):
        """Those that differ by family."""
        return {"chat_template": str(self.template)} if name == "gpt2" else {}

    def _train(self, kind, name, train, flags):
        if (kind, name) not in self.done:
            output_dir = self.folder / f"{kind}-{name}"
            adapter = {"dtype": "fp32", "lora_target_modules": ("all-linear",)}
            train(flags(output_dir=str(output_dir), **adapter, **self.flags(name)))
            self.done[kind, name] = output_dir / "final"
        return self.done[kind, name]

    def policy(self, name):
        def flags(**more):
            model = self.model[name]
            return SFTConfig(base_model_name=model, data_path=self.posts, max_steps=2, **more)

        return self._train("sft", name, train_sft, flags)

    def reward_model(self, name):
        def flags(**more):
            return RewardTrainConfig(
                base_model=self.model[name],
                data_path=self.annotated,
                valid_data_path="",
                data_dir=str(self.folder / f"data-{name}"),
                max_steps=30,  # enough to quote something
                per_device_train_batch_size=4,
                learning_rate=1e-2,
                **more,
            )

        return self._train("rm", name, train_reward_model, flags)

    def ppo(self, policy, reward_model, folder, **changes):
        flags = {
            "base_model_adapter_model": str(self.policy(policy)),
            "reward_model_name": str(self.reward_model(reward_model)),
            "reward_max_new_tokens": 100,
            "prompt_max_length": 200,
            "steps": 1,
        }
        given = flags | self.flags(policy) | changes
        return Text2GradTrainer(config(self.model[policy], self.posts, folder, **given))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return Trained(tmp_path_factory.mktemp("families"))


# -- each family by itself


@every_family
def test_supervised_training_and_reward_model(trained, name):
    for final in (trained.policy(name), trained.reward_model(name)):
        assert (final / "adapter_model.safetensors").exists()
        tokenizer = load_tokenizer(str(final), "--model_path")
        assert encode_chat(tokenizer, "a cat"), "the chat template is saved with the adapter"
        assert tokenizer.pad_token_id is not None
    log = json.loads((trained.reward_model(name).parent / "training_log.json").read_text())
    assert all(math.isfinite(entry["eval_loss"]) for entry in log if "eval_loss" in entry)


@every_family
def test_one_bos_at_most_and_the_user_turn(name):
    tokenizer = family_tokenizer(name)
    tokenizer.chat_template = tokenizer.chat_template or PLAIN
    ids = encode_chat(tokenizer, "a cat")
    assert "a cat" in tokenizer.decode(ids)
    expected = 1 if name in ("llama", "gemma") else 0
    assert ids.count(tokenizer.bos_token_id) == expected


def test_no_two_families_split_a_text_alike():
    splits = {
        name: [len(piece) for piece in byte_pieces(tokenizer, ids)]
        for name in FAMILIES
        for tokenizer in [family_tokenizer(name)]
        for ids in [tokenizer(POSTS[1], add_special_tokens=False)["input_ids"]]
    }
    assert len({tuple(sizes) for sizes in splits.values()}) == len(FAMILIES)


def test_gpt2_needs_a_template_and_says_how_to_give_one(trained, tmp_path):
    flags = SFTConfig(
        base_model_name=trained.model["gpt2"],
        data_path=trained.posts,
        output_dir=str(tmp_path / "sft"),
    )
    with pytest.raises(UserError, match=r"no chat template.*--chat_template FILE"):
        train_sft(flags)


# -- one family as the policy, another as its reward model


def expected_scores(sample):
    """Of each token: half of its bytes that are no space lie in a quote; poor wins."""
    text, scores, at = sample["response"], [], 0
    owner = []
    for place, character in enumerate(text):
        labels = {
            span["label"]
            for span in sample["spans"]
            if "start" in span and span["start"] <= place < span["end"]
        }
        sign = -1.0 if "poor" in labels else 1.0 if "good" in labels else 0.0
        owner += [(sign, character.isspace())] * len(character.encode())
    for token in sample["tokens"]:
        bytes_of = owner[at : at + len(token.encode())]
        at += len(bytes_of)
        solid = [sign for sign, is_space in bytes_of if not is_space]
        share = {sign: solid.count(sign) / max(len(solid), 1) for sign in (-1.0, 1.0)}
        scores.append(next((sign for sign in (-1.0, 1.0) if solid and share[sign] >= 0.5), 0.0))
    return scores


@pytest.mark.parametrize(("policy", "reward_model"), PAIRS)
def test_ppo_with_another_familys_reward_model(trained, tmp_path, policy, reward_model):
    made = trained.ppo(policy, reward_model, tmp_path / "run")
    made.train()
    [step] = rows_of(tmp_path / "run")
    assert step["parse_rate"] == 1
    assert step["unmatched_rate"] == 0
    assert math.isfinite(step["reward"])
    samples = rows_of(tmp_path / "run", "samples.jsonl")
    assert any(any(sample["scores"]) for sample in samples), "some token is quoted"
    whole = [one for one in samples if "".join(one["tokens"]) == one["response"]]
    assert whole, "a token that is part of a character cannot be shown by itself"
    for sample in whole:
        assert sample["scores"] == expected_scores(sample)


# -- the same words about the same text


def scripted(model, table, prompts, grammars, budget, flag, prefix):
    """Replies in the reward model's own tokens: the second word is good, the last is poor."""
    replies = []
    for grammar in grammars:
        words = grammar.response.split()
        spans = [Span(words[1], "good"), Span(words[-1], "poor")] if len(words) > 2 else []
        text = target_json(Feedback("It is so.", tuple(spans)), TASK)
        ids = table.encode(text.encode())
        replies.append(Reply(table.decode(ids).decode(), tuple(ids), 0, len(ids), 0, 0.0, 0))
    return replies


@every_family
def test_scores_are_those_of_the_same_familys_reward_model(trained, tmp_path, name):
    """One policy's samples, the same said of them through each family's tokens."""
    made = trained.ppo(name, name, tmp_path / "run")
    records = made.order.batch(0)
    torch.manual_seed(0)
    _, responses = made.collect(records)
    scores = {}
    with patch("text2grad.annotators.reward_model.constrained_generate", scripted):
        for critic in FAMILIES:
            made.critic = RewardModelAnnotator(
                str(trained.reward_model(critic)), TASK, dtype="fp32", max_new_tokens=100
            )
            judged = made.critique(records, responses)
            scores[critic] = [one.scores for one in judged]
    assert all(len(one) == len(ids) for one, ids in zip(scores[name], responses, strict=True))
    assert any(any(one) for one in scores[name])
    assert all(said == scores[name] for said in scores.values())


CASES = [
    ("The dog ran to the park and saw a cat on Monday.", ["ran to the park"], ["on Monday."]),
    ("My sister said that she would not come home.", ["My sister"], ["would not come home."]),
    ("Ünïcode 🙂 words and 我不知道 stay whole.", ["words"], ["Ünïcode 🙂"]),
    ("a b a b", ["a"], ["b"]),
]


@pytest.mark.parametrize(("response", "good", "poor"), CASES)
def test_scores_land_on_the_same_characters_with_every_tokenizer(response, good, poor):
    """Quotes of whole tokens; a token across a quote's end goes with the larger part of it."""
    quotes = [Span(text, "good") for text in good] + [Span(text, "poor") for text in poor]
    spans = locate_spans(quotes, response, TASK)
    by_hand = [0.0] * len(response)
    for span in spans:
        sign = 1.0 if span.label == "good" else -1.0
        by_hand[span.start : span.end] = [sign] * (span.end - span.start)
    solid = [place for place, character in enumerate(response) if not character.isspace()]
    for name in FAMILIES:
        tokenizer = family_tokenizer(name)
        ids = tokenizer(response, add_special_tokens=False)["input_ids"]
        pieces = byte_pieces(tokenizer, ids)
        assert b"".join(pieces).decode() == response
        landed = [0.0] * len(response)
        scored = zip(token_offsets(pieces), score_tokens(pieces, spans, TASK), strict=True)
        for (start, end), score in scored:
            landed[start:end] = [score] * (end - start)
        assert [landed[place] for place in solid] == [by_hand[place] for place in solid], name
