"""Which statements of a solution make its tests fail: coverage, trial edits, the syntax tree."""
