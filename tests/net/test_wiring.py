"""The wiring is the paper's Figure 7, or the released code's, by hand."""

from net.wiring import Edge, Node, edges, wiring_of


def test_the_first_cell():
    released, figure = wiring_of(1), wiring_of(1, "figure")
    assert released.root == figure.root == 0  # E5
    assert released.nodes == (Node(1, ("root",)), Node(2, ("before", "level")), Node(3, ("before", "level")))
    assert figure.nodes == (Node(1, ("root",)), Node(2, ("before", "root")), Node(3, ("before", "root")))
    assert (released.root_is_summed, figure.root_is_summed) == (False, True)


def test_the_later_cells_start_from_the_previous_cell():
    for cell in (2, 3):
        wiring = wiring_of(cell)
        assert wiring.root is None and not wiring.root_is_summed
        assert [node.level for node in wiring.nodes] == [0, 1, 2, 3]
        assert [node.reads for node in wiring.nodes] == [("root",), *[("before", "level")] * 3]
    assert [wiring_of(cell).inner_edges for cell in (1, 2, 3)] == [5, 7, 7]


def test_the_edges_in_order():
    found = list(edges())
    assert len(found) == len(set(found)) == 31
    assert found[:5] == [*(Edge(1, "outer", number) for number in range(4)), Edge(1, "inner", 0)]
    assert found[9] == Edge(2, "outer", 0) and found[-1] == Edge(3, "inner", 6)
    assert [str(edge) for edge in (found[0], found[4], found[-1])] == [
        "cell 1 outer E5",
        "cell 1 inner 1",
        "cell 3 inner 7",
    ]
