"""Passes over a log in batches: of frames, of their vectors, or of whole sequences; seeded, sharded, resumable."""

from recgym.batches.frame_batches import FrameBatches, histories
from recgym.batches.sequence_batches import SequenceBatch, SequenceBatches
from recgym.batches.vector_batches import FlatBatch, VectorBatch, VectorBatches

__all__ = ["FlatBatch", "FrameBatches", "SequenceBatch", "SequenceBatches", "VectorBatch", "VectorBatches", "histories"]
