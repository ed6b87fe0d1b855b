"""What a training costs, before anything is run: parameters, operations and memory.

Model, criterion and optimizer are the real ones; only their tensors have no contents. One update
of one batch runs through them while a meter counts, so that no formula here can go out of date.
"""
