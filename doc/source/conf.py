# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ext"))

project = "glance-repl-mw"
author = "The glance-repl-mw contributors"
copyright = author
extensions = [
    "openstackdocstheme",
    "oslo_config.sphinxext",
    "oslo_policy.sphinxext",
    "sphinx.ext.graphviz",
    "sphinxcontrib.svgbob",
    "man_references",
    "openapi_page",
]
html_theme = "openstackdocs"
html_theme_options = {
    "analytics_tracking_code": "",
    "display_badge": False,
    "root_title": project,
    "sidebar_search": True,
}
# The theme is that of openstack.org, with its licence of texts, menus and search.
templates_path = ["_templates"]
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
graphviz_output_format = "svg"
man_pages = [
    (
        "cli/glance-repl-manage",
        "glance-repl-manage",
        "manage the replication of images",
        author,
        1,
    ),
    (
        "cli/glance-repl-status",
        "glance-repl-status",
        "tell before an upgrade whether this release can take over",
        author,
        1,
    ),
    (
        "cli/glance-repl-writer",
        "glance-repl-writer",
        "send the uploads in the spool of this node to the targets",
        author,
        8,
    ),
]
