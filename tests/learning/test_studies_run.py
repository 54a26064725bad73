"""Every study runs at a small scale, so that none is found broken when it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from schemas.loop_file import STABILIZERS
from studies.shop_recipe import VARIANTS, replace_section

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_recipe_of_the_shop() -> None:
    command = [sys.executable, "-m", "studies.shop_recipe", "--quick"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for variant in VARIANTS:
        assert f"| {variant} | " in printed


@pytest.mark.slow
def test_the_stabilizers() -> None:
    command = [sys.executable, "-m", "studies.stabilizers", "--quick"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for stabilizer in STABILIZERS:
        assert printed.count(f"| {stabilizer} | ") == 2  # at both click rates


def test_a_section_of_the_results_is_replaced_alone() -> None:
    text = "# Results\n\nWords.\n\n## A\n\nold\n\n## B\n\nkept\n"
    assert replace_section(text, "A", "new") == "# Results\n\nWords.\n\n## A\n\nnew\n\n## B\n\nkept\n"
    assert replace_section(text, "C", "added").endswith("## B\n\nkept\n\n## C\n\nadded\n")
