"""The precision of the CPU is measured, once, and a flag overrules it."""

import pytest
import torch

from text2grad import models, precision


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    precision.cpu_dtype.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield
    precision.cpu_dtype.cache_clear()


def has(monkeypatch, instructions):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


@pytest.mark.parametrize(("winner", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_auto_is_what_was_faster_and_measured_once(monkeypatch, winner, dtype):
    has(monkeypatch, True)
    calls = []

    def fastest(ways, margin):
        assert [way().dtype for way in ways.values()] == [torch.float32, torch.bfloat16]
        calls.append((list(ways), margin))
        return winner

    monkeypatch.setattr(precision, "fastest", fastest)
    assert models.resolve_dtype("auto") == models.resolve_dtype("auto") == dtype
    assert calls == [(["fp32", "bf16"], 1.4)]
    assert models.resolve_dtype("fp16") == torch.float16, "a flag needs no measurement"


def test_without_the_instructions_nothing_is_measured(monkeypatch):
    has(monkeypatch, False)
    monkeypatch.setattr(precision, "fastest", None)  # calling it would fail
    assert models.resolve_dtype("auto") == torch.float32
