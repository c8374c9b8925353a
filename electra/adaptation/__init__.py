"""Continued pretraining on the text of a domain: what `electra adapt` is made of."""
