"""Shipping a model: averaging checkpoints, taking one branch out of a tree, other formats.

The way of a checkpoint: `checkpoint` reads it safely, `leader` makes a plain Transformer of one of
its branches, `companions` finds the dictionaries and the subword model that belong to it, and
`fairseq` or `ctranslate2` write a folder that needs nothing of this project any more.
"""
