"""Online knowledge distillation with tree-shaped networks, as a fairseq plugin.

One training run grows a tree of layers whose leaves teach each other. One leaf ships. Importing
this package changes nothing, unless fairseq has been imported before: that is how
``fairseq-train --user-dir tsa_mt`` loads it, and then it registers itself. A program of one's own
that imports this package first calls :func:`tsa_mt.plugin.register`.
"""

import sys

from tsa_mt.version import __version__

__all__ = ["__version__"]

if "fairseq" in sys.modules:
    from tsa_mt import plugin

    plugin.register()
