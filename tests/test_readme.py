"""The README's example prints what the README shows."""

import contextlib
import io
import re
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_prints_the_output_beside_it():
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    shown = re.search(r"```text\n(.*?)```", README, re.DOTALL)[1]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), {})
    lines = [line.rstrip() for line in printed.getvalue().rstrip().splitlines()]
    assert lines == shown.rstrip().splitlines()
