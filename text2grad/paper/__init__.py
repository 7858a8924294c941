"""The paper's tables: which methods there are, what each one runs, and what came out."""
