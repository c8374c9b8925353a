"""Raw text to batches."""
