"""The benchmark of two processes beside one gives its rows."""

import pytest

from benchmarks import speed, speed_processes


@pytest.mark.slow
def test_trainings_and_preparing_have_a_row_of_one_of_two_and_of_their_ratio(monkeypatch):
    monkeypatch.setattr(speed_processes, "LEARNERS", {"TD3": speed_processes.LEARNERS["TD3"]})
    monkeypatch.setattr(speed_processes, "N_PARTS", 3)
    rows = speed_processes.rows([4000], quick=True)
    values = {(row["agent"], row["metric"]): row["value"] for row in rows}
    assert len(values) == len(rows) == 8 and all(value > 0 for value in values.values())
    one, two = (values["TD3", f"rows of {n}"] for n in ("1 process", "2 processes"))
    assert values["TD3", "two processes to one"] == two / one
    assert speed.complete(rows[0], "one run")["metric"] == "rows of 1 process @16"


def test_events_are_those_asked_for_and_the_same_again(tmp_path):
    from pyarrow import parquet

    tables = []
    for name in "ab":
        speed_processes.write_events(tmp_path / name, 1000, n_files=3)
        tables.append(parquet.read_table(tmp_path / name))
    assert tables[0].num_rows == 1000 and tables[0].equals(tables[1])
    assert set(tables[0]["reward"].to_pylist()) == {1.0, 2.0, 3.0, 4.0, 5.0}
