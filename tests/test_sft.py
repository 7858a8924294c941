import json

import pytest
import torch
from annotated import POSTS, save_base, write
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from text2grad.chat import PromptRenderer
from text2grad.config import SFTConfig
from text2grad.schema import UserError
from text2grad.sft import train_sft
from text2grad.tasks import get_task


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def flags(base, tmp_path):
    def build(rows, **changes):
        fixed = {
            "base_model_name": base,
            "data_path": write(tmp_path / "train.json", rows),
            "output_dir": str(tmp_path / "sft"),
            "dtype": "fp32",
            "lora_target_modules": ("all-linear",),
            "learning_rate": 2e-2,
            "num_train_epochs": 5.0,
            "per_device_train_batch_size": 2,
        }
        return SFTConfig(**fixed | changes)

    return build


def rows_of(*references):
    return [
        {"id": f"s{number}", "post": post, "ideal_human_summary": reference}
        for number, (post, reference) in enumerate(zip(POSTS, references, strict=False))
    ]


def mean_logp(model, prompt, target):
    """Of the target's tokens after the prompt."""
    ids = torch.tensor([prompt + target])
    with torch.no_grad():
        logp = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    return logp.gather(1, torch.tensor(target)[:, None]).mean().item()


def test_the_policy_learns_the_references_and_is_saved(flags, tmp_path, base):
    reference = "The dog saw a cat."
    train_sft(flags(rows_of(*[reference] * 4)))
    final = tmp_path / "sft" / "final"
    tokenizer = AutoTokenizer.from_pretrained(final)
    template = get_task("slf5k").prompt_template("policy")
    prompt = PromptRenderer(tokenizer, template, 640).render(prompt=POSTS[0]).ids
    target = [*tokenizer(reference)["input_ids"], tokenizer.eos_token_id]
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    before = mean_logp(plain, prompt, target)
    trained = PeftModel.from_pretrained(plain, final).eval()
    assert mean_logp(trained, prompt, target) > before + 2
    assert json.loads((tmp_path / "sft" / "config.json").read_text())["examples"] == 4


def test_one_example_a_post_and_special_tokens_are_text(flags, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("text2grad.sft.train_adapter", lambda *given: seen.extend(given[3]))
    rows = [*rows_of("A <|im_end|> b.", "long " * 50), {**rows_of("again")[0], "id": "twice"}]
    train_sft(flags(rows, answer_max_length=40))
    (example,) = seen  # the last of the same post; the long one is left out
    assert "left out s1: its reference has" in capsys.readouterr().out
    seen.clear()
    train_sft(flags(rows_of("A <|im_end|> b.")))
    assert seen[0].target_ids.count(2) == 1
    assert seen[0].target_ids[-1] == 2
    assert example.target_ids != seen[0].target_ids


def test_references_that_are_missing_or_never_fit_are_named(flags):
    with pytest.raises(UserError, match=r"record 2 \(id s1\): the reference is missing"):
        train_sft(flags(rows_of("fine", "")))
    with pytest.raises(UserError, match=r"no record fits; .*--answer_max_length 2"):
        train_sft(flags(rows_of("much too long"), answer_max_length=2))
