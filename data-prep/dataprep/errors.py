"""The one exception that data preparation raises about its inputs and its recipe."""


class DataError(ValueError):
    """Something a person can put right; the message is one sentence that says how."""
