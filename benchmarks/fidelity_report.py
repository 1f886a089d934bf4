"""What docs/benchmarks.md says of learned users' fidelity: what each way of fitting gives on Coat, and MovieLens-1M."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.results import Row

NAME = "fidelity"
_COAT = ("AUC", "AUC within users", "calibration error of liking", "Spearman", "value error", "size of the value error")
_SHARES = ("value error", "size of the value error")
_MOVIES = {  # measure -> what to call it
    "RMSE of the reward": "RMSE (stars)",
    "calibration error of the reward": "calibration error (stars)",
    "mean predicted - mean observed": "predicted less observed (stars)",
    "AUC": "AUC of liking",
    "AUC within users": "AUC within users",
    "judge's accuracy, real or simulated": "judge's accuracy (0.5: fooled)",
}


def present(folder: Path) -> list[str]:
    """Returns the name of the suite if it has rows."""
    return [NAME] if (folder / f"{NAME}.csv").exists() else []


def block(name: str, rows: Sequence[Row]) -> str:
    """Returns what the page says of the suite: tables, circumstances and command."""
    named = dict.fromkeys(row["commit"] + (" with changes" if row["dirty"] == "yes" else "") for row in rows)
    made = f"Made by `python -m benchmarks.run --suite {name}`, then `python -m benchmarks.report`."
    return "\n".join([tables(rows), "", f"Commit {' and '.join(named)}. {made}"])


def tables(rows: Sequence[Row]) -> str:
    """Returns all tables with what stands above them."""
    parts = []
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        parts += [*(_coat(own) if data == "coat" else _against_simpler(own)), ""]
    return "\n".join(parts).rstrip()


def _coat(rows: Sequence[Row]) -> list[str]:
    head = ["fitted by", *_COAT, "validation"]
    lines = [
        f"Coat: {rows[0]['protocol']}. Means over {rows[0]['fits']} fits; brackets span the fits' 95 % intervals over "
        f"{rows[0]['n_users']} people. Value errors are relative, above 0 too high. `validation` is the error on "
        f"held-back chosen coats weighted by 1 / propensity: all that may choose.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        own = {row["measure"]: row for row in rows if row["model"] == model}
        cells = [_cell(own[measure], share=measure in _SHARES) for measure in _COAT]
        validation = own[_COAT[0]]["validation"]
        lines.append(f"| {model} | {' | '.join(cells)} | {f'{float(validation):.4f}' if validation else ''} |")
    return lines


def _against_simpler(rows: Sequence[Row]) -> list[str]:
    models = [row["model"] for row in rows if row["measure"] == "RMSE of the reward"]
    cells = {(row["model"], row["measure"]): row for row in rows}
    total = cells["mf", "seconds of fit and report"]
    first = rows[0]
    lines = [
        f"{first['data']}: fitted on everything before, judged on the {first['protocol']}, "
        f"{int(first['n_events']):,} events of {int(first['n_users']):,} users; 95 % intervals over users. "
        f"`mf` was fitted in {float(first['seconds']):.0f} s; with the report {float(total['value']):.0f} s.",
        "",
        f"| measure | {' | '.join(models)} |",
        "|---" * (1 + len(models)) + "|",
    ]
    for measure, name in _MOVIES.items():
        own = [_cell(cells.get((model, measure))) for model in models]
        lines.append(f"| {name} | {' | '.join(own)} |")
    gains = {row["measure"]: row for row in rows if row["measure"].startswith("squared error less")}
    said = [f"{_cell(row, 4)} against {measure.rpartition(' ')[2]}" for measure, row in gains.items()]
    return [*lines, "", f"Squared error of `mf` less that of the other, paired by user, in rewards: {'; '.join(said)}."]


def _cell(row: Row | None, digits: int = 3, *, share: bool = False) -> str:
    if row is None:
        return ""
    form = "{:+.1%}" if share else f"{{:.{digits}f}}"
    value, *ends = (form.format(float(row[name])) for name in ("value", "low", "high") if row[name])
    return f"{value} [{', '.join(ends)}]" if ends else value
