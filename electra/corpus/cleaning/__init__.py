"""Documents to clean documents: a file a family of rules, `cleaner.py` puts them in order."""
