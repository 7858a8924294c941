"""Short ways to write (B, R) numbers and to compare them at 1e-6."""

import torch

NAN, INF = float("nan"), float("inf")


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float32)


def rows(*lengths, width):
    """Prefix masks of the given lengths."""
    return torch.arange(width)[None] < torch.tensor(lengths)[:, None]


def close(got, want, atol=1e-6):
    want = torch.as_tensor(want, dtype=got.dtype)
    torch.testing.assert_close(got, want.expand_as(got), atol=atol, rtol=0)
