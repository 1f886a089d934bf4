"""`-Seq-v1`: the environment of `-Frame-v0`, seen as a history of variable length, for encoders of sequences.

A session opens with the user's first event (`min_history=1`, `opening="least"`) and the history grows with every
answer, up to `frame_size=50` events, of which any number may be asked for; the oldest give way. `observation` is
`"sequence"` (item indices, padded on the left with n, rewards, and the length) or `"sequence_embeddings"` (the item
vectors in place of indices). Users, rewards, ends and options are those of `-Frame-v0`.

Unlike the sequential environment of RecNN (release 0.2), sessions are not cut to the shortest user of a batch, and no
step is dropped.
"""

from recgym.worlds.frame import FURTHER, world

__all__ = ["FURTHER", "world"]
