"""Online knowledge distillation with tree-shaped networks, as a fairseq plugin.

One training run grows a tree of layers whose leaves teach each other; one leaf ships. Importing
this package registers the plugin wherever fairseq is installed, so that ``--user-dir`` pointing
here is all that ``fairseq-train`` needs. Without fairseq the trees, the objectives and the head
work on their own.
"""

import importlib.util
import warnings

__version__ = "0.1.0"

if importlib.util.find_spec("fairseq") is not None:
    from tsa_mt import compat

    try:
        compat.apply()  # before anything of ours that imports fairseq
    except compat.BrokenFairseqError as error:
        warnings.warn(f"the plugin is not registered: {error}; see tsa-mt doctor", stacklevel=2)
    else:
        from tsa_mt import criterion, pairing, translation, vision  # noqa: F401
        from tsa_mt.evaluate import recording

        pairing.install()
        recording.install()
