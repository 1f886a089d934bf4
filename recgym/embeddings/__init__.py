"""Item vectors: fitted to the events of a log, or loaded from a file.

Each way is one file and one function that returns a `Catalog` in the log's item order.
"""

from recgym.embeddings.als import als
from recgym.embeddings.svd import svd
from recgym.embeddings.vectors import load_vectors

__all__ = ["als", "load_vectors", "svd"]
