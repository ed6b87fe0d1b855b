"""Sequence-level distillation: the training set as the teacher would translate it.

Kim and Rush, "Sequence-Level Knowledge Distillation" (EMNLP 2016), train the student on the
teacher's beam search output. That takes no special loss, only a second training set, which
``tsa-mt forward-translate`` makes: `corpus` reads the binarised one, `translator` decodes it in
chunks, `plan` keeps the finished chunks on disk, and `assembly` binarises them again.
"""
