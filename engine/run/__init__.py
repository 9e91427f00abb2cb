"""Running prompts: queue, worker, executor, caches, assets, events; no torch."""
