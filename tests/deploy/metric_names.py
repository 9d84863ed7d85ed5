"""The metrics that the daemon has, by the one place where it registers them. The smoke test holds the list against what a
running daemon serves."""

import re

import templates

SOURCES = templates.ROOT / "src"
# A call of src/metrics/register.rs's Registrar.
REGISTERED = re.compile(r'\bmake\s*\.\w+\(\s*"([a-z_]+)"')


def all_names():
    paths = [SOURCES / "metrics.rs", *sorted((SOURCES / "metrics").glob("*.rs"))]
    names = {f"turnstiled_{name}" for path in paths for name in REGISTERED.findall(path.read_text())}
    assert len(names) > 40, f"the metrics are registered otherwise now: {names}"
    return names
