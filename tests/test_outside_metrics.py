"""The metrics of `metrics.py` and `arc_challenge.py` beside outside implementations, same files.

The outside ones read the files themselves. EvalPlus' own evaluator stands beside ours in
test_evalplus.py, a judge beside known functions in test_judge.py.
"""

import json
import random
from statistics import mean

import pytest
import torch
from bert_score import BERTScorer
from policy_runs import save_tiny
from question_files import write_lines
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from test_model_metrics import save_bert
from transformers import AutoModelForCausalLM, AutoTokenizer

from text2grad.arc_challenge import evaluate_arc
from text2grad.config import ArcConfig, PolicyMetricsConfig
from text2grad.metrics import evaluate_summaries

TEXTS = (
    ("The cats were sitting on the mats.", "A cat sat on the mat."),
    ("a b c", "a b d e"),
    ("", "nothing was said"),
    ("Zwei naïve 🙂 Wörter,\nund noch eine Zeile", "Zwei Wörter\n\nund eine naïve 🙂 Zeile"),
    ("f f f f f f f f", "f"),
    ("It costs $1,000.50 — or 3%?", "It costs $1,000 – or 3 %?"),
)


NOUNS = ("dog", "park", "cat", "sister", "home", "summary", "point", "post", "week", "boss", "year")


@pytest.fixture
def measured(tmp_path):
    """Writes answers, measures them, and gives predictions and references as the file has them."""
    keys = ("response", "ideal_human_summary")
    rows = [
        {"id": str(n), "query": f"post {n}", **dict(zip(keys, pair, strict=True))}
        for n, pair in enumerate(TEXTS)
    ]
    path, output = tmp_path / "answers.json", tmp_path / "metrics.json"
    path.write_text(json.dumps(rows), encoding="utf-8")

    def measure(**flags):
        evaluate_summaries(
            PolicyMetricsConfig(input_file=str(path), output_file=str(output), **flags)
        )
        found = json.loads(path.read_text(encoding="utf-8"))
        texts = [[row[key] for row in found] for key in keys]
        return json.loads(output.read_text())["after"], *texts

    return measure


def test_rouge_and_sacrebleu_called_directly_say_the_same(measured):
    ours, predictions, references = measured()
    kinds = ("rouge1", "rouge2", "rougeL")
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score(r, p) for p, r in zip(predictions, references, strict=True)]
    for kind in kinds:
        theirs = mean(score[kind].fmeasure for score in scores)
        assert 0.1 < theirs < 1
        assert ours[kind] == pytest.approx(theirs, abs=1e-12)
    for name, metric in (("sacrebleu", BLEU()), ("chrf", CHRF())):
        theirs = metric.corpus_score(predictions, [references]).score
        assert 1 < theirs < 100
        assert ours[name] == pytest.approx(theirs, abs=1e-9)


def test_bert_score_called_directly_says_the_same(measured, tmp_path):
    encoder = save_bert(tmp_path / "encoder")
    ours, predictions, references = measured(bert_model=encoder, bert_layers=2)
    scorer = BERTScorer(model_type=encoder, num_layers=2, device="cpu")
    said = [place for place, text in enumerate(predictions) if text]  # it fails on empty texts
    _, _, f1 = scorer.score([predictions[n] for n in said], [references[n] for n in said])
    theirs = f1.sum().item() / len(predictions)
    assert 0.1 < theirs < 1
    assert ours["bertscore_f1"] == pytest.approx(theirs, abs=1e-5)


def questions():
    """Questions whose choices differ, so that the likeliest is not always of the same place."""
    chance = random.Random(5)
    rows = []
    for number in range(24):
        texts = [" ".join(chance.sample(NOUNS, size)) for size in chance.sample(range(1, 6), 3)]
        rows.append(
            {
                "id": str(number),
                "question": f"What of {' and '.join(chance.sample(NOUNS, 2))} is so?",
                "choices": {"text": texts, "label": ["A", "B", "C"]},
                "answerKey": chance.choice("ABC"),
            }
        )
    return rows


@torch.no_grad()
def likelihood(model, tokenizer, context, choice):
    """Nats of a choice after a question."""
    before = len(tokenizer(context, add_special_tokens=False)["input_ids"])
    ids = torch.tensor(tokenizer(f"{context} {choice}", add_special_tokens=False)["input_ids"])
    logps = model(ids[None]).logits[0, :-1].float().log_softmax(-1)
    return logps.gather(1, ids[1:, None])[before - 1 :].sum().item()


@pytest.mark.slow
def test_accuracy_of_lm_eval_is_that_of_the_likeliest_choices(tmp_path):
    """lm-eval measures; the choices' likelihoods are computed again here, from logits."""
    folder, output, rows = save_tiny(tmp_path / "model"), tmp_path / "arc.json", questions()
    evaluate_arc(
        ArcConfig(
            model_path=folder,
            data=write_lines(tmp_path / "arc.jsonl", rows),
            num_fewshot=0,
            apply_chat_template=False,
            environment=str(tmp_path / "lm"),
            output_file=str(output),
            device="cpu",
            dtype="fp32",
        )
    )
    report = json.loads(output.read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    right = {"acc": 0, "acc_norm": 0}
    for row in rows:
        texts, gold = row["choices"]["text"], "ABC".index(row["answerKey"])
        context = f"Question: {row['question']}\nAnswer:"
        nats = [likelihood(model, tokenizer, context, text) for text in texts]
        per_character = [own / len(text) for own, text in zip(nats, texts, strict=True)]
        right["acc"] += nats.index(max(nats)) == gold
        right["acc_norm"] += per_character.index(max(per_character)) == gold
    assert report["n"] == len(rows)
    for name, count in right.items():
        assert report[name]["value"] == pytest.approx(count / len(rows), abs=1e-9)
    assert 0 < right["acc"] != right["acc_norm"] < len(rows)
