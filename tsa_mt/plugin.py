"""What this package adds to fairseq: fixes, a criterion, models, tasks and the record of a run.

``--user-dir tsa_mt`` does it. So do the commands that need fairseq. A program of one's own that
does not go through ``--user-dir`` does it once, before or after its import of fairseq::

    from tsa_mt import plugin

    plugin.register()
"""

from tsa_mt import compat, last_words


def register() -> None:
    """Mend fairseq and register everything with it. A second call changes nothing.

    Raises:
        BrokenFairseqError: fairseq is missing or cannot be imported.
    """
    compat.apply()  # before anything of ours that imports fairseq
    from tsa_mt import batches, finite, saving, stopping
    from tsa_mt.evaluate import recording

    last_words.install()
    batches.install()
    saving.install()
    finite.install()
    stopping.install()
    recording.install()
    from tsa_mt import criterion, dictionaries, pairing, translation, vision  # noqa: F401

    dictionaries.install()
    pairing.install()
