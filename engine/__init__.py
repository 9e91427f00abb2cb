"""Weft: a node-graph workflow engine for image generation."""
