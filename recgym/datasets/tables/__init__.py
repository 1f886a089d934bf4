"""Tables of events read in blocks, in memory or past it, with every cell right or refused."""
