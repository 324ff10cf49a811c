"""Sphinx: the site of `make docs`, made of the repository's Markdown files."""

project = "dekctl"
html_title = "dekctl"
extensions = ["myst_parser"]
# A page may link to any other Markdown file of the repository, so all of them are pages.
include_patterns = ["*.md", "docs/*.md", "terraform/**.md", "examples/**.md"]
exclude_patterns = ["**/.*", "**/node_modules"]
root_doc = "docs/index"
html_additional_pages = {"index": "redirect.html"}
templates_path = ["site"]
myst_heading_anchors = 3
smartquotes = False  # --env stays what it is
html_theme = "furo"
html_copy_source = False
html_show_copyright = False
