"""Stands in for alpaca_eval: the same command line, files and environment, one request a pair."""
