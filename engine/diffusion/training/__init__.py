"""The project's own training code: one loop, its objectives, its state, and the built-in model."""
