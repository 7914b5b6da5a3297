import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from vedette.contract.features import Categories, Category, Elapsed, FeatureSpec, Number, TimeOfDay, Value
from vedette.contract.windows import WindowSpec
from vedette_training import audit, dataset, history
from vedette_training import recipe as recipes
from vedette_training.audit import Finding
from vedette_training.findings import LOOKED_AT
from vedette_training.history import History
from vedette_training.recipe import Recipe, Split

MINUTES, DEVICES = 600, 12
TIME = Split(by="time", train=0.6, calibrate=0.1)
RANDOM = Split(by="random", train=0.6, calibrate=0.1)
FEATURES: FeatureSpec = (Number(name="temperature", minimum=-40, maximum=60), Category(name="valve"))


def clean(count: int = MINUTES * DEVICES, *, seed: int = 5) -> History:
    """Twelve devices for ten hours; anomalies of eight minutes are a degree warmer, which no single reading tells for sure."""
    rng = np.random.default_rng(seed)
    position = np.arange(count)
    device, minute = position % DEVICES, position // DEVICES
    anomalous = (minute + 37 * device) % 100 < 8
    temperatures = (4 + rng.normal(size=count) + anomalous).tolist()
    valves = np.where(rng.random(count) < 0.2, "open", "shut").tolist()
    values: list[tuple[Value, ...]] = list(zip(temperatures, valves, strict=True))
    return History([f"d{d}" for d in device], (60.0 * minute + device).tolist(), values, anomalous, ())


def with_column(read: History, index: int, column: Sequence[Value]) -> History:
    values = [(*row[:index], value, *row[index + 1 :]) for row, value in zip(read.values, column, strict=True)]
    return read._replace(values=values)


def find(read: History, recipe: Recipe, split: Split = TIME, **changes: Any) -> tuple[Finding, ...]:
    steps = 1 if split.by == "random" else 3
    wanted = msgspec.structs.replace(recipe, **{"split": split, "window": WindowSpec(steps=steps), "features": FEATURES, **changes})
    return audit.audit(read, wanted, dataset.divide(read, split))


def kinds(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.kind: finding.severity for finding in findings}


@pytest.mark.parametrize("by", ["time", "device", "random"])
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_found_in_clean_data(recipe: Recipe, by: str, seed: int) -> None:
    split = msgspec.convert({"by": by, "train": 0.6, "calibrate": 0.1, "seed": seed}, Split)
    assert kinds(find(clean(seed=seed), recipe, split)) == ({"random_split": "warning"} if by == "random" else {})


def test_table_says_that_nothing_was_found_and_what_was_looked_at() -> None:
    shown = audit.table(())
    assert shown.startswith("data audit: nothing found\n")
    assert LOOKED_AT in " ".join(shown.split())


def test_worst_is_first_and_the_headline_is_of_the_first_artefact(recipe: Recipe) -> None:
    read = clean()
    read = with_column(read, 0, read.anomalous.astype(float).tolist())
    findings = find(read, recipe, RANDOM)
    ranks = [["artefact", "warning", "note"].index(finding.severity) for finding in findings]
    assert ranks == sorted(ranks)
    headline = audit.headline(findings)
    assert headline is not None
    assert headline.startswith("These results are an artefact: temperature: tells the label all alone, ROC AUC 1.00 on the test part")
    assert "\n" not in headline
    assert audit.table(findings).splitlines()[0].startswith("data audit: 1 artefact, ")
    assert "  ARTEFACT  temperature: " in audit.table(findings)
    assert audit.headline(find(clean(), recipe, RANDOM)) is None


# Leaks


@pytest.mark.parametrize("by", [TIME, RANDOM, Split(by="device", train=0.6, calibrate=0.2)])
def test_number_that_tells_the_label_is_an_artefact(recipe: Recipe, by: Split) -> None:
    read = clean()
    # By no limit: anomalies are in the middle of what is normal.
    noise = np.random.default_rng(1).normal(size=len(read.times))
    middle = with_column(read, 0, np.where(read.anomalous, noise / 3, noise + np.sign(noise) * 2).tolist())
    assert kinds(find(middle, recipe, by))["leak"] == "artefact"


def test_number_that_nearly_tells_the_label_is_a_warning(recipe: Recipe) -> None:
    read = clean()
    read = with_column(read, 0, [v[0] + 1.0 * a for v, a in zip(read.values, read.anomalous, strict=True)])
    (finding,) = find(read, recipe)
    assert (finding.kind, finding.severity, finding.subject) == ("leak", "warning", "temperature")


def test_number_that_is_missing_where_it_matters_tells_the_label(recipe: Recipe) -> None:
    read = clean()
    outside = with_column(read, 0, [999.0 if a else v[0] for v, a in zip(read.values, read.anomalous, strict=True)])
    assert kinds(find(outside, recipe))["leak"] == "artefact"


def test_category_tells_the_label_as_the_model_sees_it(recipe: Recipe) -> None:
    read = clean()
    told = with_column(read, 1, ["on" if a else "off" for a in read.anomalous])
    assert kinds(find(told, recipe))["leak"] == "artefact"
    padded = with_column(read, 1, ["on" if a else "on " for a in read.anomalous])
    assert "leak" not in kinds(find(padded, recipe))
    raw = (FEATURES[0], Category(name="valve", text="raw"))
    assert kinds(find(padded, recipe, features=raw))["leak"] == "artefact"


def test_list_tells_the_label_by_a_member(recipe: Recipe) -> None:
    read = clean()
    told = with_column(read, 1, [["admin", "x"] if a else ["x"] for a in read.anomalous])
    assert kinds(find(told, recipe, features=(FEATURES[0], Categories(name="roles"))))["leak"] == "artefact"


def test_hour_that_tells_the_label_is_found(recipe: Recipe) -> None:
    read = clean(MINUTES * 6 * DEVICES)
    times = np.array(read.times)
    read = read._replace(anomalous=times % 86400 < 6 * 3600 + 900)
    read = read._replace(values=[(*row, time) for row, time in zip(read.values, read.times, strict=True)])
    found = [finding.subject for finding in find(read, recipe, features=(*FEATURES, TimeOfDay())) if finding.kind == "leak"]
    assert found == ["time_of_day"]


def test_time_since_the_previous_reading_that_tells_the_label_is_found(recipe: Recipe) -> None:
    read = clean()
    read = read._replace(values=[(*row, time) for row, time in zip(read.values, read.times, strict=True)])
    features = (*FEATURES, Elapsed())
    assert find(read, recipe, features=features) == ()
    early = np.arange(len(read.times)) // DEVICES % 9 == 4  # each ninth reading comes 20 s early
    early_times = (np.array(read.times) - 20.0 * early).tolist()
    (finding,) = find(read._replace(times=early_times, anomalous=early), recipe, features=features)
    assert (finding.kind, finding.severity, finding.subject) == ("leak", "artefact", "elapsed")


def test_category_leak_is_found_where_training_is_all_normal(recipe: Recipe) -> None:
    read = clean()
    late = read._replace(anomalous=read.anomalous & (np.array(read.times) > 0.75 * 60 * MINUTES))
    told = with_column(late, 1, ["on" if a else "off" for a in late.anomalous])
    (finding,) = [finding for finding in find(told, recipe) if finding.kind == "leak"]
    assert finding.severity == "artefact"
    assert "random half" in finding.text
    assert "leak" not in kinds(find(late, recipe))


def test_devices_of_one_class_each_are_an_artefact_unless_they_are_split(recipe: Recipe) -> None:
    read = clean()
    sick = read._replace(anomalous=np.array([int(name[1:]) % 3 == 0 for name in read.devices]))
    (finding,) = [finding for finding in find(sick, recipe) if finding.kind == "leak"]
    assert (finding.severity, finding.subject) == ("artefact", "device")
    assert "12 of 12 devices have one class only" in finding.text
    assert "leak" not in kinds(find(sick, recipe, Split(by="device", train=0.5, calibrate=0.2)))


def test_few_anomalies_make_no_leak(recipe: Recipe) -> None:
    read = clean()
    few = np.zeros(len(read.times), dtype=np.bool_)
    few[[100, 200, 300, 7000, 7010]] = True
    told = with_column(read._replace(anomalous=few), 1, ["on" if a else "off" for a in few])
    assert "leak" not in kinds(find(told, recipe))


# Text


def test_capitals_that_carry_the_label_are_named(recipe: Recipe) -> None:
    read = clean()
    told = with_column(read, 1, ["open" if i % 5 == 0 else "Shut" if a else "shut" for i, a in enumerate(read.anomalous)])
    (finding,) = find(told, recipe)
    assert (finding.kind, finding.severity) == ("text_variants", "note")
    shut = np.arange(len(read.times)) % 5 > 0
    anomalous = int((read.anomalous & shut).sum())
    assert finding.text.startswith(
        f'"Shut" (always anomalous, {anomalous:,} rows), "shut" (never, {int(shut.sum()) - anomalous:,} rows): the capitals'
    )


def test_variant_that_is_only_likelier_is_found_by_what_it_tells(recipe: Recipe) -> None:
    read = clean()
    rng = np.random.default_rng(1)
    padded = read.anomalous | (rng.random(len(read.times)) < 0.15)
    told = with_column(read, 1, ["open" if i % 5 == 0 else "shut " if p else "shut" for i, p in enumerate(padded)])
    assert kinds(find(told, recipe)) == {"text_variants": "note"}


def test_variants_that_carry_no_label_are_nothing_when_folded_and_a_note_when_raw(recipe: Recipe) -> None:
    read = clean()
    mixed = with_column(read, 1, [("Shut", "shut", "shut ", "open")[i % 4] for i in range(len(read.times))])
    assert find(mixed, recipe) == ()
    (finding,) = find(mixed, recipe, features=(FEATURES[0], Category(name="valve", text="raw")))
    assert (finding.kind, finding.severity) == ("text_variants", "note")


def test_member_of_a_list_that_differs_in_spaces_is_found(recipe: Recipe) -> None:
    read = clean()
    told = with_column(read, 1, [["a"] if i % 5 == 0 else ["a", "b " if a else "b"] for i, a in enumerate(read.anomalous)])
    assert kinds(find(told, recipe, features=(FEATURES[0], Categories(name="roles")))) == {"text_variants": "note"}


# Time


def in_two_recordings(days_between: float) -> History:
    """Normal readings first, anomalous ones from two thirds on."""
    read = clean()
    later = np.arange(len(read.times)) >= 0.8 * len(read.times)
    times = np.array(read.times) + later * 86400.0 * days_between
    return read._replace(anomalous=later, times=times.tolist())


def test_two_recordings_are_an_artefact_where_the_test_has_both(recipe: Recipe) -> None:
    (finding,) = [finding for finding in find(in_two_recordings(20), recipe) if finding.kind == "classes_apart_in_time"]
    assert finding.severity == "artefact"
    assert "normal readings are all of 1970-01-01 00:00 to 1970-01-01 07:59" in finding.text
    assert "anomalous ones all of 1970-01-21 08:00 to" in finding.text


def test_what_ran_until_it_failed_is_a_warning(recipe: Recipe) -> None:
    assert kinds(find(in_two_recordings(0), recipe))["classes_apart_in_time"] == "warning"


def test_readings_drawn_at_random_from_two_periods_are_an_artefact(recipe: Recipe) -> None:
    assert kinds(find(in_two_recordings(0), recipe, RANDOM))["classes_apart_in_time"] == "artefact"


def test_alternating_days_of_one_class_each_are_found(recipe: Recipe) -> None:
    read = clean()
    day = np.arange(len(read.times)) // 720
    times = np.array(read.times) + 86400.0 * day
    apart = read._replace(times=times.tolist(), anomalous=day % 2 == 1)
    (finding,) = [finding for finding in find(apart, recipe) if finding.kind == "classes_apart_in_time"]
    assert "no day holds both" in finding.text
    assert "classes_apart_in_time" not in kinds(find(apart._replace(anomalous=read.anomalous), recipe))


def test_sparse_readings_are_not_taken_for_classes_apart(recipe: Recipe) -> None:
    read = clean()
    hourly = read._replace(devices=["d"] * len(read.times), times=[7200.0 * i for i in range(len(read.times))])
    assert "classes_apart_in_time" not in kinds(find(hourly, recipe, features=FEATURES))


def test_split_at_random_is_warned_of(recipe: Recipe) -> None:
    (finding,) = find(clean(), recipe, RANDOM)
    assert "says little about tomorrow" in finding.text


# Duplicates


@pytest.mark.parametrize(("share", "severity"), [(0.004, "note"), (0.05, "warning"), (0.8, "artefact")])
def test_readings_on_both_sides_are_counted(recipe: Recipe, share: float, severity: str) -> None:
    read = clean()
    twice = np.flatnonzero(np.random.default_rng(2).random(len(read.times)) < share)
    order = [*range(len(read.times)), *twice.tolist()]
    doubled = History(
        [read.devices[i] for i in order], [read.times[i] for i in order], [read.values[i] for i in order], read.anomalous[order], ()
    )  # fmt: skip
    parts = dataset.divide(doubled, RANDOM)
    learnt = {(doubled.devices[i], doubled.times[i], doubled.values[i]) for i in np.flatnonzero(parts["train"])}
    crossing = sum((doubled.devices[i], doubled.times[i], doubled.values[i]) in learnt for i in np.flatnonzero(parts["test"]))
    (finding,) = [finding for finding in find(doubled, recipe, RANDOM) if finding.kind == "duplicates"]
    assert finding.severity == severity
    assert finding.text.startswith(f"{crossing:,} of {int(parts['test'].sum()):,} readings")


def test_file_that_was_given_twice_is_noted_where_no_copy_crosses(recipe: Recipe) -> None:
    read = clean()
    twice = History(read.devices * 2, read.times * 2, read.values * 2, np.tile(read.anomalous, 2), ())
    found = {finding.kind: finding for finding in find(twice, recipe)}
    assert found["duplicates"].severity == "note"
    assert found["duplicates"].text.startswith("7,200 readings (50.0 %) stand more than once")


def test_coarse_values_that_repeat_are_no_duplicates(recipe: Recipe) -> None:
    read = clean()
    coarse = with_column(read, 0, [round(v[0]) for v in read.values])  # type: ignore[arg-type] # because a value may be text
    assert find(coarse, recipe) == ()
    (finding,) = [finding for finding in find(coarse, recipe, RANDOM) if finding.kind == "duplicates"]
    assert finding.severity == "note"
    assert "coarse sensors repeat themselves" in finding.text


# Values and drift


def test_drift_says_which_column_and_how_far(recipe: Recipe) -> None:
    read = clean()
    moved = np.array(read.times) > 0.7 * 60 * MINUTES
    drifted = with_column(read, 0, [v[0] + 3 * m for v, m in zip(read.values, moved, strict=True)])
    (finding,) = [finding for finding in find(drifted, recipe) if finding.kind == "drift"]
    assert (finding.severity, finding.subject) == ("warning", "temperature")
    assert "mean 4.03 -> 6.99, 3.0 training standard deviations" in finding.text


def test_drift_of_a_category_says_which_value(recipe: Recipe) -> None:
    read = clean()
    moved = np.array(read.times) > 0.7 * 60 * MINUTES
    drifted = with_column(read, 1, ["open" if m else v[1] for v, m in zip(read.values, moved, strict=True)])
    (finding,) = [finding for finding in find(drifted, recipe) if finding.kind == "drift"]
    assert '"open" 19.4 % -> 99.9 %' in finding.text


def test_devices_that_differ_by_nature_are_no_drift_but_one_unlike_all_others_is(recipe: Recipe) -> None:
    read = clean()
    split = Split(by="device", train=0.6, calibrate=0.2, seed=1)
    tested = {read.devices[i] for i in np.flatnonzero(dataset.divide(read, split)["test"])}
    own = {f"d{k}": float(k % 4) * 3 for k in range(DEVICES)}
    varied = with_column(read, 0, [v[0] + own[d] for v, d in zip(read.values, read.devices, strict=True)])  # type: ignore[operator] # because a value may be text
    assert "drift" not in kinds(find(varied, recipe, split))
    strange = with_column(read, 0, [v[0] + 20 * (d in tested) for v, d in zip(read.values, read.devices, strict=True)])  # type: ignore[operator] # because a value may be text
    assert kinds(find(strange, recipe, split))["drift"] == "warning"


def test_missing_and_out_of_range_values_are_counted(recipe: Recipe) -> None:
    read = clean()
    holes = with_column(read, 0, [math.nan if i % 3 == 0 else 99.0 if i % 50 == 1 else v[0] for i, v in enumerate(read.values)])
    found = {finding.kind: finding for finding in find(holes, recipe)}
    assert found["missing"].text.startswith("missing in 33.")
    outside = sum(row[0] == 99.0 for row in holes.values)
    assert found["out_of_range"].text.startswith(f"{outside} values (1.3 %) are outside -40 to 60")
    assert found["out_of_range"].severity == "warning"


def test_value_that_training_never_saw_is_named(recipe: Recipe) -> None:
    read = clean()
    stuck = with_column(read, 1, ["stuck" if i > 6500 and i % 3 == 0 else v[1] for i, v in enumerate(read.values)])
    (finding,) = find(stuck, recipe)
    assert (finding.kind, finding.severity, finding.subject) == ("unseen_category", "warning", "valve")
    assert '"stuck"' in finding.text
    named = (FEATURES[0], Category(name="valve", values=("open", "shut", "stuck")))
    assert find(stuck, recipe, features=named) == ()


def test_constant_column_is_a_note_unless_the_test_varies(recipe: Recipe) -> None:
    read = clean()
    still = with_column(with_column(read, 0, [4.0] * len(read.times)), 1, ["shut"] * len(read.times))
    assert sorted((f.subject, f.kind, f.severity) for f in find(still, recipe)) == [
        ("temperature", "constant", "note"), ("valve", "constant", "note"),
    ]  # fmt: skip
    moves = with_column(still, 0, [5.0 if i > 7000 and i % 9 == 0 else 4.0 for i in range(len(read.times))])
    assert {f.subject: f.severity for f in find(moves, recipe) if f.kind == "constant"} == {"temperature": "warning", "valve": "note"}
    empty = with_column(still, 0, [math.nan] * len(read.times))
    assert "without one usable value" in next(f.text for f in find(empty, recipe) if f.kind == "constant" and f.subject == "temperature")


# Classes and devices


@pytest.mark.parametrize("anomalous", [True, False])
def test_test_of_one_class_is_warned_of(recipe: Recipe, anomalous: bool) -> None:
    read = clean()
    tested = dataset.divide(read, TIME)["test"]
    one = read._replace(anomalous=np.where(tested, anomalous, read.anomalous))
    assert kinds(find(one, recipe))["one_class"] == "warning"


def test_training_of_one_class_is_warned_of_where_it_learns_from_labels(recipe: Recipe) -> None:
    read = clean()
    one = read._replace(anomalous=read.anomalous & dataset.divide(read, TIME)["test"])
    assert [f.subject for f in find(one, recipe) if f.kind == "one_class"] == ["training part"]
    forest = recipes.load("cold-chain-isolation-forest")
    assert "one_class" not in kinds(find(one, recipe, detector=forest.detector, threshold=forest.threshold))


def test_history_without_labels_is_not_judged_by_them(recipe: Recipe) -> None:
    forest = recipes.load("cold-chain-isolation-forest")
    read = clean()
    unlabelled = msgspec.structs.replace(recipe.history, label=None)
    read = read._replace(anomalous=np.zeros_like(read.anomalous))
    assert find(read, recipe, detector=forest.detector, threshold=forest.threshold, history=unlabelled) == ()


@pytest.mark.parametrize(("episodes", "length", "severity"), [(1, 8, "warning"), (2, 20, "note")])
def test_few_anomalies_are_counted(recipe: Recipe, episodes: int, length: int, severity: str) -> None:
    read = clean()
    few = read.anomalous & ~dataset.divide(read, TIME)["test"]
    for episode in range(episodes):
        begin = DEVICES * (MINUTES - 30 * (episode + 1))
        few[begin : begin + DEVICES * length : DEVICES] = True
    found = {f.kind: f for f in find(read._replace(anomalous=few), recipe)}
    assert found["few_anomalies"].severity == severity
    assert found["few_anomalies"].text.startswith(f"{episodes * length} anomalous readings in {episodes} episode")


def test_devices_with_too_few_readings_gaps_and_clocks_that_go_back_are_counted(recipe: Recipe) -> None:
    read = clean()
    times = np.array(read.times)
    times[6000:] += 7200  # a silence of every device
    times[3000], times[3012] = times[3012], times[3000]  # two readings of one device change places
    odd = read._replace(times=times.tolist(), devices=["lone", *read.devices[1:]])
    found = {f.kind: f for f in find(odd, recipe)}
    assert found["short_devices"].text.startswith("1 of 13 never have 3 readings")
    assert found["short_devices"].severity == "note"
    assert found["late"].text.startswith("1 readings (<0.1 %) are older")
    assert found["gaps"].text.startswith("12 silences of more than 3600 s, the longest 2.0 h")
    back = read._replace(times=[t - 1e6 * (i > 3600) for i, t in enumerate(read.times)])
    assert any("clocks go back by more than 3600 s 12 times" in f.text for f in find(back, recipe))


def test_same_seed_finds_the_same(recipe: Recipe) -> None:
    read = clean(100_000)
    moved = with_column(read, 0, [v[0] + i / 40_000 for i, v in enumerate(read.values)])  # type: ignore[operator] # because a value may be text
    assert find(moved, recipe) == find(moved, recipe)
    assert "drift" in kinds(find(moved, recipe))


# Real files


def audit_file(recipe: Recipe, file: Path) -> tuple[Finding, ...]:
    read = history.read(recipe, [file])
    return audit.audit(read, recipe, dataset.divide(read, recipe.split))


def test_fridge_file_taken_raw_is_named_an_artefact_of_its_spaces(fridge_60k: Path) -> None:
    recipe = recipes.load("fridge-lstm")
    raw = msgspec.structs.replace(recipe, features=(recipe.features[0], Category(name="temp_condition", text="raw")))
    findings = audit_file(raw, fridge_60k)
    spaces = next(finding for finding in findings if finding.kind == "text_variants")
    assert (spaces.severity, spaces.subject) == ("artefact", "temp_condition")
    assert spaces.text.startswith('"high" (always anomalous, 13,939 rows), "high " and "high  " (never, 19,621 rows); "low" (always')
    assert "the spaces give the label away" in spaces.text
    assert kinds(findings)["leak"] == "artefact"
    assert (audit.headline(findings) or "").startswith("These results are an artefact: temp_condition: ")


def test_fridge_file_taken_folded_still_has_its_two_periods_and_copies(fridge_60k: Path) -> None:
    findings = audit_file(recipes.load("fridge-lstm"), fridge_60k)
    found = kinds(findings)
    assert (found["text_variants"], found["classes_apart_in_time"], found["duplicates"]) == ("note", "artefact", "artefact")
    assert "leak" not in found
    assert "closed here by folding" in next(finding.text for finding in findings if finding.kind == "text_variants")


def test_simulated_cold_chain_is_no_false_alarm(tmp_path: Path, simulate_cold_chain: Callable[[Path], Path]) -> None:
    file = simulate_cold_chain(tmp_path)
    for name in ("cold-chain-lstm", "cold-chain-isolation-forest"):
        assert {finding.severity for finding in audit_file(recipes.load(name), file)} <= {"note"}


@pytest.fixture
def simulate_cold_chain() -> Callable[[Path], Path]:
    from vedette.simulate.command import simulate

    def run(folder: Path) -> Path:
        assert simulate(["cold-chain", "--devices", "12", "--duration", "3d", "--fault-rate", "1", "-o", str(folder / "x.csv")]) == 0
        return folder / "x.csv"

    return run
