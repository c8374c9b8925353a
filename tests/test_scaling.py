"""The plan for many GPUs: against a count by hand, and as the page has it."""

import pytest

from benchmarks import scaling


def test_the_tables_of_the_page_are_what_the_script_computes() -> None:
    page = scaling.PAGE.read_text("utf-8")
    rows, summary = scaling.plan(scaling.parser().parse_args([]))
    assert scaling.with_tables(page, rows, summary) == page, "python -m benchmarks.scaling --write"

    # `base` on 16 GPUs, by hand
    row = next(r for r in rows if (r["recipe"], r["GPUs"]) == ("base", 16))
    size, share = summary["base_gradient_megabytes"] * 1e6, 2 * 15 / 16
    hops = 2 * 4  # up and down a tree of 16
    sending = share * size / 300e9 + -(-size // (25 * 2**20)) * hops * 5e-6
    assert row["fast: sending ms"] == pytest.approx(1e3 * sending)
    compute = 32_768 * summary["base_megaflops_per_token"] * 1e6 / (989e12 * 0.45)
    last = share * 25 * 2**20 / 300e9 + hops * 5e-6
    seen = last + hops * (5e-6 + 3 * 50e-6)
    assert sending < 2 / 3 * compute
    assert row["fast: efficiency"] == pytest.approx(compute / (compute + seen))
