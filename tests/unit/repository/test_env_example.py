"""`.env.example` and `Settings` name the same settings with the same defaults, and each says what it is."""

from __future__ import annotations

import re
from pathlib import Path

from dotenv import dotenv_values

from taskflow.settings import Settings

EXAMPLE = Path(__file__).parents[3] / ".env.example"


def test_both_name_the_same_settings() -> None:
    names = re.findall(r"^TASKFLOW_(\w+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(names) == sorted(name.upper() for name in Settings.model_fields)


def test_every_value_in_the_example_is_the_default() -> None:
    example = Settings(_env_file=EXAMPLE)
    for name, field in Settings.model_fields.items():
        assert getattr(example, name) == field.default, name


def test_no_value_is_missing_by_a_slip_of_the_parser() -> None:
    values = dotenv_values(EXAMPLE)
    assert values["TASKFLOW_PORT"] == "8000"
    assert values["TASKFLOW_NUM_WORKERS"] == "4"
    assert None not in values.values()


def test_every_setting_is_explained_with_its_unit() -> None:
    lines = EXAMPLE.read_text().splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("TASKFLOW_"):
            continue
        comment = lines[number - 1]
        assert re.match(r"# \w", comment), line
        name = line.partition("=")[0].lower()
        for unit in ("seconds", "bytes", "days"):
            assert not name.endswith(f"_{unit}") or f"[{unit}]" in comment, line
