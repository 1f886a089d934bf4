"""Writes `docs/faults.md` from `docs/faults.csv`."""

import csv
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
TEXT = """# What became of files under faults

Written by `RECGYM_FAULTS=seeded make test-faults`, the part that CI runs, or by `=full`, which tries all.
Where fewer than 240 bits, 50 kills,
1,000 files or 24 failing writes of a kind stand here, only that part was run. *Wrong*: a writer reported success and
the file says something else, or a reader gave other values without a word. *Raw*: an error of a library came through.
`results.csv` is a table that people edit: it has no checksums.

- **write errors**: a preloaded library lets the n-th write, or all from it on, fail as a full disk does (`fwrite`,
  `fclose` and `fsync` too); afterwards the old content or the new one must be there.
- **flipped bits**: one bit of one file flipped; reading gives what was written, or a refusal.
- **mutated files**: cut, empty, foreign, shuffled or made by hand, mostly with a manifest that fits; nothing but our
  own errors may come.
- **kills**: `kill -9` at a random moment of a write over an older one; old or new is there, and no
  litter after the next.

"""


def main() -> None:
    """Writes the page."""
    with (DOCS / "faults.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    lines = [f"| {' | '.join(head)} |", "|---|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    sums = {}
    for test, _, *numbers in rows:
        sums[test] = [a + int(b) for a, b in zip(sums.get(test, [0, 0, 0]), numbers, strict=True)]
    lines += [f"| **{test}** | all | {' | '.join(map(str, numbers))} |" for test, numbers in sums.items()]
    (DOCS / "faults.md").write_text(TEXT + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
