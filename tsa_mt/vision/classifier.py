"""``--arch tree_resnet32`` and its like: an image classifier that grows into a tree.

The plain network's children are the model's own children under their plain names, so that a state
dict without its ``branches.*`` entries is the plain network's. ``forward(images)`` runs the leader
alone; with ``branches=True`` every node of the tree runs once and the ``online_kd`` criterion gets
what it needs.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from tsa_mt.branches import BranchOutputs, Projection, leaf_projections, scale_gradient
from tsa_mt.tree import Node, Tree
from tsa_mt.vision.backbone import Backbone, Pieces, run_units, stacked_logits


class TreeNetwork(nn.Module):
    """The branches of a tree beside a plain network that is its leader.

    Args:
        backbone: What is grown into a tree.
        tree: Tree of the backbone's units.
        num_classes: Number of classes.
        shared_classifier: Whether all leaves use the leader's classifier.
        leader: The plain network's pieces, which stay registered elsewhere.

    Raises:
        ValueError: A branch that shares the leader's classifier has not as many features.
    """

    def __init__(
        self,
        backbone: Backbone,
        tree: Tree,
        num_classes: int,
        shared_classifier: bool,
        leader: Pieces,
    ):
        super().__init__()
        self.stems = nn.ModuleDict()
        self.nodes = nn.ModuleDict()
        self.tops = nn.ModuleDict()
        self.pools = nn.ModuleDict()
        self.classifiers = nn.ModuleDict()
        on_leader = {node.index for node in tree.leader}
        for leaf, path in enumerate(tree.paths[1:], start=1):
            donor = backbone.build(num_classes, backbone.stages_for(path[-1].start, path[-1].stop))
            if shared_classifier:
                _check_width(tree, leaf, donor, leader)
            for node in path:
                if node.index not in on_leader and str(node.index) not in self.nodes:
                    self._adopt(node, donor)
            self.tops[str(leaf)] = donor.top
            self.pools[str(leaf)] = donor.pool
            if not shared_classifier:
                self.classifiers[str(leaf)] = donor.classifier

    def drop(self) -> None:
        """Frees every branch; only the leader can run afterwards."""
        for part in (self.stems, self.nodes, self.tops, self.pools, self.classifiers):
            part.clear()

    def _adopt(self, node: Node, donor: Pieces) -> None:
        """Takes a node's units, and the stem if it starts at the image, out of a new network."""
        self.nodes[str(node.index)] = nn.ModuleList(donor.units[node.start : node.stop])
        if node.start == 0 and node.layers > 0:
            self.stems[str(node.index)] = donor.stem


def _check_width(tree: Tree, leaf: int, donor: Pieces, leader: Pieces) -> None:
    if donor.feature_dim != leader.feature_dim:
        raise ValueError(
            f"leaf {leaf} of tree '{tree}' has {donor.feature_dim} features and the leader has "
            f"{leader.feature_dim}, so that they cannot share a classifier; use "
            f"--branch-projection separate"
        )


class TreeRunner:
    """Runs a leader and its branches; holds no parameters itself.

    Args:
        leader: The plain network's pieces.
        branches: The other nodes.
        tree: The tree both belong to.

    Attributes:
        rescales: Whether what several leaves share gets the mean of their gradients instead of the
            sum.
        fuses_maps: Whether feature maps are handed to the objective beside the features.
    """

    def __init__(self, leader: Pieces, branches: TreeNetwork, tree: Tree):
        self.leader = leader
        self.branches = branches
        self.tree = tree
        self.rescales = False
        self.fuses_maps = True

    def leader_logits(self, images: Tensor) -> Tensor:
        """Logits ``(batch, classes)`` of the leader alone."""
        last = run_units(self.leader.units, self.leader.stem(images))
        features = self.leader.pool(self.leader.top(last))
        return stacked_logits(self.leader.classifier, features)

    def outputs(self, images: Tensor, more_views: Sequence[Tensor] = ()) -> BranchOutputs:
        """Features, maps and the trunk of every leaf.

        Each node runs once. Given an image per leaf, each runs once for every leaf above it, so
        that batch norms see the views one at a time. A view does not pass through what its leaf
        shares no layers with: the leader's stem sees other views only where its layers do.

        Args:
            images: ``(batch, 3, height, width)``, what the leader sees.
            more_views: The same for each of the other leaves; unset, all see the leader's.
        """
        if more_views:
            views = zip(self.tree.paths, [images, *more_views], strict=True)
            states = [self._states(view, self._from_the_image(path)) for path, view in views]
        else:
            states = [self._states(images, self.tree.nodes)] * len(self.tree.leaves)
        maps, features = [], []
        for number, leaf in enumerate(self.tree.leaves):
            top, pool = self._ends(number)
            maps.append(top(states[number][leaf.index]))
            features.append(pool(maps[-1]).float())
        return BranchOutputs(features, trunk=states[0][0], maps=maps if self.fuses_maps else None)

    def projections(self) -> List[Projection]:
        """The classifier of every leaf; shared ones are the same object."""
        own = self.branches.classifiers.items()
        return leaf_projections(
            projection_of(self.leader.classifier),
            {leaf: projection_of(classifier) for leaf, classifier in own},
            len(self.tree.leaves),
            self.rescales,
        )

    def parts(self, leaf: int) -> List[nn.Module]:
        """Everything that one leaf runs: stem, units, top, pooling, classifier."""
        on_leader = {node.index for node in self.tree.leader}
        stem, units = self.leader.stem, list[nn.Module]()
        for node in self.tree.paths[leaf]:
            if str(node.index) in self.branches.stems:
                stem = self.branches.stems[str(node.index)]
            units.extend(self._units(node, on_leader))
        own = self.branches.classifiers
        classifier = own[str(leaf)] if str(leaf) in own else self.leader.classifier
        return [stem, *units, *self._ends(leaf), classifier]

    def _units(self, node: Node, on_leader) -> Sequence[nn.Module]:
        if node.index in on_leader:
            return self.leader.units[node.start : node.stop]
        return list(self.branches.nodes[str(node.index)].children())

    def _ends(self, leaf: int) -> Tuple[nn.Module, nn.Module]:
        if leaf == 0:
            return self.leader.top, self.leader.pool
        return self.branches.tops[str(leaf)], self.branches.pools[str(leaf)]

    def _from_the_image(self, path: Sequence[Node]) -> Sequence[Node]:
        """The nodes of a path from the one on that reads the image."""
        own = [n for n, node in enumerate(path) if str(node.index) in self.branches.stems]
        return path[own[0] :] if own else path

    def _states(self, images: Tensor, nodes: Sequence[Node]) -> Dict[int, Tensor]:
        """The map at the end of each of these nodes, by node index; parents come first."""
        on_leader = {node.index for node in self.tree.leader}
        states: Dict[int, Tensor] = {}
        for node in nodes:
            state = self._start(node, images, states)
            states[node.index] = run_units(self._units(node, on_leader), state)
        return states

    def _start(self, node: Node, images: Tensor, states: Dict[int, Tensor]) -> Tensor:
        """What a node reads: its parent's map, or the image through the stem it owns."""
        if str(node.index) in self.branches.stems:
            return self.branches.stems[str(node.index)](images)
        if node.parent is None:
            return self.leader.stem(images)
        state = states[node.parent]
        branches = len(self.tree.nodes[node.parent].children)
        return scale_gradient(state, 1.0 / branches) if self.rescales else state


def projection_of(classifier: Any) -> Projection:
    """A classifier as a linear map of features, also where it is a 1x1 convolution."""
    weight = classifier.weight
    return Projection(weight if weight.ndim == 2 else weight.flatten(1), classifier.bias)


def branch_sources(
    leader: Pieces, branches: TreeNetwork, tree: Tree
) -> Dict[int, Optional[Tensor]]:
    """For every tensor of the branches, by identity, the leader's tensor it could start from.

    Units beyond the leader's depth repeat its last unit; where shapes differ there is none.
    """
    pairs: List[Tuple[nn.Module, nn.Module]] = []
    for index, units in branches.nodes.items():
        start = tree.nodes[int(index)].start
        for offset, unit in enumerate(units.children()):
            pairs.append((unit, leader.units[min(start + offset, tree.depth - 1)]))
    for own, source in (
        (branches.stems, leader.stem),
        (branches.tops, leader.top),
        (branches.pools, leader.pool),
        (branches.classifiers, leader.classifier),
    ):
        pairs.extend((module, source) for module in own.values())
    return {id(tensor): match for pair in pairs for tensor, match in _matches(*pair)}


def _matches(module: nn.Module, source: nn.Module):
    theirs = source.state_dict(keep_vars=True)
    for name, tensor in module.state_dict(keep_vars=True).items():
        match = theirs.get(name)
        fits = match is not None and match.shape == tensor.shape
        yield tensor, match if fits else None


def mean_logits(runner: TreeRunner, outputs: BranchOutputs) -> Tensor:
    """Mean of the leaves' logits: the ensemble whose accuracy the papers print."""
    logits = [
        torch.nn.functional.linear(features, projection.weight, projection.bias)
        for features, projection in zip(outputs.features, runner.projections())
    ]
    return torch.stack(logits).mean(0)
