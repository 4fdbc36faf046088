"""The pages as a site (mkdocs.yml, `make docs`): README.md is its first page, and a link to a file
outside of docs/, which the site does not have, becomes the file's path."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
MERMAID = "assets/mermaid.min.js"  # npm's; the theme would load it from elsewhere
_HOME = "index.md"
_LINK = re.compile(r"\[([^\]]*)\]\((\.\./)?([^):#\s]+)([^)\s]*)\)")

_log = get_plugin_logger(__name__)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, _HOME, abs_src_path=str(ROOT / "README.md")))
    mermaid = ROOT / ".local/mermaid/mermaid.min.js"
    if mermaid.exists():
        files.append(File.generated(config, MERMAID, abs_src_path=str(mermaid)))
    else:
        _log.warning("no diagrams: %s is missing; run: make docs", mermaid.relative_to(ROOT))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def link(m: re.Match[str]) -> str:
        text, up, path, anchor = m.groups()
        at_root = page.file.src_uri == _HOME
        if not (at_root or up):
            return m.group()
        if at_root and path.startswith("docs/"):
            return f"[{text}]({path.removeprefix('docs/')}{anchor})"
        if not (ROOT / path).exists():
            _log.warning("%s: there is no %s", page.file.src_uri, path)
        return text if path.endswith(text) else f"{text} (`{path}`)"

    return _LINK.sub(link, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if 'class="mermaid"' not in html:
        return html
    return f'{html}<script src="{MERMAID}"></script>'
