from pathlib import Path

import pytest

from vedette.contract.errors import ConfigError
from vedette_training import recipe as recipes
from vedette_training.recipe import SHIPPED

VALID = """
name: boiler
detector: {kind: lstm}
history:
  device: {column: device}
  time: {field: ts}
  label: {column: label}
features:
  - {kind: number, name: temperature}
window: {steps: 3}
split: {by: device, train: 0.5, calibrate: 0.25}
threshold: {probability: 0.5}
"""


def fault_in(tmp_path: Path, old: str, new: str) -> str:
    assert old in VALID
    path = tmp_path / "boiler.yaml"
    path.write_text(VALID.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        recipes.load(str(path))
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED.glob("*.yaml")))
def test_shipped_recipe_is_found_by_its_bare_name(name: str) -> None:
    assert recipes.load(name).name == name


def test_shipped_recipes_hold_no_paths() -> None:
    assert all(recipes.load(path.stem).history.files == () for path in SHIPPED.glob("*.yaml"))


def test_unknown_bare_name_is_told_what_there_is() -> None:
    with pytest.raises(ConfigError, match="cold-chain-pca, fridge-isolation-forest, fridge-lstm, fridge-lstm-notebook, login"):
        recipes.load("fridge")


def test_recipe_that_is_like_another_says_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "boiler.yaml").write_text(VALID)
    (tmp_path / "kettle.yaml").write_text("like: boiler.yaml\nname: kettle\nwindow: {stride: 2}\n")
    boiler, kettle = recipes.load(str(tmp_path / "boiler.yaml")), recipes.load(str(tmp_path / "kettle.yaml"))
    assert kettle.name == "kettle"
    assert (kettle.window.steps, kettle.window.stride) == (1, 2)  # a key is replaced as a whole
    assert kettle.split == boiler.split


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("like: itself.yaml", "like: expected"),
        ("like: [a]", "like: expected"),
        ("like: kettel", 'like: no recipe "kettel"'),
        ("like: away.yaml", "away.yaml: No such file"),
        ("like: list.yaml", "like: list.yaml is no recipe"),
        ("like: cold-chain-lstm\nwindow: {step: 3}", 'window.step: unknown key; did you mean "steps"?'),
    ],
)
def test_recipe_that_is_like_nothing_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "list.yaml").write_text("[1]")
    (tmp_path / "itself.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        recipes.load(str(tmp_path / "itself.yaml"))
    assert fault in str(caught.value)


def test_split_has_no_default(tmp_path: Path) -> None:
    assert (
        fault_in(tmp_path, "split: {by: device, train: 0.5, calibrate: 0.25}", "") == "boiler.yaml: split: missing, and it has no default"
    )


def test_unknown_key_names_file_and_key(tmp_path: Path) -> None:
    assert fault_in(tmp_path, "steps", "step") == 'boiler.yaml: window.step: unknown key; did you mean "steps"?'


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("kind: lstm", "kind: isolation_forest, tree: 5", 'detector.tree: unknown key; did you mean "trees"?'),
        ("kind: number, name", "kind: number, maximun: 5, name", 'features[0].maximun: unknown key; did you mean "maximum"?'),
        ("by: device", "by: devices", "split.by: expected time, device or random, got 'devices'"),
        ("{probability: 0.5}", "{probability: 1.5}", "threshold.probability: expected float < 1.0, got 1.5"),
    ],
)
def test_fault_in_a_key_says_what_may_stand_there(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert fault_in(tmp_path, old, new) == f"boiler.yaml: {fault}"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("by: device", "by: random", "random is for windows of one step"),
        ("  label: {column: label}\n", "", "lstm learns from labels"),
        ("kind: lstm", "kind: isolation_forest", "isolation_forest gives no probability"),
        ("{probability: 0.5}", "{probability: 0.5, quantile: 0.9}", "give one of alerts_per_day, quantile and probability"),
        ("calibrate: 0.25", "calibrate: 0.5", "must leave something for the test"),
        ("{field: ts}", "{columns: [date, time]}", "either field and unit, or columns and format"),
        ("{column: device}", "{}", "give either column or name"),
    ],
)
def test_contradiction_in_a_recipe_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    fault = fault_in(tmp_path, old, new)
    assert fault.startswith("boiler.yaml: ")
    assert words in fault
