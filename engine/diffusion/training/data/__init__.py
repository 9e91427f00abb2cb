"""Captioned pictures for training: reading, checking, changing, and drawing batches of them."""
