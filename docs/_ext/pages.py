"""Pictures that cells draw: shown at the size in which they were drawn, and never without words.

A cell says in its metadata what its picture shows, for those who do not see it::

    ---
    mystnb: {image: {alt: "Reaction times of 18 subjects by day, with a line each"}}
    ---
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

logger = logging.getLogger(__name__)


class Pictures(SphinxPostTransform):
    """Give each picture of a cell its width on the page, and refuse one without words."""

    default_priority = 900  # after the outputs that fit the builder were chosen

    def run(self, **options: Any) -> None:
        """Go through the pictures of a page."""
        for image in self.document.findall(nodes.image):
            if "jupyter_execute" not in image["uri"]:
                continue
            if not image.get("alt", "").strip():
                logger.warning(
                    "a picture has no words for those who do not see it: give its cell "
                    'the metadata mystnb: {image: {alt: "..."}}',
                    location=(self.env.docname, image.line),
                )
            if image["uri"].endswith(".png") and "width" not in image:
                image["width"] = f"{css_width(Path(self.app.srcdir, image['uri'])):.0f}px"


def css_width(png: Path) -> float:
    """Return the width of a PNG file in a page's pixels, of which 96 are an inch."""
    content = png.read_bytes()
    (pixels,) = struct.unpack(">I", content[16:20])
    at = content.find(b"pHYs")
    if at < 0:
        return float(pixels)
    (per_metre,) = struct.unpack(">I", content[at + 4 : at + 8])
    return pixels / (per_metre * 0.0254) * 96.0


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_post_transform(Pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
