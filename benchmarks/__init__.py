"""One script a claim; each prints a table and writes JSON."""
