"""Models that turn sentences into vectors; the library loads torch."""

from __future__ import annotations

from typing import Any


def sentence_model(name: str) -> Any:
    """Returns the model of Sentence Transformers of that name; it is fetched at its first use.

    Raises:
        ImportError: if the library is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        message = (
            "text vectors of a named model need sentence-transformers, got no such module; "
            'pip install "recgym[text]", or pass a model of your own'
        )
        raise ImportError(message) from error
    return SentenceTransformer(name)
