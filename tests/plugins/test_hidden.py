"""What a pack node learns about the prompt it runs in."""

import pytest

from engine.plugins.hidden import DynamicPrompt

PROMPT: dict[str, None] = dict.fromkeys(("10", "10:3", "10.0.4", "10.0.4.1.x", "7"))


@pytest.mark.parametrize(
    ("node", "parent", "real"),
    [
        ("7", None, "7"),
        ("10:3", "10", "10"),
        ("10.0.4", "10", "10"),
        ("10.0.4.1.x", "10.0.4", "10"),
    ],
)
def test_expanded_nodes_know_where_they_came_from(node: str, parent: str | None, real: str):
    prompt = DynamicPrompt(PROMPT)
    assert prompt.get_parent_node_id(node) == parent
    assert prompt.get_real_node_id(node) == real
