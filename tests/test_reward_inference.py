import json

import pytest
import torch
from annotated import POSTS, row, save_base, write
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import byte_level_tokenizer, tiny_llama
from transformers import AutoModelForCausalLM

from text2grad.annotators.reward_model import RewardModelAnnotator
from text2grad.config import MergeConfig, RewardInferConfig
from text2grad.files import sha256_file
from text2grad.models import merge_lora
from text2grad.parsing import read_feedback, reasons
from text2grad.reward_model import infer_reward_model
from text2grad.run_folder import weights_sha256
from text2grad.schema import Feedback, Record, UserError
from text2grad.tasks import get_task

SLF5K = get_task("slf5k")


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level_tokenizer()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory, tokenizer):
    """A folder with an adapter that does something."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "down_proj"]))
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    folder = tmp_path_factory.mktemp("adapter") / "final"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_merged_model_says_what_the_adapter_says(adapter, base):
    merge_lora(MergeConfig(lora_model=adapter))
    merged = AutoModelForCausalLM.from_pretrained(adapter + "_merge", dtype=torch.float32).eval()
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    ids = torch.tensor([[5, 6, 7, 300]])
    with torch.no_grad():
        own = plain(input_ids=ids).logits
        together = PeftModel.from_pretrained(plain, adapter)(input_ids=ids).logits
        found = merged(input_ids=ids).logits
    torch.testing.assert_close(found, together, atol=1e-4, rtol=0)
    assert (found - own).abs().max() > 1e-2


def test_an_adapter_that_does_not_fit_is_named(adapter, tmp_path, tokenizer):
    tiny_llama(tokenizer, hidden_size=64).save_pretrained(tmp_path / "other")
    args = MergeConfig(lora_model=adapter, base_model=str(tmp_path / "other"))
    with pytest.raises(UserError, match=r"--lora_model .*: does not fit the model"):
        merge_lora(args)
    with pytest.raises(UserError, match=r"--lora_model .*other: a whole model, not an adapter"):
        merge_lora(MergeConfig(lora_model=str(tmp_path / "other")))


@pytest.mark.parametrize("kind", ["base", "adapter"])
def test_replies_of_an_untrained_model_all_parse(base, adapter, kind):
    judge = RewardModelAnnotator(
        {"base": base, "adapter": adapter}[kind],
        SLF5K,
        dtype="fp32",
        batch_size=2,
        max_new_tokens=90,
    )
    texts = (
        'He said "no" \\ and left.',
        "def add(a):\n    return a",
        "我不知道 🙂",
        "one",
        POSTS[0],
    )
    records = [Record(str(n), POSTS[1], text) for n, text in enumerate(texts)]
    said = judge.annotate(records)
    for text, one in zip(texts, said, strict=True):
        assert isinstance(one, Feedback)
        assert one.repair == "none"
        assert all(span.text in text for span in one.spans)
    rates = judge.rates()
    assert judge.stats.replies == 5
    assert 0 < rates["rejected_share"] <= 1
    assert 0 <= rates["removed_mass"] < 1
    assert judge.annotate(list(reversed(records))) == list(reversed(said))


def infer(base, tmp_path, rows, **changes):
    fixed = {
        "model_path": base,
        "data_path": write(tmp_path / "in.json", rows),
        "output_path": str(tmp_path / "out.json"),
        "dtype": "fp32",
        "max_new_tokens": 90,
    }
    infer_reward_model(RewardInferConfig(**fixed | changes))
    return json.loads((tmp_path / "out.json").read_text())


def test_judged_rows_keep_the_record_and_move_its_annotation(base, tmp_path):
    nested = {
        "id": "r9",
        "post": POSTS[1],
        "generated_summary": "x y",
        "note": "kept",
        "annotations": {"textual_feedback": "Nested.", "good_spans": ["x"], "bad_spans": []},
    }
    bare = {"id": "r10", "post": POSTS[2], "generated_summary": "no gold"}
    rows = [row(1, POSTS[0], feedback="a person's words"), nested, bare]
    out = infer(base, tmp_path, rows)
    assert [one["id"] for one in out] == ["r1", "r9", "r10"]
    for one in out:
        assert isinstance(read_feedback(one, SLF5K), Feedback)
        assert one["annotation"]["annotator"] == "reward_model"
        assert json.loads(one["reply"])["textual_feedback"].strip() == one["textual_feedback"]
        assert {span["match"] for span in one["spans"]} <= {"exact"}
    gold = read_feedback(out[0]["gold"], SLF5K)
    assert gold.critique == "It keeps the main point."
    assert [span.label for span in gold.spans] == ["good", "poor"]
    assert out[0]["feedback"] == "a person's words"
    assert read_feedback(out[1]["gold"], SLF5K).critique == "Nested."
    assert out[1]["note"] == "kept"
    assert "annotations" not in out[1]
    assert "gold" not in out[2]
    facts = json.loads((tmp_path / "out.decoding.json").read_text())
    assert facts["rejected_share"] > 0
    assert facts["constrained"] is True
    assert (facts["reward_model"], facts["reward_model_sha256"]) == (base, weights_sha256(base))
    assert facts["output_sha256"] == sha256_file(tmp_path / "out.json")
    free = facts["unconstrained"]
    assert free["replies"] == 3
    assert free["parse_rate"] == 1 - sum(free["reasons"].values()) / 3


def test_unconstrained_replies_that_are_no_feedback_are_rows_with_the_reason(base, tmp_path):
    out = infer(
        base,
        tmp_path,
        [row(1, POSTS[0]), row(2, POSTS[1])],
        constrained_decoding=False,
        max_new_tokens=20,
    )
    for one in out:
        assert one["unparseable"] in reasons(SLF5K)
        assert "textual_feedback" not in one
        assert one["gold"]["textual_feedback"] == "It keeps the main point."
        assert one["reply"]
    facts = json.loads((tmp_path / "out.decoding.json").read_text())
    assert facts["constrained"] is False
    assert "rejected_share" not in facts


def test_a_sample_of_the_records_can_be_judged(base, tmp_path):
    rows = [row(number, f"{post} {number}") for number, post in enumerate(POSTS)]
    assert len(infer(base, tmp_path, rows, max_samples=2)) == 2
