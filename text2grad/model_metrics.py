"""BERTScore and perplexity as `evaluate` metrics: those that need a model, local or from the hub.

Importing this module imports torch and `evaluate`, which takes seconds: import it where it is used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import torch
from bert_score import BERTScorer
from bert_score.utils import model2layers
from torch import nn
from tqdm import tqdm
from transformers import AutoConfig, AutoTokenizer, GPT2Tokenizer, RobertaTokenizer

from text2grad.conversations import as_prompt
from text2grad.micro_batches import split_micro_batches
from text2grad.models import check_head, load_for_inference, load_tokenizer, quiet_libraries
from text2grad.rollout import MicroBatch, response_hidden, token_logps
from text2grad.schema import Turn, UserError
from text2grad.summary_quality import token_perplexity
from text2grad.tasks import PromptTemplate
from text2grad.text_metrics import TextMetric
from text2grad.turns import TurnRenderer

if TYPE_CHECKING:
    from text2grad.config import PolicyMetricsConfig

_LONGEST = 512  # tokens of a text, where neither tokenizer nor model gives a bound
_CHUNK = 256  # tokens whose logits exist at once


class BertScore(TextMetric):
    """BERTScore precision, recall and F1 without a baseline, one list for each; blank text: 0."""

    def __init__(self, model: str, layers: int = 0, batch_size: int = 16) -> None:
        """Load the encoder.

        Args:
            model: a folder or a hub id.
            layers: the layer whose states are compared; 0 for the one bert-score recommends, or,
                for an encoder that it does not know, three quarters of all, rounded up.
            batch_size: texts that go through the encoder together.

        Raises:
            UserError: nothing loadable at `model`, or it has fewer layers.
        """
        super().__init__()
        quiet_libraries()
        self.batch_size = batch_size
        config = _encoder_config(model)
        self.layers = layers or encoder_layers(model, config.num_hidden_layers)
        if self.layers > config.num_hidden_layers:
            raise UserError(
                f"--bert_layers {layers}: {model} has {config.num_hidden_layers} layers"
            )
        try:
            self.scorer = BERTScorer(_as_path(model), self.layers, batch_size)
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())[:300]
            raise UserError(f"--bert_model {model}: {said}") from error
        self.scorer._model.float()
        self.scorer._tokenizer = _complete_tokenizer(self.scorer._tokenizer, config)

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, list[float]]:
        # bert-score 0.3.13 cannot encode an empty text
        pairs = list(zip(predictions, references, strict=True))
        places = [place for place, pair in enumerate(pairs) if all(map(str.strip, pair))]
        found = torch.zeros(3, len(pairs))
        if places:
            texts = ([predictions[p] for p in places], [references[p] for p in places])
            found[:, places] = torch.stack(self.scorer.score(*texts, batch_size=self.batch_size))
        names = ("bertscore_precision", "bertscore_recall", "bertscore_f1")
        return dict(zip(names, found.tolist(), strict=True))


def encoder_layers(model: str, layers: int) -> int:
    """The layer of an encoder that is compared.

    Args:
        model: a hub id, or a folder; a folder with the name of a model counts as that model.
        layers: how many it has.

    Example: roberta-large -> 17; an unknown encoder with 6 layers -> 5
    """
    tuned = model2layers | {name.rpartition("/")[2]: n for name, n in model2layers.items()}
    known = tuned.get(model, tuned.get(Path(model).name))
    return -(-3 * layers // 4) if known is None else min(known, layers)


def _encoder_config(model: str) -> Any:
    try:
        config = AutoConfig.from_pretrained(model)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(f"--bert_model {model}: {said}") from error
    if "t5" in model and "t5" not in config.model_type:
        raise UserError(
            f'--bert_model {model}: bert-score takes every path with "t5" in it for a T5 model; '
            "rename the folder, or go there and give a shorter path"
        )
    return config


def _as_path(model: str) -> str:
    """A folder as a path that bert-score cannot mistake for one of the names that it downloads."""
    return os.path.join(os.curdir, model) if Path(model).is_dir() else model


def _complete_tokenizer(tokenizer: Any, config: Any) -> Any:
    """What bert-score 0.3.13 needs: a bound on the length, a pad token, a space before the text."""
    if isinstance(tokenizer, (RobertaTokenizer, GPT2Tokenizer)):
        # bert-score asks for the space at each encoding, where transformers 5 no longer hears it
        tokenizer = AutoTokenizer.from_pretrained(tokenizer.name_or_path, add_prefix_space=True)
    if tokenizer.model_max_length > 1e9:  # what transformers writes where the files say nothing
        positions = getattr(config, "max_position_embeddings", None) or _LONGEST + 2
        # RoBERTa's first position is 2: it has two fewer places than it says
        tokenizer.model_max_length = min(_LONGEST, positions - 2)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class Perplexity(TextMetric):
    """Likelihood of each response given its prompt: nats, tokens, and exp of nats per token.

    A prompt is a list of chat messages, rendered under the model's chat template. Only the
    response's own tokens count, not those of the prompt and not an end token. "perplexity" weights
    every token of the set alike.
    """

    texts = datasets.Features(
        {
            "predictions": datasets.Value("string"),
            "prompts": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
        }
    )

    def __init__(self, model: nn.Module, renderer: TurnRenderer, batch_size: int = 16) -> None:
        """Take a loaded model.

        Args:
            model: a causal language model in evaluation mode.
            renderer: makes token ids of a prompt, with the model's tokenizer.
            batch_size: responses that go through the model together.
        """
        super().__init__()
        check_head(model)
        self.model, self.renderer, self.batch_size = model, renderer, batch_size

    @classmethod
    def load(cls, args: PolicyMetricsConfig, template: PromptTemplate) -> Perplexity:
        """The metric under `--ppl_model`.

        Raises:
            UserError: nothing loadable there, or no chat template.
        """
        quiet_libraries()
        tokenizer = load_tokenizer(args.ppl_model, "--ppl_model")
        renderer = TurnRenderer(tokenizer, template, args.prompt_max_length)
        model = load_for_inference(args.ppl_model, args.dtype, "--ppl_model", args.gpu_memory)
        return cls(model, renderer, args.batch_size)

    def _compute(
        self, predictions: list[str], prompts: list[list[dict[str, str]]]
    ) -> dict[str, Any]:
        tokenizer = self.renderer.tokenizer
        asked = [tuple(Turn(**message) for message in messages) for messages in prompts]
        contexts = [self.renderer.render_record(as_prompt(turns)).ids for turns in asked]
        responses = [
            tokenizer(self.renderer.defuse(text), add_special_tokens=False)["input_ids"]
            if text
            else []
            for text in predictions
        ]
        nats = self._nats(contexts, responses, tokenizer.pad_token_id)
        counts = [len(ids) for ids in responses]
        return {
            "nats": nats,
            "tokens": counts,
            "perplexities": [token_perplexity(sums) for sums in zip(nats, counts, strict=True)],
            "perplexity": token_perplexity((sum(nats), sum(counts))),
        }

    @torch.no_grad()
    def _nats(
        self, contexts: list[list[int]], responses: list[list[int]], pad_id: int
    ) -> list[float]:
        """Negative log-likelihood of each response in nats, 0 for an empty one."""
        nats = [0.0] * len(responses)
        rows = [row for row, ids in enumerate(responses) if ids]
        lengths = [len(contexts[row]) + len(responses[row]) for row in rows]
        device = next(self.model.parameters()).device
        with tqdm(total=len(rows), desc="perplexity", unit="response") as bar:
            for places in split_micro_batches(lengths, self.batch_size):
                chosen = [rows[place] for place in places]
                batch = MicroBatch.collate(chosen, contexts, responses, pad_id, device)
                hidden = response_hidden(self.model, batch)
                logps = token_logps(self.model, hidden, batch, 1.0, _CHUNK)
                for row, value in zip(chosen, logps.double().sum(1).tolist(), strict=True):
                    nats[row] = -value
                bar.update(len(chosen))
        return nats
