"""Images: tree-shaped classifiers, CIFAR and ImageNet data, and the task that trains them."""
