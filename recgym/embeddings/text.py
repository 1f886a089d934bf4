"""Item vectors made of text, such as titles or descriptions, by a sentence-embedding model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from recgym.errors import DataError

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


def text(texts: Iterable[Any], model: str | Callable[[list[str]], Any] | Any = MODEL, **options: Any) -> np.ndarray:
    """Returns one vector per text (n, d) float32: give them to `load_vectors`, or to `catalog.extend` for new items.

    Args:
        texts: Titles, descriptions ... one per item, in index order: `log.titles`.
        model: The name of a model of Sentence Transformers (needs the extra `recgym[text]`, which fetches the model at
            its first use), anything with `encode(texts)`, or a function of a list of texts.
        **options: Further arguments of the call, such as `batch_size=64`.

    Raises:
        ImportError: if a model is named and sentence-transformers is not installed.
        DataError: if the model does not return one finite vector per text.

    Example:
        >>> lengths = lambda texts: [[len(text), text.count("a")] for text in texts]
        >>> text(["banana", "fig"], lengths).tolist()
        [[6.0, 3.0], [3.0, 0.0]]
    """
    asked = [str(one) for one in texts]
    if isinstance(model, str):
        from recgym.embeddings.sentences import sentence_model

        model = sentence_model(model)
    encode = model.encode if hasattr(model, "encode") else model
    found = encode(asked, **options)
    if hasattr(found, "detach"):  # a torch tensor, perhaps on a GPU or in half precision
        found = found.detach().cpu().float().numpy()
    vectors = np.asarray(found, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(asked) or not np.isfinite(vectors).all():
        raise DataError(
            f"a text model must return one finite vector per text, ({len(asked)}, d), got {vectors.shape}; mend it"
        )
    return vectors
