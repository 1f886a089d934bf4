"""Item vectors: fitted to the events of a log, made of features or text, or loaded from a file.

Each way is one file and one function that returns a `Catalog` in the log's item order.
"""

from recgym.embeddings.als import als
from recgym.embeddings.dssm import dssm
from recgym.embeddings.features import FeatureCode, features
from recgym.embeddings.svd import svd
from recgym.embeddings.text import text
from recgym.embeddings.vectors import load_vectors, save_vectors

__all__ = ["FeatureCode", "als", "dssm", "features", "load_vectors", "save_vectors", "svd", "text"]
