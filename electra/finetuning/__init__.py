"""Fine-tuning runs: one, several seeds of one, parts of the data, and the search for a recipe."""
