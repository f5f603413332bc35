project = "glance-repl-mw release notes"
author = "The glance-repl-mw contributors"
copyright = author
extensions = ["openstackdocstheme", "reno.sphinxext"]
html_theme = "openstackdocs"
openstackdocs_auto_name = False
openstackdocs_pdf_link = False
