"""Node types: registry, pack loader, and adapters for the conventions of this ecosystem."""
