"""From a public corpus to fairseq data, step by step; `prepare.py` beside this folder is the door.

One noun per module. A corpus travels as numbered *parts* of a few thousand sentence pairs: every
step turns parts into parts, in worker processes, and a part that is on disk is never made again.
That one idea gives bounded memory, use of all cores and resuming.
"""
