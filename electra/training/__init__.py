"""The loop and its parts; knows nothing of ELECTRA."""
