"""The sub-graphs that nodes build."""

from engine.api.graph_builder import GraphBuilder, is_link


def test_builder_gives_the_api_form() -> None:
    graph = GraphBuilder()
    first = graph.node("A", x=1, y=None)
    second = graph.node("B", "named", source=first.out(0))
    assert graph.node("B", "named") is second is graph.lookup_node("named")
    second.set_override_display_id("7")
    assert graph.finalize() == {
        "1": {"class_type": "A", "inputs": {"x": 1}},
        "named": {
            "class_type": "B",
            "inputs": {"source": ["1", 0]},
            "override_display_id": "7",
        },
    }


def test_outputs_are_replaced_and_nodes_removed() -> None:
    graph = GraphBuilder("p.")
    first = graph.node("A")
    second = graph.node("B", a=first.out(0), b=first.out(1), c=first.out(0))
    graph.replace_node_output(first.id, 0, ["9", 2])
    graph.replace_node_output(first.id, 1, None)
    graph.remove_node(first.id)
    assert graph.finalize() == {
        "p.2": {"class_type": "B", "inputs": {"a": ["9", 2], "c": ["9", 2]}}
    }
    assert second.get_input("b") is None


def test_links_are_told_from_lists() -> None:
    assert is_link(["1", 0])
    assert not any(is_link(v) for v in (["1", "0"], [1, 0], ["1"], "10", ["1", True], None))
