"""Fine-tuning tasks: from labelled rows to predictions, a file for each task."""
