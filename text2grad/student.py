"""Student's interval of a mean, for figures that few independent runs gave."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist, mean, stdev

# 97.5 % quantiles of Student's t for 1 to 30 degrees of freedom
_QUANTILES = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
)


def student_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, to 1e-3 at least.

    Args:
        freedom: degrees of freedom, at least 1.

    Example: 2 -> 4.3027
    """
    if freedom <= len(_QUANTILES):
        return _QUANTILES[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def student_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % interval of the mean of independent values, None of fewer than two.

    Example: (1, 2, 3) -> 2 -+ 4.3027 / sqrt(3) = (-0.484, 4.484)
    """
    if len(values) < 2:
        return None
    half = student_quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half
