"""Shapes world: captioned pictures rendered by the project, and a checker that grades pictures."""
