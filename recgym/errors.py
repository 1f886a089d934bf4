"""The exceptions recgym raises on purpose; each is also the built-in error a caller would expect.

A message reads ``<what must hold>, got <what was given> (<how many / which>); <what to do>``.
"""


class RecgymError(Exception):
    """Root of all errors raised on purpose by recgym."""


class DataError(RecgymError, ValueError):
    """A log, catalog or file holds something it must not hold."""


class OptionError(DataError, TypeError):
    """An option that does not exist was given; a `TypeError` too, like any unexpected keyword argument."""


class MissingDataError(RecgymError, FileNotFoundError):
    """A data set is not on this machine; the message says where it may be put."""


class HashMismatchError(RecgymError, OSError):
    """A file is not the one its name and recorded hash promise."""


class StoreError(RecgymError, OSError):
    """A cache or checkpoint cannot be written, or was refused on reading."""


class DivergedError(RecgymError, ArithmeticError):
    """A training came to losses or weights that are no finite numbers."""


class ActionError(RecgymError, ValueError):
    """An action has the wrong shape, type or value."""
