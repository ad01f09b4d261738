"""The README's examples print what the README shows."""

import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHOWN = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
EXAMPLES = list(zip(CODE, SHOWN, strict=True))


@pytest.mark.parametrize(("code", "shown"), EXAMPLES, ids=["lmer", "glmer", "means"])
def test_an_example_prints_the_output_beside_it(code, shown):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    lines = [line.rstrip() for line in printed.getvalue().rstrip().splitlines()]
    assert lines == shown.rstrip().splitlines()
