"""A pipeline is tested without an engine: stages are functions, and the graph is known."""

from pathlib import Path

import pytest
from ci.flow import Pipeline

from shop_ci import check_prices, pipeline


@pytest.mark.parametrize("price", ["", "free", "0", "-1.00", "9.999"])
def test_a_line_without_a_sensible_price_is_found(price: str) -> None:
    found = list(check_prices("prices/x.csv", f"article,name,price\n1,a,1.00\n2,b,{price}\n"))
    assert [(each.place.line, each.rule) for each in found if each.place] == [(3, "price")]


def test_the_shops_own_lists_have_no_faults() -> None:
    for path in (Path(__file__).parents[1] / "prices").glob("*.csv"):
        assert list(check_prices(path.name, path.read_text())) == []


def test_no_page_is_made_before_the_quality_gate() -> None:
    p: Pipeline = pipeline(source=None)  # type: ignore[arg-type]
    assert p.graph.ancestors("page") == {"prices", "lint", "quality"}
