"""BERTScore and perplexity on models of a few kilobytes, with figures derived by hand."""

import json
import math
import socket
from dataclasses import replace

import pytest
import torch
from bert_score.utils import sent_encode
from policy_runs import save_tiny
from tiny import byte_fallback_tokenizer, byte_level_tokenizer, tiny_llama
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    RobertaTokenizer,
)
from trees import ROOT, load_args

from text2grad import generate
from text2grad.chat import encode_chat
from text2grad.config import PolicyMetricsConfig
from text2grad.metrics import evaluate_summaries
from text2grad.model_metrics import BertScore, Perplexity, encoder_layers
from text2grad.schema import UserError
from text2grad.tasks import get_task
from text2grad.turns import TurnRenderer

TASK = get_task("slf5k")
EVALUATION = ROOT / "NL_Gradient_Policy_Optimization/SLF5K/Evaluation"
TEMPLATE = TASK.prompt_template("policy")
PROMPTS = ["The dog ran.", "A much longer post about a boss, money and a project.", "x", "Why?"]
RESPONSES = ["My dog ran to the park.", "", "Is it wrong to ask? <|im_end|>", "é 日本"]

# -- perplexity


def asked(texts):
    return [[{"role": "user", "content": text}] for text in texts]


def metric(model, tokenizer, batch_size=16):
    return Perplexity(model, TurnRenderer(tokenizer, TEMPLATE, 640), batch_size)


def counting_llama(tokenizer):
    """A Llama that gives one half to the id after the last one, and shares the rest equally.

    Attention and MLP add nothing, embeddings are one-hot, so that the last hidden state is
    sqrt(V) times a unit vector, and the head a table of logits.
    """
    size = len(tokenizer)
    model = tiny_llama(tokenizer, hidden_size=size, num_hidden_layers=1, rms_norm_eps=1e-12)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        # (V - 1) of V - 1 + (V - 1) * 1: one half
        following = torch.eye(size).roll(1, dims=0) * math.log(size - 1)
        model.lm_head.weight.copy_(following / math.sqrt(size))
    return model


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    tokenizer = byte_level_tokenizer()
    model = tiny_llama(tokenizer)
    torch.nn.init.zeros_(model.lm_head.weight)
    found = metric(model, tokenizer).compute(predictions=RESPONSES, prompts=asked(PROMPTS))
    assert found["perplexity"] == pytest.approx(len(tokenizer))
    assert found["perplexities"][0] == pytest.approx(len(tokenizer))
    assert found["perplexities"][1] is None, "nothing to be perplexed by"
    assert (found["nats"][1], found["tokens"][1]) == (0.0, 0)


def test_perplexity_counts_the_tokens_of_the_response_and_no_other():
    """By hand: ln 2 for a token that follows its predecessor's id, ln(2 (V - 1)) for any other.

    The first token of the response is predicted by the last one of the prompt.
    """
    tokenizer = byte_level_tokenizer()
    size = len(tokenizer)
    last = encode_chat(tokenizer, TEMPLATE.render(prompt="x"))[-1]
    following = tokenizer.decode([last + 1, last + 2, last + 3])
    texts = [following, following + following, "The dog"]
    nats, counts = [], []
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        hits = sum(b == a + 1 for a, b in zip([last, *ids], ids, strict=False))
        nats.append(hits * math.log(2) + (len(ids) - hits) * math.log(2 * (size - 1)))
        counts.append(len(ids))
    assert nats[0] == pytest.approx(3 * math.log(2)), "the text's own ids, by construction"
    found = metric(counting_llama(tokenizer), tokenizer).compute(
        predictions=texts, prompts=asked(["x"] * 3)
    )
    assert found["tokens"] == counts
    assert found["nats"] == pytest.approx(nats, abs=1e-3)
    assert found["perplexities"][0] == pytest.approx(2.0, abs=1e-4)
    # every token weighs the same: not the mean of the responses' perplexities
    assert found["perplexity"] == pytest.approx(math.exp(sum(nats) / sum(counts)), rel=1e-4)


@pytest.mark.parametrize("make", [byte_level_tokenizer, byte_fallback_tokenizer])
def test_perplexity_is_that_of_the_whole_unpadded_sequence(make):
    """Against the model's own logits, one response at a time; padding changes nothing."""
    tokenizer = make()
    model = tiny_llama(tokenizer, initializer_range=0.2)
    renderer = TurnRenderer(tokenizer, TEMPLATE, 640)
    wanted = []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        context = renderer.render(prompt=prompt).ids
        ids = tokenizer(renderer.defuse(response), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logps = model(torch.tensor([context + ids])).logits[0].double().log_softmax(-1)
        places = range(len(context) - 1, len(context) + len(ids) - 1)
        wanted.append(
            -sum(logps[place, token].item() for place, token in zip(places, ids, strict=True))
        )
    for batch_size in (1, 3, 16):
        found = metric(model, tokenizer, batch_size).compute(
            predictions=RESPONSES, prompts=asked(PROMPTS)
        )
        assert found["nats"] == pytest.approx(wanted, abs=1e-3)


def test_special_tokens_spelled_out_in_a_response_are_text():
    tokenizer = byte_level_tokenizer()
    found = metric(tiny_llama(tokenizer), tokenizer).compute(
        predictions=["<|im_end|>"], prompts=asked(["x"])
    )
    assert found["tokens"][0] > 1


# -- BERTScore

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f"]
WIDTH = 32


def save_bert(folder, layers=2, bounded=True):
    """A BERT whose layers add nothing; a word is one coordinate of its own and four shared ones.

    LayerNorm takes off the mean, 5 / 32, so that two different words have the cosine
    (4 - 25 / 32) / (5 - 25 / 32) = 103 / 135.
    """
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=64,
        layer_norm_eps=1e-12,
    )
    model = BertModel(config)
    with torch.no_grad():
        for layer in model.encoder.layer:
            layer.attention.output.dense.weight.zero_()
            layer.output.dense.weight.zero_()
        words = torch.eye(len(WORDS), WIDTH)
        words[:, -4:] = 1
        model.embeddings.word_embeddings.weight.copy_(words)
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(folder)
    vocab = folder / "vocab.txt"
    vocab.write_text("\n".join(WORDS) + "\n")
    bound = {"model_max_length": 64} if bounded else {}
    BertTokenizerFast(vocab=str(vocab), **bound).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def no_network(monkeypatch):
    attempts = []

    def refuse(*args, **_):
        attempts.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not attempts, "a library may try and go on when it fails"


@pytest.fixture
def bert(tmp_path, no_network):
    return save_bert(tmp_path / "encoder")


def test_bert_score_by_hand(bert):
    other = 103 / 135
    found = BertScore(bert).compute(
        predictions=["a b", "a", "a b", "a", "a b c d"], references=["a b", "b", "a c", "a b", "a"]
    )
    precision = [1, other, (1 + other) / 2, 1, (1 + 3 * other) / 4]
    recall = [1, other, (1 + other) / 2, (1 + other) / 2, 1]
    assert found["bertscore_precision"] == pytest.approx(precision, abs=1e-5)
    assert found["bertscore_recall"] == pytest.approx(recall, abs=1e-5)
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    assert found["bertscore_f1"] == pytest.approx(f1, abs=1e-5)


def test_bert_score_of_blank_texts_is_0(bert):
    found = BertScore(bert).compute(predictions=["", "a", "  "], references=["a", "a", ""])
    assert found["bertscore_f1"] == pytest.approx([0, 1, 0], abs=1e-6)
    assert BertScore(bert).compute(predictions=[""], references=["a"])["bertscore_f1"] == [0]


def test_bert_score_in_batches_is_the_same(bert):
    texts = {"predictions": ["a b", "a", "c d e f", "f"], "references": ["a b c", "b", "c", "f e"]}
    one, all_at_once = BertScore(bert, batch_size=1), BertScore(bert, batch_size=8)
    found = [scorer.compute(**texts)["bertscore_f1"] for scorer in (one, all_at_once)]
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_a_tokenizer_without_a_longest_length(tmp_path, no_network):
    folder = save_bert(tmp_path / "unbounded", bounded=False)
    found = BertScore(folder).compute(predictions=["a b", "a " * 200], references=["a b", "a"])
    assert found["bertscore_f1"] == pytest.approx([1, 1], abs=1e-5)


def test_a_causal_model_without_pad_token_is_an_encoder_too(tmp_path, no_network):
    tokenizer = byte_level_tokenizer()
    bare = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, eos_token="<|im_end|>"
    )
    tiny_llama(tokenizer).save_pretrained(tmp_path / "llama")
    bare.save_pretrained(tmp_path / "llama")
    scorer = BertScore(str(tmp_path / "llama"))
    assert scorer.layers == 2
    found = scorer.compute(predictions=["The dog ran.", "x"], references=["The dog ran.", "dog"])
    assert found["bertscore_f1"][0] == pytest.approx(1, abs=1e-5)
    assert found["bertscore_f1"][1] < 0.99


def test_a_roberta_reads_the_first_word_as_any_other(tmp_path, no_network):
    """As the published scores do: with a space before the text."""
    pieces = json.loads(byte_level_tokenizer().backend_tokenizer.to_str())["model"]
    vocab = dict.fromkeys(["<s>", "<pad>", "</s>", "<unk>", *pieces["vocab"], "<mask>"])
    vocab = {piece: number for number, piece in enumerate(vocab)}
    merges = [tuple(merge) for merge in pieces["merges"]]
    config = RobertaConfig(
        vocab_size=len(vocab),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=66,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    RobertaTokenizer(vocab=vocab, merges=merges).save_pretrained(tmp_path / "roberta")
    scorer = BertScore(str(tmp_path / "roberta"))
    tokenizer = scorer.scorer._tokenizer
    ids = sent_encode(tokenizer, "the dog")
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "Ġthe", "Ġdog", "</s>"]
    assert tokenizer.model_max_length == 64, "two places fewer than there are embeddings"
    found = scorer.compute(predictions=["the dog " * 99], references=["the dog " * 99])
    assert found["bertscore_f1"] == pytest.approx([1], abs=1e-5)


def test_the_layer_that_is_compared(bert, tmp_path):
    assert encoder_layers("roberta-large", 24) == 17
    assert encoder_layers("/models/roberta-large", 24) == 17
    assert [encoder_layers("my/model", n) for n in (1, 2, 6, 12, 24)] == [1, 2, 5, 9, 18]
    assert BertScore(bert).layers == 2
    assert BertScore(bert, layers=1).layers == 1
    with pytest.raises(UserError, match=r"--bert_layers 3: .* has 2 layers"):
        BertScore(bert, layers=3)


def test_what_is_no_encoder(tmp_path, no_network):
    with pytest.raises(UserError, match=r"--bert_model .*nothing"):
        BertScore(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match='every path with "t5" in it'):
        BertScore(save_bert(tmp_path / "best5"))


def test_a_folder_with_the_name_of_a_download_is_a_folder(tmp_path, no_network, monkeypatch):
    save_bert(tmp_path / "scibert-mine")
    monkeypatch.chdir(tmp_path)
    assert BertScore("scibert-mine").layers == 2


# -- both in metrics.py


def write_rows(path, responses):
    rows = [
        {"id": str(n), "query": f"post {n}", "response": text, "ideal_human_summary": "a b"}
        for n, text in enumerate(responses)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def test_metrics_measures_both_models_before_and_after(tmp_path, bert, capsys):
    model = save_tiny(tmp_path / "policy")
    args = PolicyMetricsConfig(
        input_file=write_rows(tmp_path / "after.json", ["a b", "a", "", "the dog ran home"]),
        compare_file=write_rows(tmp_path / "before.json", ["c", "a", "a c", "x"]),
        output_file=str(tmp_path / "out.json"),
        bert_model=bert,
        ppl_model=model,
        dtype="fp32",
    )
    evaluate_summaries(args)
    printed = capsys.readouterr().out
    assert "left out" not in printed
    assert "perplexity (lower is better)" in printed
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["models"] == {
        "bertscore": {"model": bert, "layers": 2, "baseline": False},
        "perplexity": {"model": model},
    }
    change = report["difference"]["bertscore_f1"]
    low, high = change["interval"]
    assert low <= change["value"] <= high
    before, after = report["before"]["perplexity"], report["after"]["perplexity"]
    change = report["difference"]["perplexity"]
    assert change["value"] == pytest.approx(after - before)
    low, high = change["interval"]
    assert low < change["value"] < high
    scores = [row["after_scores"]["perplexity"] for row in report["samples"]]
    assert scores[2] is None
    assert scores[1] == report["samples"][1]["before_scores"]["perplexity"], "the same answer"
    # every token weighs the same, so the whole lies between the extremes
    assert min(filter(None, scores)) < after < max(filter(None, scores))

    evaluate_summaries(replace(args, bert_model="", ppl_model="", compare_file=""))
    printed = capsys.readouterr().out
    assert "left out: BERTScore (no --bert_model), perplexity (no --ppl_model)\n" in printed
    report = json.loads((tmp_path / "out.json").read_text())
    assert not {"perplexity", "bertscore_f1"} & set(report["after"])


def test_all_500_validation_posts_are_answered_and_measured_by_default(tmp_path, monkeypatch):
    posts = [{"id": n, "post": f"post {n}", "ideal_human_summary": "a b"} for n in range(500)]
    (tmp_path / "validation.json").write_text(json.dumps(posts))
    for name in ("load_tokenizer", "load_for_inference"):
        monkeypatch.setattr(generate, name, lambda *_: None)
    monkeypatch.setattr(generate, "_respond", lambda *given: [row.prompt for row in given[3]])
    folder = str(tmp_path / "result")
    path = str(tmp_path / "validation.json")
    generate.infer_policy(
        load_args(EVALUATION / "infer_val.py")(input_path=path, output_dir=folder)
    )
    args = load_args(EVALUATION / "metrics.py")(
        input_file=f"{folder}/final_merge_samples.json", output_file=str(tmp_path / "out.json")
    )
    evaluate_summaries(args)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["n"] == 500
    assert {row["id"] for row in report["samples"]} == {str(n) for n in range(500)}


def test_no_language_model_there(tmp_path):
    args = PolicyMetricsConfig(
        input_file=write_rows(tmp_path / "after.json", ["a b"]),
        output_file=str(tmp_path / "out.json"),
        ppl_model=str(tmp_path / "nothing"),
    )
    with pytest.raises(UserError, match=r"--ppl_model .*nothing: no such folder"):
        evaluate_summaries(args)
