"""The tree around a plain network: names, values, costs, starts and gradients."""

import copy

import pytest
import torch

from tsa_mt.branches import BranchOutputs
from tsa_mt.head import branch_head
from tsa_mt.objectives import OBJECTIVES, Context
from tsa_mt.objectives.consistency import inputs_of, passes_of
from tsa_mt.vision.augment import CIFAR10
from tsa_mt.vision.backbone import find_backbone
from tsa_mt.vision.checkpoint import TrainedClassifier, plain_network

OWN = ["resnet20", "vgg16", "vgg16_mlp", "mobilenetv3_large"]
BORROWED = ["wrn40_1", "densenet40_12", "mobilenetv2_cifar", "shufflenetv2", "resnet18_cifar"]
LONELY = [name for name, cls in OBJECTIVES.items() if not cls.needs_teacher]


def images(count=4, side=32, seed=1):
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def need(backbone):
    if backbone in BORROWED:
        pytest.importorskip("pytorchcv")


def step(model, batch=None, progress=0.5):
    """Loss and gradients of one batch."""
    batch = images() if batch is None else batch
    target = torch.arange(len(batch))
    outputs = model(**inputs_of(model.objective, {"images": batch}), branches=True)
    averaged = model.averaged and model.averaged.teach(model, {"images": batch})
    context = Context(progress)
    projections = model.projections * passes_of(model.objective)
    result = branch_head(model.objective, outputs, projections, target, context, teachers=averaged)
    result.total.backward()
    return result


@pytest.mark.parametrize("name", OWN + BORROWED)
def test_the_leader_is_the_plain_network_under_its_own_names(name, build):
    need(name)
    model = build(name, tree="tsa").eval()
    plain = find_backbone(name).plain(10).eval()
    own = {key: value for key, value in model.state_dict().items() if "branches." not in key}
    plain.load_state_dict(own, strict=True)
    batch = images(2, 64 if name == "shufflenetv2" else 32)
    with torch.no_grad():
        torch.testing.assert_close(model(batch), plain(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "tree"),
    [("resnet20", "tsa"), ("resnet20", "ladder"), ("resnet20", "peers"), ("vgg16_mlp", "12(1,2)")]
    + [("mobilenetv3_large", "tsa"), ("wrn40_1", "ladder"), ("resnet18_cifar", "4(4,8)")]
    + [("densenet40_12", "12(6,10)")],
)
def test_every_leaf_is_a_plain_network_of_its_own_length(name, tree, build):
    need(name)
    model = build(name, tree=tree).eval()
    trained = TrainedClassifier(model, [], 32, CIFAR10, 0)
    batch = images()
    with torch.no_grad():
        outputs = model(batch, branches=True)
        for leaf, projection in enumerate(model.runner.projections()):
            logits = torch.nn.functional.linear(
                outputs.features[leaf], projection.weight, projection.bias
            )
            plain = plain_network(trained, leaf)
            torch.testing.assert_close(logits, plain(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("branch", [0, 1, 2, 3])
def test_decode_branch_chooses_the_leaf_that_classifies(branch, build):
    torch.manual_seed(5)
    model = build(tree="tsa").eval()
    model.config.decode_branch = branch
    with torch.no_grad():
        outputs = model(images(), branches=True)
        projection = model.runner.projections()[branch]
        expected = outputs.features[branch] @ projection.weight.T + projection.bias
        torch.testing.assert_close(model(images()), expected)


def test_decode_branch_minus_one_is_the_mean_of_the_leaves_logits(build):
    model = build(tree="fork").eval()
    with torch.no_grad():
        each = []
        for branch in range(4):
            model.config.decode_branch = branch
            each.append(model(images()))
        model.config.decode_branch = -1
        torch.testing.assert_close(model(images()), torch.stack(each).mean(0))


def test_a_leaf_that_does_not_exist_cannot_classify(build):
    with pytest.raises(ValueError, match="decode_branch is 4, but tree .* has leaves 0 to 3"):
        build(tree="tsa", decode_branch=4)


def test_everything_but_the_leader_lives_under_branches_by_node_and_leaf(build):
    names = {key for key in build(tree="tsa").state_dict() if key.startswith("branches.")}
    nodes = {key.split(".")[2] for key in names if key.startswith("branches.nodes.")}
    leaves = {key.split(".")[2] for key in names if key.startswith("branches.classifiers.")}
    assert nodes == {"3", "4", "5", "6"}  # preorder; 0, 1 and 2 are the leader's
    assert leaves == {"1", "2", "3"}


def test_every_node_runs_once_for_all_its_leaves(build):
    model = build(tree="tsa")
    calls = []
    for block in [*model.layer1, *model.layer2, *model.layer3]:
        block.register_forward_hook(lambda *_: calls.append("leader"))
    for units in model.branches.nodes.values():
        for unit in units:
            unit.register_forward_hook(lambda *_: calls.append("branch"))
    model(images(), branches=True)
    assert calls.count("leader") == 9
    assert calls.count("branch") == 3 * 4  # four more nodes of three blocks
    calls.clear()
    model(images())
    assert calls == ["leader"] * 9


def plain_after_a_step(backbone, model, batch):
    """The plain network with the leader's weights after it has seen a batch, trained on it."""
    plain = find_backbone(backbone).plain(10).train()
    leader = {k: v for k, v in model.state_dict().items() if "branches." not in k}
    plain.load_state_dict(leader, strict=True)
    loss = torch.nn.functional.cross_entropy(plain(batch), torch.arange(len(batch)))
    torch.optim.SGD(plain.parameters(), lr=0.1).step(lambda: (loss.backward(), loss)[1])
    return plain.state_dict()


@pytest.mark.parametrize("own_augmentation", ["yes", "no"])
@pytest.mark.parametrize("notation", ["0(9,9,9)", "0(9,0(9,9))", "0(0(9,9),9)"])
def test_without_shared_layers_a_step_leaves_the_leader_as_it_leaves_the_plain_network(
    notation, own_augmentation, build
):
    options = {"kd_objective": "independent", "branch_projection": "separate"}
    model = build(tree=notation, **options).train()
    batch = images()
    expected = plain_after_a_step("resnet20", model, batch)
    views = [images(seed=seed) for seed in (2, 3)] if own_augmentation == "yes" else []
    stems = []
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda *_: stems.append(1))
    outputs = model(batch, more_views=views, branches=True)
    logits = [
        torch.nn.functional.linear(feature, projection.weight, projection.bias)
        for feature, projection in zip(outputs.features, model.projections, strict=True)
    ]
    target = torch.arange(len(batch))
    loss = sum(torch.nn.functional.cross_entropy(leaf, target) for leaf in logits)
    torch.optim.SGD(model.parameters(), lr=0.1).step(lambda: (loss.backward(), loss)[1])
    assert stems == [1]
    for name, tensor in expected.items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-6, atol=1e-6, msg=name)


def test_whole_networks_as_peers_share_nothing_not_even_the_stem(build):
    model = build(tree="peers")
    outputs = model(images(), branches=True)
    loss = outputs.features[2].sum()
    loss.backward()
    reached = {n.split(".")[2] for n, p in model.named_parameters() if p.grad is not None}
    own = [n for n, p in model.named_parameters() if p.grad is not None and "branches" not in n]
    assert not own
    assert "branches.stems.3.0.weight" in dict(model.named_parameters())
    assert reached == {"3"}


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("resnet20", name) for name in LONELY]
    + [("mobilenetv3_large", name) for name in ("ahbf", "one", "okddip")],
)
def test_every_objective_gives_every_parameter_a_gradient_at_the_first_step(backbone, name, build):
    model = build(backbone, kd_objective=name).train()
    model.set_num_updates(0)
    result = step(model, progress=0.0)
    assert torch.isfinite(result.total)
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_an_averaged_network_may_classify_with_a_convolution(build):
    pytest.importorskip("pytorchcv")
    model = build("mobilenetv2_cifar", kd_objective="pcl", tree="16(1,1)").eval()
    model.set_num_updates(0)
    with torch.no_grad():
        outputs = model(images(), branches=True)
    taught = model.averaged.teach(model, {"images": images()})
    for leaf in range(2):
        torch.testing.assert_close(taught.features[leaf], outputs.features[leaf])
        weight = model.projections[leaf].weight.detach()
        torch.testing.assert_close(taught.projections[leaf].weight, weight)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tree", ["3(3(3,3),6)", "0(9,9)"])
def test_every_leaf_sees_its_own_view_as_if_it_were_alone(tree, training, build):
    model = build(kd_objective="pcl", tree=tree).train(training)
    views = [images(seed=seed) for seed in range(model.views)]
    together = model(views[0], branches=True, more_views=views[1:])
    for leaf, view in enumerate(views):
        alone = model(view, branches=True).features[leaf]
        torch.testing.assert_close(together.features[leaf], alone)
    joined = torch.cat(together.features[: len(views)], dim=-1)
    assert torch.equal(together.features[-1], joined)  # the teacher reads all of them


def test_an_averaged_leaf_sees_the_view_of_its_leaf(build):
    model = build(kd_objective="pcl", tree="6(3,3)").eval()
    views = [images(seed=1), images(seed=2)]
    with torch.no_grad():
        outputs = model(views[0], branches=True, more_views=views[1:])
    taught = model.averaged.teach(model, {"images": views[0], "more_views": views[1:]})
    for leaf in range(2):  # nothing was averaged yet: it is the model itself
        torch.testing.assert_close(taught.features[leaf], outputs.features[leaf])


def test_views_of_their_own_reach_both_dropout_passes(build):
    model = build("vgg16_mlp", kd_objective="pcl", tree="12(1,1)", kd_rdrop_weight=1.0).train()
    net_input = {"images": images(seed=1), "more_views": [images(seed=2)]}
    outputs = model(**inputs_of(model.objective, net_input), branches=True)
    first, second = outputs.features[:2], outputs.features[3:5]
    assert [f.shape for f in first] == [f.shape for f in second]
    assert not torch.equal(first[1], second[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_pcl_and_kdcl_ask_for_a_view_per_leaf(name, build):
    several = name == "pcl" or name.startswith("kdcl")
    tree = "chain" if OBJECTIVES[name].needs_bridge else "6(3,3)"
    assert build(kd_objective=name, tree=tree).views == (2 if several else 1)
    if several:
        assert build(kd_objective=name, tree="chain").views == 1
        same = build(kd_objective=name, tree=tree, kd_own_augmentation="no")
        assert same.views == 1


def test_two_dropout_passes_have_maps_of_their_own(build):
    model = build("vgg16_mlp", kd_objective="ahbf", tree="12(1,1)", kd_rdrop_weight=1.0).train()
    result = step(model)
    assert torch.isfinite(result.total)
    assert result.terms["rdrop"] > 0


def test_ahbf_fuses_maps_as_its_published_module_does(build):
    model = build("resnet20", kd_objective="ahbf", tree="6(3,7)").train()
    objective = model.objective
    with torch.no_grad():
        outputs = model.runner.outputs(images())
        gates = objective.fuse(outputs).gates["teachers"]  # batch x 1 x 2
        merged = torch.cat([outputs.maps[0], outputs.maps[1]], dim=1)
        merge, gate = objective.merges[0], objective.gates[0]
        kernel, bias = merge.convolution.weight, merge.convolution.bias
        fused = torch.nn.functional.batch_norm(
            torch.nn.functional.conv2d(merged, kernel, bias),
            None,
            None,
            merge.norm.weight,
            merge.norm.bias,
            training=True,
        )
        pooled = fused.mean((2, 3)) @ gate.linear.weight.T + gate.linear.bias
        scores = torch.nn.functional.batch_norm(pooled, None, None, training=True).relu()
    torch.testing.assert_close(gates[:, 0], scores.softmax(-1), atol=1e-5, rtol=1e-5)
    assert kernel.shape == (64, 128, 1, 1)


def test_cl_ilr_divides_the_gradient_of_a_fork_by_its_branches(build):
    torch.manual_seed(2)
    model = build(kd_objective="cl_ilr", tree="fork").train()
    twin = copy.deepcopy(model)
    twin.runner.rescales = False
    step(model), step(twin)
    shared, whole = model.layer1[0].conv1.weight.grad, twin.layer1[0].conv1.weight.grad
    torch.testing.assert_close(4 * shared, whole, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(model.layer3[0].conv1.weight.grad, twin.layer3[0].conv1.weight.grad)


def test_cl_ilr_divides_the_gradient_of_a_shared_classifier_by_its_leaves(build):
    torch.manual_seed(2)
    model = build(kd_objective="cl_ilr", tree="fork", branch_projection="shared").train()
    twin = copy.deepcopy(model)
    twin.runner.rescales = False
    step(model), step(twin)
    for name in ("weight", "bias"):
        ours, whole = (getattr(each.fc, name).grad for each in (model, twin))
        torch.testing.assert_close(4 * ours, whole, atol=1e-5, rtol=1e-4)


def test_a_deep_copy_is_a_model_of_its_own(build):
    model = build(tree="tsa").eval()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model(images())
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(model(images()), before)
        assert twin(images()).abs().sum() == 0


@pytest.mark.parametrize("start", ["fresh", "copy"])
def test_a_plain_networks_weights_load_and_the_branches_start_as_asked(start, build):
    model = build(tree="6(3,5)", branch_init=start).eval()
    fresh = {key: value.clone() for key, value in model.state_dict().items()}
    plain = find_backbone("resnet20").plain(10)
    model.load_state_dict(plain.state_dict())
    own = model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in plain.state_dict().items())
    kernel = "branches.nodes.2.0.conv1.weight"
    expected = fresh[kernel] if start == "fresh" else plain.layer3[0].conv1.weight
    assert torch.equal(own[kernel], expected)
    if start == "copy":
        extra = own["branches.nodes.2.4.conv1.weight"]
        assert torch.equal(extra, plain.layer3[2].conv1.weight)  # beyond the leader: its last block
        assert torch.equal(own["branches.classifiers.1.bias"], plain.fc.bias)


def test_weights_for_another_number_of_classes_are_refused(build):
    weights = find_backbone("resnet20").plain(7).state_dict()
    with pytest.raises(ValueError, match="tells 7 classes apart, but the data have 10"):
        build(tree="tsa").load_state_dict(weights)


def test_leaves_may_share_the_leaders_classifier(build):
    model = build(tree="tsa", branch_projection="shared")
    assert not [key for key in model.state_dict() if "classifiers" in key]
    assert len({id(projection.weight) for projection in model.projections}) == 1


def test_longer_branches_of_a_densenet_are_wider_and_ahbf_fuses_them(build):
    pytest.importorskip("pytorchcv")
    model = build("densenet40_12", tree="ladder", kd_objective="ahbf").train()
    assert str(model.tree) == "12(6,10,14,18)"
    assert [p.weight.shape[1] for p in model.projections] == [132, 180, 228, 276]
    kernels = [merge.convolution.weight.shape[:2] for merge in model.objective.merges]
    assert kernels == [(180, 132 + 180), (228, 180 + 228), (276, 228 + 276)]
    step(model, images(2))
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branch_projection": "shared"}, "leaf 1 .* has 180 features and the leader has 132, so"),
        ({"kd_objective": "okddip"}, "'okddip' fuses features of one width, .* have 132, 180; "),
    ],
)
def test_leaves_of_several_widths_are_refused_where_one_is_needed(options, message, build):
    pytest.importorskip("pytorchcv")
    with pytest.raises(ValueError, match=message):
        build("densenet40_12", tree="12(6,10)", **options)


def test_bf16_autocast_keeps_parameters_statistics_and_features_in_float32(build):
    model = build(tree="fork", bf16_autocast=True, channels_last=True).train()
    seen = []
    model.layer1[0].conv1.register_forward_hook(lambda layer, x, y: seen.append(y))
    outputs = model(images(), branches=True)
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert isinstance(outputs, BranchOutputs)
    assert {feature.dtype for feature in outputs.features} == {torch.float32}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}
    assert model.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_bf16_autocast_and_channels_last_change_logits_by_rounding_only(build):
    torch.manual_seed(3)
    model = build(tree="chain", kd_objective="independent").eval()
    with torch.no_grad():
        expected = model(images())
        model.config.channels_last = True
        torch.testing.assert_close(model(images()), expected, atol=1e-4, rtol=1e-4)
        model.config.bf16_autocast = True
        assert (model(images()) - expected).abs().max() < 0.1 * expected.abs().max()
