"""What models hand to the head: rows without padding, and projections."""

import torch

from tsa_mt.branches import BranchOutputs, Projection, TeacherOutputs, group_by_projection


def test_rows_keeps_the_same_positions_of_features_and_gates_in_order():
    features = [torch.arange(12.0).view(2, 3, 2) + 100 * leaf for leaf in range(2)]
    gates = {"gate": torch.arange(6.0).view(2, 3)}
    keep = torch.tensor([[True, False, True], [False, False, True]])
    rows = BranchOutputs(features, gates).rows(keep)
    assert rows.features[0].tolist() == [[0.0, 1.0], [4.0, 5.0], [10.0, 11.0]]
    assert torch.equal(rows.features[1], rows.features[0] + 100)
    assert rows.gates["gate"].tolist() == [0.0, 2.0, 5.0]


def test_rows_of_images_are_the_images():
    images = torch.randn(3, 2)
    rows = BranchOutputs([images]).rows(torch.ones(3, dtype=torch.bool))
    assert torch.equal(rows.features[0], images)


def test_rows_of_nothing_but_padding_are_none():
    rows = BranchOutputs([torch.randn(2, 3, 4)], {"g": torch.randn(2, 3, 5)}).rows(
        torch.zeros(2, 3, dtype=torch.bool)
    )
    assert rows.features[0].shape == (0, 4)
    assert rows.gates["g"].shape == (0, 5)


def test_gradients_flow_back_to_the_kept_positions_only():
    features = torch.ones(2, 2, 3, requires_grad=True)
    keep = torch.tensor([[True, False], [False, True]])
    BranchOutputs([features]).rows(keep).features[0].sum().backward()
    assert features.grad.sum(-1).tolist() == [[3.0, 0.0], [0.0, 3.0]]


def test_teachers_keep_the_same_rows_and_their_projections():
    projections = [Projection(torch.randn(5, 4))]
    teachers = TeacherOutputs([torch.arange(6.0).view(2, 3, 1)], projections)
    rows = teachers.rows(torch.tensor([[False, True, False], [True, False, False]]))
    assert rows.features[0].flatten().tolist() == [1.0, 3.0]
    assert rows.projections is projections


def test_projections_of_the_very_same_parameters_are_grouped():
    shared, own, bias = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5)
    projections = [
        Projection(shared),
        Projection(own),
        Projection(shared),
        Projection(shared, bias),
        Projection(shared.clone()),
    ]
    groups = group_by_projection(projections)
    assert [leaves for _, leaves in groups] == [[0, 2], [1], [3], [4]]
    assert groups[0][0] is projections[0]


def test_a_projection_is_cast_and_detached_with_its_bias():
    weight = torch.randn(5, 4, requires_grad=True)
    bias = torch.randn(5, requires_grad=True)
    cast = Projection(weight, bias).to(torch.float64)
    assert cast.weight.dtype == cast.bias.dtype == torch.float64
    assert cast.weight.requires_grad
    assert Projection(weight).to(torch.float64).bias is None
    frozen = Projection(weight, bias).detach()
    assert not frozen.weight.requires_grad and not frozen.bias.requires_grad
    assert Projection(weight).detach().bias is None


def test_gates_and_leaves_are_added_to_a_copy():
    outputs = BranchOutputs([torch.zeros(2, 3)], trunk=torch.ones(2, 3))
    more = outputs.with_gate("first", torch.ones(2, 1)).with_gate("second", torch.ones(2, 2))
    more = more.with_leaf(torch.ones(2, 6))
    assert list(more.gates) == ["first", "second"] and len(more.features) == 2
    assert not outputs.gates and len(outputs.features) == 1 and more.trunk is outputs.trunk
