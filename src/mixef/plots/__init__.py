"""Pictures, drawn with matplotlib, which is loaded when the first one is asked for.

A function here takes what a result or a fit holds, and axes; what has to be computed first is a
function of inference.
"""

from __future__ import annotations

from mixef.late import modules_of

__getattr__ = modules_of(__name__)
