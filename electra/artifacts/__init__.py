"""What leaves a run: cards, reports."""
