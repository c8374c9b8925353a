"""Commands that inform and convert."""

from __future__ import annotations

from rich.console import Console

from electra.cli.app import app


@app.command
def doctor() -> None:
    """Show what this machine has, what will be used, and what is missing."""
    from electra.doctor import doctor as run_doctor

    run_doctor(Console())
