"""`python -m cluster.doctor [--json]`: runs the checks and prints what each found, and what to do.

Exit code: 0 if nothing fails, 6 if something does.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from cluster.preflight import Check, CheckState, fault, run_checks
from orchestrator.errors import EnvironmentFault, SettingsError
from orchestrator.settings import load_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks; return the exit code."""
    parser = argparse.ArgumentParser(prog="orchestrator doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments = parser.parse_args(argv)
    checks = examine()
    sys.stdout.write(as_json(checks) if arguments.json else as_text(checks))
    return EnvironmentFault.exit_code if has_failed(checks) else 0


def examine() -> tuple[Check, ...]:
    """Return what the checks found; settings that cannot be read are the only finding there can be."""
    try:
        settings = load_settings()
    except SettingsError as error:
        return (fault("settings", error),)
    return run_checks(settings)


def has_failed(checks: Sequence[Check]) -> bool:
    """Return whether any check failed; warnings do not count."""
    return any(check.state is CheckState.FAIL for check in checks)


def as_json(checks: Sequence[Check]) -> str:
    """Return the findings as one line of JSON."""
    data = {"is_ok": not has_failed(checks), "checks": [asdict(check) for check in checks]}
    return json.dumps({"schema_version": 1, "data": data}) + "\n"


def as_text(checks: Sequence[Check]) -> str:
    """Return the findings for a reader, one paragraph each."""
    width = max(len(check.name) for check in checks)
    return "".join(_paragraph(check, width=width) for check in checks)


def _paragraph(check: Check, *, width: int) -> str:
    lines = [f"{check.state:<4}  {check.name:<{width}}  {check.what}"]
    lines += [f"{'':<{width + 6}}  {line}" for line in (check.why, check.remedy) if line]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
