"""Two processes train one tree."""

import socket

import torch
from image_data import FLAGS


def test_two_processes_share_the_images_and_broadcast_batchnorm_statistics(
    cifar, python, root, tmp_path
):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [*FLAGS, "--kd-objective", "ahbf", "--tree", "8(1,1)", "--kd-rampup-updates", 4]
    flags += ["--ddp-backend", "pytorch_ddp", "--broadcast-buffers", "--max-epoch", 1]
    python(
        *("-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"),
        *("-m", "fairseq_cli.train", cifar.folder, "--user-dir", root / "tsa_mt"),
        *("--arch", "tree_resnet20", "--save-dir", tmp_path, *flags),
    )
    checkpoint = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)
    assert checkpoint["optimizer_history"][-1]["num_updates"] == 3  # 80 images, twice 16 at a time
    assert all(
        torch.isfinite(value).all() for name, value in checkpoint["model"].items() if "norm" in name
    )
    assert checkpoint["model"]["bn1.num_batches_tracked"] == 3
