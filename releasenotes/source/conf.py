# SPDX-License-Identifier: Apache-2.0
project = "glance-repl-mw release notes"
author = "The glance-repl-mw contributors"
copyright = author
extensions = ["openstackdocstheme", "reno.sphinxext"]
html_theme = "openstackdocs"
html_theme_options = {"analytics_tracking_code": "", "display_badge": False, "root_title": project}
templates_path = ["../../doc/source/_templates"]
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
