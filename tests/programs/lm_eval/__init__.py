"""Stands in for lm-eval: the same command line and files, and answers "A" to every question."""
