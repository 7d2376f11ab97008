"""The kinds of fault and the scenarios that there are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from faults.errors import Errors
from faults.kill import Kill
from faults.links import LinkFault
from faults.model import Kind, Scenario, is_scenario
from faults.space import Space

__all__ = ["KINDS", "SCENARIOS"]

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (Kill(), Errors(), Space(), LinkFault())}


def _scenarios() -> dict[str, Scenario]:
    found: dict[str, Scenario] = {}
    for path in sorted((Path(__file__).parent / "scenarios").glob("*.py")):
        module = importlib.import_module(f"faults.scenarios.{path.stem}")
        for scenario in vars(module).values():
            if is_scenario(scenario) and found.setdefault(scenario.name, scenario) is not scenario:
                raise ValueError(f"two scenarios are called {scenario.name}")
    return found


SCENARIOS: Mapping[str, Scenario] = _scenarios()
