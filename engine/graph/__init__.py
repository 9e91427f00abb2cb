"""The graph as data: prompts, workflows, checks, keys and plans; no torch, no I/O."""
