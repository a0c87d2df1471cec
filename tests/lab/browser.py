"""A real browser without a window, which runs a script in a page and answers."""

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell"
SECONDS = 30  # of the page's own clock, which does not wait: most runs take one

# What the script may call, and what it says where it fails.
BEFORE = """
<script>
function report(answer) {
  const place = document.createElement("pre");
  place.id = "reported";
  place.textContent = JSON.stringify({
    ...answer,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
  });
  document.body.append(place);
}
addEventListener("error", (event) => report({error: event.message}));
addEventListener("unhandledrejection", (event) => report({error: `${event.reason}`}));
</script>
"""


def find() -> str | None:
    """Returns the browser in $ADAMX_BROWSER, else the first on the PATH."""
    chosen = os.environ.get("ADAMX_BROWSER")
    return chosen or next(filter(None, map(shutil.which, NAMES)), None)


needs_browser = pytest.mark.skipif(
    find() is None, reason="no chromium on the PATH or in $ADAMX_BROWSER"
)


def run(page_html: str, script: str, *flags: str) -> dict:
    """Opens a page, offline, and runs a script in it once it is loaded.

    Args:
      page_html: The page; its content security policy must allow inline scripts.
      script: JavaScript, the body of an async function, that ends by calling
        `report({...})` with what JSON can hold.
      *flags: Of the browser, beside its own.

    Returns:
      What was reported, and `requests`: the addresses that the page asked for.

    Raises:
      AssertionError: The page or the script failed, or reported nothing.
    """
    after = f"<script>addEventListener('load', async () => {{{script}\n}});</script>"
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "page.html")
        text = re.sub("<head>", lambda head: head[0] + BEFORE, page_html, count=1)
        page.write_text(text + after, encoding="utf-8")
        command = [
            str(find()),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder}/profile",
            "--window-size=1200,900",
            f"--virtual-time-budget={1000 * SECONDS}",
            *flags,
            "--dump-dom",
            page.as_uri(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    found = re.search(r'<pre id="reported">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, f"no report from the page: {done.stdout[-500:]} {done.stderr[-500:]}"
    answer = json.loads(html.unescape(found[1]))
    assert "error" not in answer, answer["error"]
    return answer
