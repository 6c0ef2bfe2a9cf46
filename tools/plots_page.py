"""Write ``.dvc/plots.html``, the page of ``dvc plots show``: ``python tools/plots_page.py``.

DVC's own page loads Vega from the internet. Without a network it shows no plot and no message. This page
contains Vega, so it needs no network. npm fetches Vega; the digests below decide what is written.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / ".dvc" / "plots.html"
SCRIPTS = {
    "vega@5.33.0": "a71f14828abacac82fbe8adb07ce65cbb82561d8eef188053c4a1c09e0164dcb",
    "vega-lite@5.23.0": "58c27358e26f2d319cf62f45bc17a4c8362f08645001df2ec8d341eee4097c7f",
    "vega-embed@6.29.0": "12d02acfbe3ec59ef9a37dd4822a2e04e2961b5bbb671bbe661d2221715b99da",
}
"""SHA-256 of the minified script in each npm package."""
TEMPLATE = """\
<!DOCTYPE html>
<!-- Written by tools/plots_page.py. DVC replaces the two names in braces at the end. -->
<html lang="en">
<head>
<meta charset="utf-8">
{refresh_tag}
<title>Plots</title>
<style>
body { font-family: system-ui, sans-serif; margin: 1rem; }
body > div { display: inline-block; vertical-align: top; margin: 0 1rem 1rem 0; max-width: 100%; }
body > div img { max-width: 100%; }
.failed { color: #a00; white-space: pre-wrap; max-width: 40rem; }
</style>
SCRIPTS
<script>
"use strict";
{
  const draw = window.vegaEmbed;
  const waiting = [];
  const fail = (element, why) => {
    const text = document.createElement("p");
    text.className = "failed";
    text.textContent = why;
    element.append(text);
  };
  window.vegaEmbed = (place, spec) => {
    const plot = draw(place, spec, { actions: { source: false, compiled: false, editor: false } }).then(
      () => true,
      (error) => {
        fail(document.querySelector(place), "This plot cannot be drawn: " + error);
        return false;
      },
    );
    waiting.push(plot);
    return plot;
  };
  addEventListener("load", async () => {
    const images = [...document.images];
    for (const image of images) {
      if (!image.naturalWidth) fail(image.parentElement, "This image cannot be loaded: " + image.src);
    }
    const drawn = (await Promise.all(waiting)).filter(Boolean).length;
    const loaded = images.filter((image) => image.naturalWidth).length;
    const all = waiting.length + images.length;
    document.getElementById("drawn").textContent = drawn + loaded + " of " + all + " plots are drawn.";
  });
}
</script>
</head>
<body>
<p id="drawn">The plots are not drawn yet. They need JavaScript.</p>
{plot_divs}
</body>
</html>
"""


def main() -> int:
    """Write the page; return the exit code."""
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for package, digest in SCRIPTS.items():
            name, version = package.split("@")
            subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
            with tarfile.open(Path(folder) / f"{name}-{version}.tgz") as archive:
                script = _member(archive, f"package/build/{name}.min.js")
                licence = _member(archive, "package/LICENSE").decode().strip()
            found = hashlib.sha256(script).hexdigest()
            if found != digest:
                print(f"{package} differs.\nexpected: {digest}\nfound: {found}", file=sys.stderr)
                return 1
            parts.append(f"<!-- {package}\n{licence}\n-->\n<script>{script.decode()}</script>")
    PAGE.write_text(TEMPLATE.replace("SCRIPTS", "\n".join(parts)), encoding="utf-8")
    return 0


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise ValueError(f"{name} is no regular file")
    return file.read()


if __name__ == "__main__":
    sys.exit(main())
