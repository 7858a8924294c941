"""Text2Grad: reinforcement learning from natural-language feedback.

Short tensor names, used everywhere with one meaning: `logp`, `old_logp`, `ref_logp`; dimensions
B batch, P prompt tokens, R response tokens, T = P + R, V vocabulary. Masks are bool and True
counts. Intervals are half-open and 0-based.
"""

__version__ = "0.1.0"
