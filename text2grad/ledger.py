"""What the replies of a chat model cost: tokens, prices, and a bound that is not passed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from text2grad.files import read_text
from text2grad.schema import UserError
from text2grad.tables import text_table

PRICE_FILE = Path(__file__).parent / "prices.json"
_MILLION = 1_000_000
_ASCII_PER_TOKEN = 4  # of English text, for the byte-pair tokenizers in use
_MESSAGE_TOKENS = 8  # role and separators around one message


@dataclass(frozen=True)
class Usage:
    """Tokens of one reply.

    Attributes:
        model: the name that its price goes by.
        input: tokens of the request, cached ones included.
        cached: those among them that the provider had seen before.
        output: tokens of the reply, hidden reasoning included.
        batch: asked through the batch endpoint.
        estimated: the server did not count; these are estimates.
    """

    model: str
    input: int
    cached: int
    output: int
    batch: bool = False
    estimated: bool = False

    def to_json(self) -> dict[str, Any]:
        """The row that a journal keeps."""
        row = {"model": self.model, "input": self.input, "output": self.output}
        marks = {"cached": self.cached, "batch": self.batch, "estimated": self.estimated}
        return row | {name: value for name, value in marks.items() if value}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Usage:
        """What `to_json` wrote."""
        return cls(
            row["model"],
            row["input"],
            row.get("cached", 0),
            row["output"],
            row.get("batch", False),
            row.get("estimated", False),
        )


@dataclass(frozen=True)
class Price:
    """Price of a model per million tokens."""

    input: float
    cached_input: float
    output: float


@dataclass(frozen=True)
class Prices:
    """The table of prices.

    Attributes:
        models: by name.
        currency: of all of them.
        batch_factor: share of the price that the batch endpoint takes.
        path: the file, for messages.
        as_of: when they were looked up, "" if the file does not say.
    """

    models: Mapping[str, Price]
    currency: str
    batch_factor: float
    path: str
    as_of: str = ""

    @classmethod
    def read(cls, path: str = "") -> Prices:
        """Read `--price_file`, or the table of this package.

        Raises:
            UserError: it cannot be read, or a price is missing or no number.
        """
        path = path or str(PRICE_FILE)
        try:
            table = json.loads(read_text(path, "--price_file"))
            models = {
                name: Price(
                    float(row["input"]),
                    float(row.get("cached_input", row["input"])),
                    float(row["output"]),
                )
                for name, row in table["models"].items()
            }
            factor, as_of = float(table["batch_factor"]), str(table.get("as_of", ""))
            sums = [factor, *(one for price in models.values() for one in astuple(price))]
            if not all(math.isfinite(one) and one >= 0 for one in sums):
                raise ValueError("a price is negative or no number")
            return cls(models, str(table["currency"]), factor, path, as_of)
        except json.JSONDecodeError as error:
            raise UserError(f"--price_file {path}: line {error.lineno} is not JSON") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"--price_file {path}: {type(error).__name__} {error}; expected currency, "
                'batch_factor and models as {"NAME": {"input": 1, "output": 2}}'
            ) from error

    def of(self, model: str) -> Price | None:
        """The price of a model or, for NAME-YYYY-MM-DD, of NAME; None if the table has neither."""
        return self.models.get(model) or self.models.get(re.sub(r"-\d{4}-\d\d-\d\d$", "", model))

    def cost(self, usage: Usage) -> float | None:
        """Price of one reply, None for a model without one.

        Example: 1,000 tokens in, 400 of them cached, and 100 out, at 2 / 1 / 10 per million
        -> (600 * 2 + 400 * 1 + 100 * 10) / 1e6 = 0.0026
        """
        price = self.of(usage.model)
        if price is None:
            return None
        fresh = usage.input - usage.cached
        cost = fresh * price.input + usage.cached * price.cached_input + usage.output * price.output
        return cost / _MILLION * (self.batch_factor if usage.batch else 1.0)


def estimate_tokens(text: str) -> int:
    """About how many tokens a message is: four ASCII characters to one, each other one by itself.

    Example: "The dog ran." -> 8 + 12 / 4 = 11; "犬が走った" -> 8 + 5 = 13
    """
    ascii_chars = sum(map(str.isascii, text)) if not text.isascii() else len(text)
    return _MESSAGE_TOKENS + math.ceil(ascii_chars / _ASCII_PER_TOKEN) + len(text) - ascii_chars


@dataclass
class Total:
    """Sums over replies; `cost` leaves out those of models without a price."""

    replies: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    cost: float = 0.0
    unpriced: int = 0
    estimated: int = 0

    def add(self, usage: Usage, cost: float | None) -> None:
        """Count one reply."""
        self.replies += 1
        self.input += usage.input
        self.cached += usage.cached
        self.output += usage.output
        self.cost += cost or 0.0
        self.unpriced += cost is None
        self.estimated += usage.estimated


class Ledger:
    """Tokens and money, of this run and of all runs of an output, with a bound.

    Args:
        prices: the table.
        model: the model that is asked now.
        max_cost: what all runs together may cost, 0 for no bound.

    Raises:
        UserError: a bound is given and the model has no price.
    """

    def __init__(self, prices: Prices, model: str, max_cost: float = 0.0) -> None:
        if max_cost and prices.of(model) is None:
            raise UserError(
                f"--max_cost {max_cost:g}: {prices.path} has no price for {model}; add it to a "
                "copy, and name that by --price_file"
            )
        self.prices, self.model, self.max_cost = prices, model, max_cost
        self.run, self.all = Total(), Total()
        self._reserved, self._under_way = 0.0, 0
        self._released, self._factor = 0.0, 1.0

    def recall(self, earlier: Iterable[Usage]) -> None:
        """Count what earlier runs have paid for."""
        for usage in earlier:
            self.all.add(usage, self.prices.cost(usage))

    def reserve(self, usage: Usage, waits: bool = True) -> float | None:
        """Set money aside for a request that is about to be sent.

        Args:
            usage: about the most it can take; more is set aside once replies have taken more.
            waits: the caller can come again when others have cost less than was set aside for them.

        Returns:
            The sum, to be given to `release` once the reply is there; None where it does not fit
            now, but others are under way and the caller waits.

        Raises:
            UserError: it does not fit.
        """
        cost = (self.prices.cost(usage) or 0.0) * self._factor
        if self.max_cost and self.all.cost + self._reserved + cost > self.max_cost:
            if self._under_way and waits:
                return None
            raise UserError(
                f"--max_cost {self.max_cost:g}: {self.all.cost + self._reserved:.4f} "
                f"{self.prices.currency} are spent or under way, what comes next may cost "
                f"{cost:.4f}; what was answered is kept, a higher --max_cost goes on"
            )
        self.hold(cost)
        return cost

    def hold(self, cost: float) -> None:
        """Set money aside without a question."""
        self._reserved += cost
        self._under_way += 1

    def release(self, cost: float) -> None:
        """Give back what was set aside."""
        self._under_way -= 1
        self._released += cost
        if self._released:
            self._factor = max(self._factor, self.run.cost / self._released)
        self._reserved = self._reserved - cost if self._under_way else 0.0

    def add(self, usage: Usage) -> None:
        """Count one reply of this run."""
        cost = self.prices.cost(usage)
        self.run.add(usage, cost)
        self.all.add(usage, cost)

    def table(self) -> str:
        """Both sums as a table for the terminal."""
        heads = ["tokens and cost", "replies", "input", "cached", "output", self.prices.currency]
        rows = [
            [name, *(f"{n:,}" for n in (t.replies, t.input, t.cached, t.output)), _money(t)]
            for name, t in (("this run", self.run), ("all runs", self.all))
        ]
        notes = []
        if self.all.unpriced:
            notes.append(
                f"{self.all.unpriced:,} replies of a model without a price in --price_file"
            )
        if self.all.estimated:
            notes.append(f"{self.all.estimated:,} replies whose tokens the server did not count")
        return "\n".join([text_table(heads, rows), *(f"({note})" for note in notes)])


def _money(total: Total) -> str:
    return "-" if total.unpriced == total.replies and total.replies else f"{total.cost:.4f}"
