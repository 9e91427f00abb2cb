"""The declarative node form (`io.Schema`, `io.ComfyNode`) that packs import as `comfy_api.latest`.

Only values that describe nodes; `engine.plugins.schema_nodes` makes node types of them.
"""
