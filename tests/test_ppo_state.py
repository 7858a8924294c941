"""The KL coefficient and the unit of the values, from step to step."""

import pytest
import torch

from text2grad.ppo_math import masked_moments
from text2grad.ppo_state import AdaptiveKL, FixedKL, ReturnScale


@pytest.mark.parametrize(
    ("kl", "n", "coef"),
    [  # coef 0.2, target 6, horizon 100
        (12.0, 8, 0.2032),  # error 1 held at 0.2: 0.2 * (1 + 0.2 * 0.08)
        (6.6, 8, 0.2016),  # error 0.1: 0.2 * (1 + 0.1 * 0.08)
        (6.0, 8, 0.2),
        (5.4, 8, 0.1984),  # error -0.1
        (0.0, 8, 0.1968),  # error -1 held at -0.2
        (-3.0, 8, 0.1968),
        (12.0, 0, 0.2),  # nothing was measured
        (12.0, 100, 0.24),
        (0.0, 1000, 0.16),  # ten horizons count as one: the formula would give -0.2
    ],
)
def test_adaptive_kl(kl, n, coef):
    controller = AdaptiveKL(0.2, target_nats=6.0, horizon=100)
    controller.update(kl, n)
    assert controller.coef == pytest.approx(coef, abs=1e-12)


def test_adaptive_kl_compounds_and_resumes():
    controller = AdaptiveKL(0.2, 6.0, 100)
    controller.update(12.0, 50)  # 0.2 * 1.1
    resumed = AdaptiveKL(0.5, 6.0, 100)
    resumed.load_state_dict(controller.state_dict())
    for one in (controller, resumed):
        one.update(0.0, 50)  # 0.22 * 0.9
    assert resumed.coef == controller.coef == pytest.approx(0.198, abs=1e-12)


def test_fixed_kl():
    controller = FixedKL(0.05)
    controller.update(1e9, 64)
    assert controller.coef == 0.05
    assert controller.state_dict() == {"coef": 0.05}


def batch(*returns):
    return masked_moments(torch.tensor([returns]), torch.ones(1, len(returns), dtype=torch.bool))


def test_return_scale():
    scale = ReturnScale(floor=0.5)
    assert scale.scale == 1.0  # before the first return
    scale.update(batch(3.0, -4.0, 0.0, 0.0))
    assert scale.scale == pytest.approx(2.5, abs=1e-12)  # sqrt(25 / 4)
    scale.update(batch(0.0, 0.0) * 0)  # a batch without a response
    assert scale.scale == pytest.approx(2.5, abs=1e-12)
    resumed = ReturnScale(floor=0.5)
    resumed.load_state_dict(scale.state_dict())
    for one in (scale, resumed):
        one.update(batch(11.0, -13.0, 3.0, 4.0, 0.0))
    # (25 + 121 + 169 + 9 + 16) / 9 tokens = 340 / 9
    assert resumed.scale == scale.scale == pytest.approx(6.1463630, abs=1e-6)


def test_return_scale_has_a_floor_and_survives_equal_returns():
    scale = ReturnScale(floor=0.5)
    scale.update(batch(0.01, -0.01))
    assert scale.scale == 0.5
    scale = ReturnScale(floor=0.5)
    scale.update(batch(-14.0, -14.0))
    assert scale.scale == 14.0  # about 0, so targets are -1; about the mean they would be -28
