"""Write docs/benchmarks.md and the README's figures from benchmarks/results/*.json.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- figures: python -m benchmarks.tables -->", "<!-- end of figures -->"


def main() -> None:
    """Write both."""
    (ROOT / "docs" / "benchmarks.md").write_text(benchmarks_page(), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_figures(readme.read_text(encoding="utf-8")), encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    """A result by the name of its script."""
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def benchmarks_page() -> str:
    """All results, each with its command, commit and machine."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks.tables` from `benchmarks/results/`; what was learned is",
        "in [lab_log.md](lab_log.md).",
    ]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        result = load(path.stem)
        machine = result["machine"]
        lines += [
            "",
            f"## {path.stem.replace('_', ' ')}",
            "",
            f"    {result['command']}",
            "",
            f"Commit {result['commit']}; {machine['processor']}, {machine['cores']} cores, "
            f"torch {machine['torch']}, transformers {machine['transformers']}.",
            "",
            *_table(result["rows"]),
            "",
            *(f"- {name}: {_shown(value)}" for name, value in result["summary"].items()),
        ]
    return "\n".join(lines) + "\n"


def with_figures(readme: str) -> str:
    """The README with the block between the markers made anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{readme_figures()}\n{END}{after}"


def readme_figures() -> str:
    """What `electra quickstart` reached."""
    result = load("quickstart")
    lines = ["| accuracy, three seeds | mean | each |", "|---|---|---|"]
    names = {
        "pretrained": "pretrained for five minutes (`tiny`)",
        "masked LM alone": "masked LM alone for as long",
        "from scratch": "the same network from random weights",
        "TF-IDF": "TF-IDF and logistic regression",
    }
    for row in result["rows"]:
        each = ", ".join(f"{100 * a:.1f}" for a in row["test_accuracy"] or [])
        lines.append(f"| {names[row['contestant']]} | {100 * row['test_mean']:.1f} | {each} |")
    machine = result["machine"]
    return "\n".join(
        [
            f"Measured on {machine['cores']} cores of an {machine['processor']} (which of 12",
            "packages a passage is from, names blanked, 16 labelled passages each, in percent):",
            "",
            *lines,
        ]
    )


def _table(rows: list[dict[str, Any]]) -> list[str]:
    head = "| " + " | ".join(name.replace("_", " ") for name in rows[0]) + " |"
    body = ["| " + " | ".join(_shown(v) for v in row.values()) + " |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return str(value)


if __name__ == "__main__":
    main()
