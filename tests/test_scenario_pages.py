"""The page that shows the scenarios, and what draws its pictures."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import attrs
import pytest
from scenarios.named import NAMED
from scenarios.plots import PAGE, PICTURES, drawn, replaced, slug
from scenarios.scenario import Scenario


@pytest.mark.parametrize("scenario", NAMED, ids=str)
def test_every_scenario_has_its_picture_on_the_page(scenario: Scenario) -> None:
    """It is there, it is well-formed, and it loads nothing from elsewhere."""
    name = f"{slug(scenario)}.svg"

    assert f"]({PICTURES.name}/{name})" in PAGE.read_text(encoding="utf-8")
    picture = (PICTURES / name).read_text(encoding="utf-8")
    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert "href" not in picture


def test_a_picture_is_drawn_anew_the_same() -> None:
    """A short run of ours above one of retrying alone."""
    scenario = attrs.evolve(NAMED[0], count=60)

    assert drawn(scenario) == drawn(scenario)
    assert len(ET.fromstring(drawn(scenario))) > 20


def test_parts_of_the_page_are_replaced_between_their_marks() -> None:
    """What stands around them stays."""
    page = "before\n<!-- it: begin -->\nold\n<!-- it: end -->\nafter\n"

    assert replaced(page, "it", ["new", "lines"]) == "before\n<!-- it: begin -->\nnew\nlines\n<!-- it: end -->\nafter\n"
    with pytest.raises(SystemExit):
        replaced(page, "other", [])
