"""Reads the newest price list and writes a page."""

import csv
import html
import sys
from pathlib import Path


def page(prices: Path) -> str:
    """The newest list in the folder, as HTML."""
    newest = max(prices.glob("*.csv"))
    with newest.open(encoding="utf-8", newline="") as file:
        rows = [
            f"<tr><td>{html.escape(row['name'])}</td><td>{html.escape(row['price'])}</td></tr>"
            for row in csv.DictReader(file)
        ]
    title = f"Prices of {newest.stem}"
    return f"<!doctype html><title>{title}</title><h1>{title}</h1><table>{''.join(rows)}</table>\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(Path(sys.argv[1])), encoding="utf-8")
