"""Tokens, prices, and a bound that is not passed."""

import json

import pytest

from text2grad.ledger import Ledger, Price, Prices, Usage, estimate_tokens
from text2grad.schema import UserError

PRICES = Prices({"m": Price(2.0, 1.0, 10.0)}, "USD", 0.5, "p.json")


def test_cost_by_hand():
    # 600 new at 2, 400 cached at 1, 100 out at 10, per million
    usage = Usage("m", 1000, 400, 100)
    assert PRICES.cost(usage) == pytest.approx(0.0026, abs=1e-12)
    assert PRICES.cost(Usage("m", 1000, 400, 100, batch=True)) == pytest.approx(0.0013, abs=1e-12)
    assert PRICES.cost(Usage("m-2024-08-06", 1000, 400, 100)) == pytest.approx(0.0026, abs=1e-12)
    assert PRICES.cost(Usage("m-mini", 1000, 400, 100)) is None


def test_usage_survives_the_journal():
    for usage in (Usage("m", 5, 0, 2), Usage("m", 5, 4, 2, batch=True, estimated=True)):
        assert Usage.from_json(json.loads(json.dumps(usage.to_json()))) == usage


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 8), ("The dog ran.", 11), ("The dog ran!!", 12), ("犬が走った", 13)]
)
def test_estimate(text, tokens):
    assert estimate_tokens(text) == tokens


def test_the_table_of_this_package_can_be_read():
    prices = Prices.read()
    assert (prices.currency, prices.batch_factor) == ("USD", 0.5)
    assert all(0 < p.cached_input <= p.input <= p.output for p in prices.models.values())
    assert prices.of("gpt-4o-2024-08-06") == prices.of("gpt-4o") != prices.of("gpt-4o-mini")
    assert prices.of("gpt-4o-2024-05-13").output == 15.0, "the annotator of the published code"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "line 1 is not JSON"),
        ("[]", "TypeError"),
        ('{"currency": "USD", "batch_factor": 1}', "KeyError 'models'"),
        ('{"currency": "USD", "batch_factor": 1, "models": {"m": {"input": 1}}}', "'output'"),
        ('{"currency": "USD", "batch_factor": 1, "models": {"m": {"input": "x"}}}', "ValueError"),
        ('{"currency": "USD", "batch_factor": Infinity, "models": {}}', "negative or no number"),
        *(
            (
                f'{{"currency": "USD", "batch_factor": 1, "models": {{"m": {{"input": {price}, '
                '"output": 1}}}',
                "negative or no number",
            )
            for price in ("NaN", "-1")
        ),
    ],
)
def test_a_wrong_price_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "prices.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Prices.read(str(path))
    assert str(caught.value).startswith(f"--price_file {path}")
    assert "\n" not in str(caught.value)


def test_money_is_set_aside_until_the_reply_is_there():
    ledger = Ledger(PRICES, "m", max_cost=0.005)
    most = Usage("m", 0, 0, 200)  # 0.002
    first, second = ledger.reserve(most), ledger.reserve(most)
    assert (first, second) == (0.002, 0.002)
    assert ledger.reserve(most) is None, "0.006 is too much, but others may cost less"
    ledger.release(first)
    ledger.add(Usage("m", 0, 0, 100))  # 0.001
    assert ledger.reserve(most) == 0.002
    ledger.release(second)
    ledger.release(0.002)
    ledger.add(Usage("m", 0, 0, 210))  # 0.0031 in all: 0.0019 left
    with pytest.raises(UserError, match=r"--max_cost 0.005: 0.0031 USD are spent .* 0.0020;"):
        ledger.reserve(most)


def test_what_replies_took_over_their_estimate_is_set_aside_for_the_next():
    ledger = Ledger(PRICES, "m", max_cost=1.0)
    most = Usage("m", 0, 0, 200)
    first, second = ledger.reserve(most), ledger.reserve(most)
    ledger.add(Usage("m", 0, 0, 600))  # three times as much
    ledger.release(first)
    assert ledger.reserve(most) == pytest.approx(0.006)
    ledger.add(Usage("m", 0, 0, 10))
    ledger.release(second)
    assert ledger.reserve(most) == pytest.approx(0.006), "it stays careful"


def test_earlier_runs_count_for_the_bound_and_not_for_this_run():
    ledger = Ledger(PRICES, "m", max_cost=0.005)
    ledger.recall([Usage("m", 0, 0, 400), Usage("other", 7, 0, 7)])
    assert (ledger.all.replies, ledger.all.unpriced, ledger.run.replies) == (2, 1, 0)
    with pytest.raises(UserError, match=r"0\.0040 USD are spent"):
        ledger.reserve(Usage("m", 0, 0, 200))
    assert "1 replies of a model without a price" in ledger.table()
