"""Looks at every page of the built site as readers do, and lists what is wrong with it.

    python scripts/look_at_site.py site                      # exit status 1 if anything is wrong
    python scripts/look_at_site.py site --shots DIR --only theory     # pictures of some pages

The files alone tell of broken links and anchors, pictures without alternative text and pages
without a title. A browser (Chromium or Chrome from the system, without a window) then opens each
page at two widths, light and dark, and tells of errors on the console, pages wider than the window,
and text or pictures that cannot be read. Links to other sites are not followed.
"""

import argparse
import os
import shutil
import sys
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WIDTHS = (1280, 390)
HEIGHT = 900
# WCAG's smallest contrast of text (level AA).
CONTRAST = 4.5


class Page(HTMLParser):
    """What a page's file says: its title, names to link to, links, and pictures without words."""

    def __init__(self, html):
        super().__init__()
        self.title, self.anchors, self.links, self.silent = "", {"", "top"}, [], []
        self._in_title = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag in ("a", "link") and values.get("href"):
            self.links.append(values["href"])
        elif tag in ("img", "script", "iframe") and values.get("src"):
            self.links.append(values["src"])
        if tag == "img" and not (values.get("alt") or "").strip():
            self.silent.append(values.get("src"))
        self._in_title = tag == "title" and not self.title

    def handle_data(self, data):
        if self._in_title:
            self.title += data.strip()

    def handle_endtag(self, tag):
        self._in_title = False


def read(site):
    """Return the pages of a site by their paths, slashes forward."""
    paths = sorted(site.rglob("*.html"))
    inside = [p for p in paths if "_static" not in p.relative_to(site).parts]
    return {p.relative_to(site).as_posix(): Page(p.read_text(encoding="utf-8")) for p in inside}


def wrong_in_files(site, pages):
    """Yield what the files alone tell."""
    for path, page in pages.items():
        if not page.title:
            yield path, "has no title"
        for source in page.silent:
            yield path, f"the picture {source} has no alternative text"
        for link in sorted(set(page.links)):
            url = urlsplit(link)
            if url.scheme or url.netloc or link.startswith(("#!", "?")):
                continue
            target, anchor = urldefrag(urljoin(path, link))
            target, anchor = unquote(urlsplit(target).path), unquote(anchor)
            target += "index.html" if target.endswith("/") or not target else ""
            if not (site / target).is_file():
                yield path, f"links to {link}, which is not there"
            elif target in pages and anchor not in pages[target].anchors:
                yield path, f"links to {link}, where nothing has that name"


#: Run in a page: what is wider than the window, and what cannot be read on its background.
LOOK = """async (least) => {
  const wrong = [];
  const root = document.documentElement;
  const scrolls = e => {
    for (let a = e.parentElement; a && a !== document.body; a = a.parentElement)
      if (getComputedStyle(a).overflowX !== 'visible') return true;
    return false;
  };
  const name = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') +
    (e.classList.length ? '.' + [...e.classList].join('.') : '') +
    ' "' + (e.textContent || '').trim().replace(/\\s+/g, ' ').slice(0, 40) + '"';
  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.body.querySelectorAll('*')].filter(
      e => e.getBoundingClientRect().right > root.clientWidth + 1 && !scrolls(e));
    wrong.push(`is ${root.scrollWidth} pixels wide in a window of ${root.clientWidth}: ` +
      wide.slice(-2).map(name).join('; '));
  }
  const rgba = c => { const v = c.match(/[\\d.]+/g).map(Number);
    return v.length < 4 ? [...v, 1] : v; };
  const over = (top, below) => top.slice(0, 3).map((v, i) => v * top[3] + below[i] * (1 - top[3]));
  const ground = e => {
    const layers = [];
    for (let a = e; a; a = a.parentElement) {
      const c = rgba(getComputedStyle(a).backgroundColor);
      layers.push(c);
      if (c[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 :
    ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05); };
  const seen = new Set();
  const texts = document.createTreeWalker(document.querySelector('article, main, body'),
    NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !e.checkVisibility({opacityProperty: true,
      visibilityProperty: true}) || !e.getClientRects().length) continue;
    if (e.closest('svg, mjx-assistive-mml, script, style, .headerlink, button')) continue;
    const style = getComputedStyle(e), below = ground(e);
    const found = contrast(over(rgba(style.color), below), below);
    const key = style.color + below + e.closest('[class]')?.className;
    if (found < least && !seen.has(key)) {
      seen.add(key);
      wrong.push(`has text of contrast ${found.toFixed(1)}: ${name(e)}`);
    }
  }
  for (const img of document.querySelectorAll('article img, main img')) {
    if (!img.getClientRects().length) continue;
    img.loading = 'eager';
    try { await img.decode(); } catch { wrong.push(`cannot show ${img.src}`); continue; }
    const canvas = document.createElement('canvas');
    canvas.width = Math.min(img.naturalWidth, 400);
    canvas.height = Math.round(img.naturalHeight * canvas.width / img.naturalWidth);
    const pen = canvas.getContext('2d');
    const below = ground(img);
    pen.fillStyle = `rgb(${below.join(',')})`;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(img, 0, 0, canvas.width, canvas.height);
    const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const corner = [...data.slice(0, 3)];
    let readable = 0;
    for (let i = 0; i < data.length; i += 4)
      readable += contrast([data[i], data[i + 1], data[i + 2]], corner) >= least;
    if (readable < 0.0005 * data.length / 4)
      wrong.push(`shows ${img.src.split('/').pop()} without contrast to its ground`);
  }
  return wrong;
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *args):
        pass


@contextmanager
def served(site):
    """Serve a folder while the block runs; the value is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def browser_on_this_machine():
    """Return the path of a browser, or None."""
    names = (os.environ.get("BROWSER_FOR_SITE") or "", *BROWSERS)
    return next((found for name in names if name and (found := shutil.which(name))), None)


def wrong_in_browser(playwright, executable, site, paths, shots=None):
    """Yield what a reader would see of pages at two widths, light and dark."""
    browser = playwright.chromium.launch(
        executable_path=executable, args=["--no-sandbox", "--disable-dev-shm-usage"]
    )
    page = browser.new_page(viewport={"width": WIDTHS[0], "height": HEIGHT})
    said = []
    page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda r: said.append(f"could not load {r.url}"))
    with served(site) as address:
        page.route(
            "**/*", lambda r: r.continue_() if r.request.url.startswith(address) else r.abort()
        )
        for path in paths:
            said.clear()
            page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
            page.emulate_media(color_scheme="light")
            page.goto(address + path, wait_until="load")
            page.evaluate("() => window.MathJax?.startup?.promise")
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                for width in WIDTHS:
                    page.set_viewport_size({"width": width, "height": HEIGHT})
                    for found in page.evaluate(LOOK, CONTRAST):
                        yield path, f"{found} ({width} pixels, {scheme})"
                    if shots:
                        name = (
                            f"{path.removesuffix('.html').replace('/', '.')}-{width}-{scheme}.png"
                        )
                        page.screenshot(path=shots / name, full_page=True)
            for error in dict.fromkeys(said):
                yield path, f"console: {error}"
    browser.close()


def main():
    """Look, and say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--only", default="", help="part of the paths of the pages to open")
    parser.add_argument("--shots", type=Path, help="folder for pictures of the pages")
    options = parser.parse_args()
    pages = read(options.site)
    if not pages:
        sys.exit(f"{options.site} has no pages: build the site first")
    wrong = list(wrong_in_files(options.site, pages))
    paths = [path for path in pages if options.only in path]
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    executable = browser_on_this_machine()
    if executable is None or sync_playwright is None:
        what = "playwright" if executable else "browser (chromium)"
        print(f"no {what} here: looked at the files of {len(pages)} pages only")
    else:
        if options.shots:
            options.shots.mkdir(parents=True, exist_ok=True)
        with sync_playwright() as playwright:
            wrong += wrong_in_browser(playwright, executable, options.site, paths, options.shots)
        print(f"opened {len(paths)} pages at {WIDTHS} pixels, light and dark")
    for path, what in wrong:
        print(f"{path}: {what}")
    print(f"{len(wrong)} things wrong on {len(pages)} pages")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
