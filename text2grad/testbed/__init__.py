"""The controlled testbed: a language with known good and poor phrases, learned under real PPO."""
