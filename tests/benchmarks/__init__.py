"""Figures, each with its command; nothing here runs as a test."""
